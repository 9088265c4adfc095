"""Three-way merges of what commits hold, and the conflicts they find."""

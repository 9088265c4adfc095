"""Three-way merges of the content of commits, and their conflicts."""

"""The data shelf: columns of samples by key."""

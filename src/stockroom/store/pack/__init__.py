"""One pack: its layout, its files, how it is written, opened, filled and kept open. Knows no index."""

"""One pack: its layout and files, and how it is written, opened, filled and kept open. Knows no index."""

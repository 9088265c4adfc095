"""What a commit holds: records, snapshots, their differences and merges. Knows no files, no refs store and no locks."""

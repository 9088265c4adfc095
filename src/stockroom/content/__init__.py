"""The content of commits: records, snapshots, differences and merges. Knows no files, no refs store and no locks."""

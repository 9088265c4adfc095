"""Writers: their workspaces, lease and claim."""

"""Writers: their workspace, sessions, lease and claim."""

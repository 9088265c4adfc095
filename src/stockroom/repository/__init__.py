"""The only place where bytes and history meet: opening, workspaces, HEAD, differences, verification."""

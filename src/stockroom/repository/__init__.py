"""The only place where bytes and history meet: opening, write sessions, HEAD, differences, verification."""

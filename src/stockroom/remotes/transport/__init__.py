"""How files travel to and from a remote: one protocol, a folder, object stores and web servers."""

"""Transfers between a repository and its remotes: transports, push, fetch, clone, and lazy reading.

A remote is a folder, or a prefix on an object store. It holds immutable packs, bundles of metadata and numbered ref
states. This layer moves bytes and refs. It prints nothing, and loads `obstore` only if a store needs it.
"""

"""Other places that hold a repository's packs and history: transports, push, fetch, clone, and lazy reading.

A remote is a prefix on an object store, or a folder: immutable packs, bundles of metadata, numbered ref states. This
layer moves bytes and refs between it and a repository. It prints nothing; `obstore` is loaded when a store needs it.
"""

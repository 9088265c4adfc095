"""The upkeep of a store: verifying, mending, repacking and removing packs."""

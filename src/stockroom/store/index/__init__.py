"""The locations of chunks: the catalog of packs, the location tables, and the search through both."""

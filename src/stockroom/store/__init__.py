"""BYTES: chunks in packs, found by digest. Knows no names and no history.

A tensor's raw bytes are cut into chunks (`chunking`), stored under their BLAKE3 digest as rows of packs (`pack_writer`,
`pack`), and found through location tables (`location_index`). `TensorStore` reads, `TensorWriter` writes.
"""

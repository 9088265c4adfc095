"""BYTES: chunks in packs, found by digest. Knows no names and no history.

A tensor's raw bytes are cut into chunks (`chunking`), kept under their BLAKE3 digest as rows of packs
(`pack_writer`, `pack`), and found again through location tables (`location_index`). `TensorStore` reads,
`TensorWriter` writes. Each is loaded when it is asked for.
"""

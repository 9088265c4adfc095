"""Makes a whole pack a sparse one again, so that its disk is given back. What readers have open stays as it is."""

from __future__ import annotations

from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.store.pack.manifest import MANIFEST_NAME
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_cache import locate_pack
from stockroom.store.pack.place_lock import exchange
from stockroom.store.pack.shard import index_nbytes
from stockroom.store.pack.sparse_pack import build_sparse_pack
from stockroom.store.pack.zarr_metadata import METADATA_NAME
from stockroom.store.upkeep.recovery import session_folder


def hollow_out(root: Path, digest: PackDigest) -> None:
    """Put a sparse folder, all absent, in the place of pack `digest` of the store in `root`.

    The folder changes places with the old one in one step, so that whoever opens the pack meets one or the other, and
    a kill leaves one or the other. The caller fills no unit of the pack meanwhile, and knows who can give it back.
    """
    target = locate_pack(root / "packs", digest)
    pack = Pack(target, digest)
    with session_folder(root / "tmp") as session:
        tail_nbytes = index_nbytes(pack.layout.count_blocks(pack.manifest.units))
        folder = build_sparse_pack(
            session,
            digest,
            pack.manifest,
            zarr_json=(target / METADATA_NAME).read_bytes(),
            chunks=(target / MANIFEST_NAME).read_bytes(),
            tail=bytes(pack.mapping[pack.mapped_nbytes - tail_nbytes :]),
        )
        exchange(folder, target)

"""Filling partial packs: only right bytes are written and marked, in every layout and codec, in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.forging import forge_block, forge_row
from tests.kit.limits import files_left

from stockroom.digest import PackDigest
from stockroom.errors import CorruptionError, UnreadableError
from stockroom.store.chunk_run import Stream
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_filler import PackFiller
from stockroom.store.pack.shard import encode_index
from stockroom.store.pack.sparse_pack import create_sparse_pack, hollow_out
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.verify import check_pack

KINDS = [(codec, ragged) for codec in ("raw", "zstd") for ragged in (False, True)]


def make_pack(root: Path, codec: str, ragged: bool) -> tuple[Path, PackDigest, bytes]:
    """A pack's folder, hollow, and what its shard held."""
    random = np.random.default_rng(7)
    store = TensorStore(root)
    writer = TensorWriter(store)
    stream = Stream("uint8", None if ragged else (5000,), codec)
    for _ in range(120):
        length = int(random.integers(40, 30_000)) if ragged else 5000
        row = np.repeat(random.integers(0, 256, length // 50 + 1, dtype=np.uint8), 50)[:length]
        writer.put_row(row.tobytes(), stream)
    writer.flush()
    writer.close()
    (digest,) = store.catalog.read_packs().values()
    directory = next(store.packs_directory.glob("*/*"))
    store.close()
    pack = Pack(directory, digest)
    whole = bytes(pack.mapping)
    hollow_out(root, digest)
    return directory, digest, whole


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{'ragged' if kind[1] else 'uniform'}")
def hollow(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, PackDigest, bytes]:
    return make_pack(tmp_path, *request.param)


def fill(filler: PackFiller, whole: bytes, units: np.ndarray, **options: int) -> np.ndarray:
    absent = filler.list_absent(units)
    plan = filler.plan_ranges(absent, **({"gap_nbytes": 0, "max_nbytes": 1 << 20} | options))
    assert set(np.concatenate([span.units for span in plan] or [absent])) >= set(absent)
    bad = [filler.accept(span, whole[span.start : span.stop]) for span in plan]
    assert not any(len(units) for units in bad)
    return filler.record_present()


def test_filled_in_any_order_the_pack_is_the_same_file(hollow: tuple[Path, PackDigest, bytes]) -> None:
    directory, digest, whole = hollow
    filler = PackFiller(directory, digest)
    order = np.random.default_rng(3).permutation(filler.units)
    for start in range(0, len(order), 7):
        fill(filler, whole, order[start : start + 7], gap_nbytes=int(start) * 10)
        assert list(check_pack(directory).damage) == []
    assert not (directory / "present").exists()
    assert bytes(Pack(directory, digest).mapping) == whole


def test_a_wrong_byte_is_refused_wherever_it_is(hollow: tuple[Path, PackDigest, bytes]) -> None:
    directory, digest, whole = hollow
    filler = PackFiller(directory, digest)
    everything = np.arange(filler.units)
    for at in range(11, len(whole), len(whole) // 23):
        changed = bytearray(whole)
        changed[at] ^= 16
        for span in filler.plan_ranges(filler.list_absent(everything), gap_nbytes=0, max_nbytes=1 << 16):
            if span.start <= at < span.stop:
                bad = filler.accept(span, bytes(changed[span.start : span.stop]))
                covers = [u for u in span.units if filler._starts[u] <= at < filler._stops[u]]
                assert set(covers) <= set(bad.tolist())
                break
        filler.record_present()
        assert list(check_pack(directory).damage) == []
    fill(filler, whole, everything)
    assert bytes(Pack(directory, digest).mapping) == whole


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("part", [0, 0.4, 1])
def test_a_block_that_holds_other_bytes_is_refused(tmp_path: Path, ragged: bool, part: float) -> None:
    """Encoded as it should be, and of the right length: only the digests of its rows tell."""
    directory, digest, whole = make_pack(tmp_path, "zstd", ragged)
    filler = PackFiller(directory, digest)
    everything = np.arange(filler.units)
    block = int(part * (filler.units - 1))
    forged = bytearray(whole)
    start, stop = int(filler._starts[block]), int(filler._stops[block])
    size = filler.pack.layout.block_nbytes
    spans = [filler.pack.get_span(row) for row in range(filler.pack.rows)]
    at = next(start for start, nbytes in spans if block * size <= start <= (block + 1) * size - nbytes) - block * size
    forged[start:stop] = forge_block(filler.pack, whole[start:stop], at=at)
    plan = filler.plan_ranges(everything, gap_nbytes=0, max_nbytes=1)  # a block each
    bad = np.concatenate([filler.accept(span, bytes(forged[span.start : span.stop])) for span in plan]).tolist()
    assert block in bad
    assert len(bad) <= 4  # it, and those that share a row with it
    filler.record_present()
    assert list(check_pack(directory).damage) == []
    fill(filler, whole, everything)
    assert bytes(Pack(directory, digest).mapping) == whole


def test_blocks_that_overlap_in_a_remote_index_are_refused(tmp_path: Path) -> None:
    directory, digest, whole = make_pack(tmp_path, "zstd", True)
    pack = Pack(directory, digest)
    spans = pack.spans.copy()
    spans[1, 0] = spans[0, 0]
    shard = directory / pack.layout.shard_name
    index = encode_index(spans)
    with shard.open("r+b") as file:
        file.seek(len(whole) - len(index))
        file.write(index)
    with pytest.raises(CorruptionError, match="overlap"):
        PackFiller(directory, digest).plan_ranges(np.arange(3), gap_nbytes=0, max_nbytes=1 << 20)


@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize("at", [1 << 62, 0])
def test_rows_that_overlap_or_lie_outside_are_refused(tmp_path: Path, codec: str, at: int) -> None:
    """A row that is not where the order of rows says would escape its check."""
    directory, digest, _ = make_pack(tmp_path, codec, True)
    rows = Pack(directory, digest).rows
    manifest = bytearray((directory / "chunks").read_bytes())
    manifest[-16 * rows + 8 * 50 : -16 * rows + 8 * 51] = at.to_bytes(8, "little")  # the offset of a row
    (directory / "chunks").unlink()
    (directory / "chunks").write_bytes(manifest)
    with pytest.raises(CorruptionError, match=r"overlap|outside"):
        PackFiller(directory, digest).plan_ranges(np.arange(3), gap_nbytes=0, max_nbytes=1 << 20)


def test_an_answer_cut_short_is_refused(hollow: tuple[Path, PackDigest, bytes]) -> None:
    directory, digest, whole = hollow
    filler = PackFiller(directory, digest)
    (span, *_) = filler.plan_ranges(np.arange(filler.units), gap_nbytes=0, max_nbytes=1 << 16)
    assert len(filler.accept(span, whole[span.start : span.stop - 1])) == len(span.units)
    assert len(filler.record_present()) == 0


def test_units_that_no_such_pack_has_are_refused(hollow: tuple[Path, PackDigest, bytes]) -> None:
    directory, digest, _ = hollow
    filler = PackFiller(directory, digest)
    for units in ([-1], [filler.units]):
        with pytest.raises(CorruptionError, match="expected units below"):
            filler.list_absent(np.array(units))


def test_ranges_read_through_small_gaps_but_not_through_what_is_taken(tmp_path: Path) -> None:
    directory, digest, _ = make_pack(tmp_path, "raw", False)
    filler = PackFiller(directory, digest)
    units = np.array([0, 2, 4, 50])
    plan = filler.plan_ranges(units, gap_nbytes=5000, max_nbytes=1 << 20)
    assert [(span.start, span.stop, span.units.tolist()) for span in plan] == [
        (0, 25_000, [0, 1, 2, 3, 4]),
        (250_000, 255_000, [50]),
    ]
    taken = np.zeros(filler.units, bool)
    taken[3] = True
    plan = filler.plan_ranges(units, gap_nbytes=5000, max_nbytes=1 << 20, taken=taken)
    assert [span.units.tolist() for span in plan] == [[0, 1, 2], [4], [50]]
    plan = filler.plan_ranges(np.arange(10), gap_nbytes=0, max_nbytes=20_000)
    assert [span.units.tolist() for span in plan] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert filler.trim(np.arange(3, 9), 20_000).tolist() == [3, 4, 5, 6, 7]
    assert filler.trim(np.arange(3, 8), 20_000).tolist() == [3, 4, 5, 6, 7]
    assert filler.trim(np.arange(5, 7), 20_000).tolist() == []
    assert filler.trim(np.arange(filler.units - 1, filler.units), 20_000).tolist() == [filler.units - 1]


@settings(max_examples=30)
@given(st.data())
def test_any_plan_covers_what_was_asked(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    codec, ragged = data.draw(st.sampled_from(KINDS))
    directory, digest, whole = _cached_pack(tmp_path_factory, codec, ragged)
    filler = PackFiller(directory, digest)
    units = np.unique(data.draw(st.lists(st.integers(0, filler.units - 1), max_size=40)))
    plan = filler.plan_ranges(
        units.astype(np.int64),
        gap_nbytes=data.draw(st.integers(0, 100_000)),
        max_nbytes=data.draw(st.integers(1, 300_000)),
    )
    covered = np.concatenate([span.units for span in plan]) if plan else units
    assert len(np.unique(covered)) == len(covered)
    assert set(units) <= set(covered)
    assert all(0 <= span.start < span.stop <= len(whole) for span in plan)
    filler.close()


_packs: dict[tuple[str, bool], tuple[Path, PackDigest, bytes]] = {}


def _cached_pack(factory: pytest.TempPathFactory, codec: str, ragged: bool) -> tuple[Path, PackDigest, bytes]:
    if (codec, ragged) not in _packs:
        _packs[codec, ragged] = make_pack(factory.mktemp("pack"), codec, ragged)
    return _packs[codec, ragged]


@pytest.mark.parametrize("settled", ["each", "both at once"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_row_whose_blocks_come_in_different_requests_is_checked_before_anybody_sees_it(
    tmp_path: Path, order: int, settled: str
) -> None:
    directory, digest, whole = make_pack(tmp_path, "zstd", True)
    filler = PackFiller(directory, digest)
    forged, blocks, row = forge_row(filler.pack, whole)
    for block in blocks[::order]:
        (span,) = filler.plan_ranges(np.array([block]), gap_nbytes=0, max_nbytes=1)
        assert not len(filler.accept(span, forged[span.start : span.stop]))  # alone, nothing is wrong with it
        if settled == "each":
            filler.record_present()
    filler.record_present()
    assert list(check_pack(directory).damage) == []
    assert len(Pack(directory, digest).list_absent(np.array([row])))
    (span,) = filler.plan_ranges(np.array(blocks), gap_nbytes=0, max_nbytes=1 << 30)
    assert set(filler.accept(span, forged[span.start : span.stop])) == set(blocks)  # together, they are refused
    fill(filler, whole, np.arange(filler.units))
    assert bytes(Pack(directory, digest).mapping) == whole


def test_a_row_begun_before_a_restart_is_checked_with_its_last_block(tmp_path: Path) -> None:
    directory, digest, whole = make_pack(tmp_path, "zstd", True)
    filler = PackFiller(directory, digest)
    forged, blocks, row = forge_row(filler.pack, whole)
    for block in blocks:
        filler = PackFiller(directory, digest)
        (span,) = filler.plan_ranges(np.array([block]), gap_nbytes=0, max_nbytes=1)
        filler.accept(span, forged[span.start : span.stop])
        filler.record_present()
        filler.close()
    assert len(Pack(directory, digest).list_absent(np.array([row])))
    assert list(check_pack(directory).damage) == []


def test_a_whole_pack_that_cannot_be_looked_at_now_is_not_replaced_by_a_sparse_one(tmp_path: Path) -> None:
    directory, digest, whole = make_pack(tmp_path, "raw", True)
    filler = PackFiller(directory, digest)
    fill(filler, whole, np.arange(filler.units))
    filler.close()
    files = {name: (directory / name).read_bytes() for name in ("zarr.json", "chunks")}

    def create() -> None:
        create_sparse_pack(
            tmp_path / "packs",
            tmp_path / "tmp",
            digest,
            zarr_json=files["zarr.json"],
            chunks=files["chunks"],
            index=b"",
            where="remote",
        )

    for left in (0, 1):
        with files_left(left), pytest.raises(UnreadableError):
            create()
    create()
    assert bytes(Pack(directory, digest).mapping) == whole
    assert Pack(directory, digest).presence is None

"""Partial packs: absent units are noticed, asked for one by one, and never mistaken for damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stockroom.digest import PackDigest
from stockroom.errors import AbsentDataError, MalformedRecordError, ReadOnlyError
from stockroom.store.fetcher import Wanted
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.verify import check_pack


class MirrorFetcher:
    """Fills units in from a whole copy of the packs, and remembers what it was asked for."""

    def __init__(self, packs_directory: Path) -> None:
        self.packs_directory = packs_directory
        self.whole: dict[PackDigest, bytes] = {}
        self.asked: list[tuple[PackDigest, list[int]]] = []

    def hollow_out(self, directory: Path) -> Pack:
        """Keep a pack's bytes aside, leave a file of holes and an empty presence map in its place."""
        pack = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
        shard = directory / pack.layout.shard_name
        whole = self.whole[pack.digest] = shard.read_bytes()
        body_nbytes = len(whole) if pack.is_raw else int(pack.spans[-1].sum())
        with shard.open("r+b") as file:
            file.truncate(0)
            file.truncate(len(whole))
            file.seek(body_nbytes)
            file.write(whole[body_nbytes:])
        units = pack.rows if pack.is_raw else len(pack.spans)
        PresenceMap.create(directory, units)
        return pack

    def fetch(self, wanted: Wanted, *, is_bulk: bool = False) -> None:
        for pack, units in wanted:
            self._fill(pack, units)

    why = "this fetcher brings all"

    def hint(self, wanted: Wanted, *, goes_on: bool = False) -> None:
        raise AssertionError("nobody hints here")

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _fill(self, pack: PackDigest, units: np.ndarray) -> None:
        self.asked.append((pack, units.tolist()))
        opened = Pack(locate_pack(self.packs_directory, pack), pack)
        spans = [opened.get_span(unit) if opened.is_raw else opened.spans[unit].tolist() for unit in units.tolist()]
        with (opened.directory / opened.layout.shard_name).open("r+b") as file:
            for offset, nbytes in spans:
                file.seek(offset)
                file.write(self.whole[pack][offset : offset + nbytes])
        count = opened.rows if opened.is_raw else len(opened.spans)
        PresenceMap.open(opened.directory, count, writable=True).add(units)


@pytest.fixture
def fetcher(store: TensorStore) -> MirrorFetcher:
    return MirrorFetcher(store.packs_directory)


def test_reading_an_absent_chunk_names_the_pack_and_is_not_corruption(store, put, only_pack, fetcher, rows):
    digests = put(rows)
    pack = fetcher.hollow_out(only_pack())
    for read in (
        lambda: store.gather(store.locate(digests, 1000), 1000),
        lambda: store.read(int(store.locate(digests)[5])),
        lambda: store.view(int(store.locate(digests)[5])),
        lambda: store.read_many(store.locate(digests[:3])),
        lambda: store.ensure_present(digests),
    ):
        with pytest.raises(AbsentDataError, match=pack.digest.hex()[:12]) as caught:
            read()
        assert caught.value.pack == pack.digest.hex()


@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize("layout", ["uniform", "ragged"])
def test_only_the_units_of_the_rows_asked_for_are_fetched_and_only_once(
    store, put, only_pack, fetcher, rows, codec, layout
):
    given = rows if layout == "uniform" else [row[: 100 + 3 * i].tobytes() for i, row in enumerate(rows)]
    digests = put(given, codec=codec)
    wanted = np.array([5, 3, 110, 3])
    whole = fetcher.hollow_out(only_pack())
    units = np.unique(wanted) if codec == "raw" else whole.list_units(np.unique(wanted))
    assert 0 < len(units) < (300 if codec == "raw" else len(whole.spans))
    store.fetcher = fetcher
    for _ in range(2):
        read = store.read_many(store.locate(digests[wanted]))
        assert [bytes(data) for data in read] == [bytes(given[row]) for row in wanted]
    assert fetcher.asked == [(whole.digest, units.tolist())]
    assert store.is_present(digests[wanted]).all()
    assert not store.is_present(digests[290:]).any()
    store.ensure_present(digests)
    assert store.is_present(digests).all()
    everything = store.read_many(store.locate(digests))
    assert [bytes(data) for data in everything] == [bytes(row) for row in given]


@pytest.mark.parametrize("codec", ["raw", "blosc"])
def test_a_gather_fetches_what_it_lacks_and_gives_the_right_rows(store, put, only_pack, fetcher, rows, codec):
    digests = put(rows, codec=codec)
    fetcher.hollow_out(only_pack())
    store.fetcher = fetcher
    order = np.random.default_rng(0).permutation(300)[:64]
    assert (store.gather(store.locate(digests[order], 1000), 1000) == rows[order]).all()
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()
    units = [unit for _, asked in fetcher.asked for unit in asked]
    assert len(units) == len(set(units))


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_absent_units_are_not_damage_but_a_flipped_present_one_is(store, put, only_pack, fetcher, rows, codec):
    digests = put(rows, codec=codec)
    pack = fetcher.hollow_out(only_pack())
    assert list(check_pack(pack.directory).damage) == []
    store.fetcher = fetcher
    store.ensure_present(digests[7:8])
    assert list(check_pack(pack.directory).damage) == []
    shard = pack.directory / pack.layout.shard_name
    data = bytearray(shard.read_bytes())
    data[7 * 1000 + 5 if codec == "raw" else int(pack.spans[0, 0]) + 5] ^= 1
    shard.write_bytes(data)
    assert [damage.where for damage in check_pack(pack.directory).damage] == [f"pack {pack.digest.hex()}"]


@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize("layout", ["uniform", "ragged"])
def test_a_row_is_absent_if_any_of_its_units_is(store, put, only_pack, fetcher, rows, codec, layout):
    given = rows if layout == "uniform" else [row[: 3 * i].tobytes() * (i % 7) for i, row in enumerate(rows)]
    put(given, codec=codec)
    fetcher.hollow_out(only_pack())
    for pack in store.iter_packs():
        units = pack.rows if codec == "raw" else len(pack.spans)
        here = np.random.default_rng(3).permutation(units)[: units // 2]
        presence = PresenceMap.open(pack.directory, units, writable=True)
        presence.add(here)
        each = [pack.list_units(np.array([row])).tolist() for row in range(pack.rows)]
        expected = [not set(needed) <= set(here.tolist()) for needed in each]
        wanted = np.random.default_rng(4).permutation(pack.rows)
        assert pack.mask_absent(wanted).tolist() == [expected[row] for row in wanted]
        assert pack.list_units(np.arange(pack.rows)).tolist() == sorted({unit for needed in each for unit in needed})
        presence.add(np.arange(units))
        assert not pack.mask_absent(wanted).any()


def test_marks_are_seen_by_every_open_map_and_counted(tmp_path):
    written = PresenceMap.create(tmp_path, 1001)
    seen = PresenceMap.open(tmp_path, 1001)
    units = np.array([1000, 0, 7, 8, 7], np.int64)
    assert seen.list_absent(units).tolist() == [0, 7, 8, 1000]
    written.add(units)
    assert seen.list_absent(np.array([0, 1, 7, 8, 9, 1000])).tolist() == [1, 9]
    assert seen.count_present() == PresenceMap.open(tmp_path, 1001).count_present() == 4


def test_a_reader_cannot_write_into_the_map(tmp_path):
    PresenceMap.create(tmp_path, 10)
    with pytest.raises(ReadOnlyError, match="writable=True"):
        PresenceMap.open(tmp_path, 10).add(np.array([3]))


@pytest.mark.parametrize("content", [b"", b"SRPRESNT", b"X" * 18, b"SRPRESNT" + (12).to_bytes(8, "little") + b"\0\0"])
def test_a_map_that_does_not_describe_the_pack_is_refused_by_name(tmp_path, content):
    (tmp_path / PRESENCE_NAME).write_bytes(content)
    with pytest.raises(MalformedRecordError, match="present: expected a presence map of 10 units"):
        PresenceMap.open(tmp_path, 10)


@pytest.mark.parametrize("units", [1, 7, 8, 9, 15, 16, 17, 1001])
def test_bits_after_the_last_unit_count_for_nothing_and_are_damage(tmp_path, units):
    written = PresenceMap.create(tmp_path, units)
    assert not written.is_complete
    written.add(np.arange(units - 1))
    data = bytearray((tmp_path / PRESENCE_NAME).read_bytes())
    for bit in range(units % 8, 8) if units % 8 else ():
        data[-1] |= 1 << bit
    with (tmp_path / PRESENCE_NAME).open("r+b") as file:
        file.write(data)  # in place: those who have the map open see it
    assert not written.is_complete
    assert written.count_present() == units - 1
    if units % 8:
        with pytest.raises(MalformedRecordError, match="bits set after the last"):
            PresenceMap.open(tmp_path, units)
    written.add(np.arange(units))
    assert written.is_complete

"""Ref states and bundles: what they hold, and that nothing else is taken for one."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stockroom.digest import PackDigest, compute_file_digest
from stockroom.errors import CorruptionError, DigestMismatchError, FormatVersionError, MalformedRecordError
from stockroom.remotes.format import bundle as bundle_module
from stockroom.remotes.format.bundle import (
    BundlePack,
    BundleWriter,
    RecordKind,
    decode_pack_files,
    merge_bundle,
    open_bundle,
    plan_compaction,
)
from stockroom.remotes.format.ref_state import BundleEntry, RefState, decode_state

TIP = bytes(range(32))


def make_state(**changes: object) -> RefState:
    fields: dict[str, object] = {
        "number": 3,
        "write_id": b"w" * 16,
        "time_ns": 17,
        "head": "main",
        "branches": {"main": TIP, "dev/x": TIP},
        "tags": {"v1": TIP},
        "bundles": (BundleEntry(TIP, 100, 3, 2, 1),),
    }
    return RefState(**(fields | changes))  # type: ignore[arg-type]


def test_a_state_comes_back_as_it_was() -> None:
    state = make_state()
    assert decode_state(state.encode(), number=3, where="r") == state


@pytest.mark.parametrize("name", ["../x", "a/../b", ".hidden", "a b", "x\x00y", "/abs", "", "-rf"])
@pytest.mark.parametrize("kind", ["branches", "tags"])
def test_a_state_with_a_name_that_breaks_the_rules_is_refused(name: str, kind: str) -> None:
    state = make_state(**{kind: {name: TIP}}, head=None)
    with pytest.raises(MalformedRecordError, match="r:"):
        decode_state(b"SRrs\x01" + msgspec.msgpack.Encoder(order="deterministic").encode(state), number=3, where="r")


def test_a_state_of_another_number_or_head_is_refused() -> None:
    with pytest.raises(MalformedRecordError, match="expected state 4, found 3"):
        decode_state(make_state().encode(), number=4, where="r")
    with pytest.raises(MalformedRecordError, match="not one of its branches"):
        decode_state(make_state(head="gone").encode(), number=3, where="r")


def test_a_newer_version_says_so() -> None:
    encoded = bytearray(make_state().encode())
    encoded[4] = 3
    with pytest.raises(FormatVersionError, match="upgrade"):
        decode_state(bytes(encoded), number=3, where="r")


@given(st.integers(0, 2000), st.integers(0, 255))
def test_mutated_states_raise_our_errors_only(at: int, value: int) -> None:
    encoded = bytearray(make_state().encode())
    encoded[at % len(encoded)] = value
    state = None
    with contextlib.suppress(CorruptionError, FormatVersionError):
        state = decode_state(bytes(encoded), number=3, where="r")
    assert state is None or state.encode() == encoded


def write_bundle(path: Path, count: int = 5) -> BundleEntry:
    writer = BundleWriter(path)
    for number in range(count):
        payload = bytes([number]) * (number * 100)
        writer.add(RecordKind.OBJECT, blake3(payload).digest(), payload)
    writer.add_pack(PackDigest(TIP), BundlePack(b"{}", b"chunks", b"index"))
    writer.add(RecordKind.COMMIT, TIP[::-1], b"commit")
    writer.add(RecordKind.COMMIT, TIP[::-1], b"commit")
    return writer.finish()


def test_a_bundle_gives_back_its_records_each_once(tmp_path: Path) -> None:
    entry = write_bundle(tmp_path / "b")
    assert (entry.objects, entry.commits, entry.packs) == (5, 1, 1)
    with open_bundle(tmp_path / "b", entry, where="b") as bundle:
        kinds = [(record.kind, len(record.payload)) for record in bundle.iter_records()]
        pack = next(record for record in bundle.iter_records() if record.kind is RecordKind.PACK)
        files = decode_pack_files(pack.payload, where="b")
        assert (bytes(files.zarr_json), bytes(files.chunks), bytes(files.index)) == (b"{}", b"chunks", b"index")
        del pack, files
    assert kinds == [(1, 0), (1, 100), (1, 200), (1, 300), (1, 400), (3, 24 + 13), (2, 6)]


def test_a_bundle_is_hashed_once_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def compute(path: Path) -> bytes:
        hashed.append(path)
        return compute_file_digest(path)

    monkeypatch.setattr(bundle_module, "compute_file_digest", compute)
    write_bundle(tmp_path / "b")
    assert hashed == [tmp_path / "b"]


def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path) -> None:
    entry = write_bundle(tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    for at in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[at] ^= 4
        (tmp_path / "c").write_bytes(changed)
        with pytest.raises(DigestMismatchError, match="c"):
            open_bundle(tmp_path / "c", entry, where="c")


def forge(tmp_path: Path, content: bytes) -> BundleEntry:
    (tmp_path / "forged").write_bytes(content)
    return BundleEntry(blake3(content).digest(), len(content), 1, 1, 1)


def test_absurd_counts_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    header = struct.Struct("<8sH6xQQ")
    entry = forge(tmp_path, header.pack(b"SRBUNDLE", 1, 1 << 60, 132) + bytes(100))
    with pytest.raises(MalformedRecordError, match="expected 1152921504606846976 records"):
        open_bundle(tmp_path / "forged", entry, where="b")
    record = struct.pack("<B3xI32s", 1, (1 << 32) - 1, TIP)
    entry = forge(tmp_path, header.pack(b"SRBUNDLE", 1, 1, 32 + 40) + record)
    with (
        open_bundle(tmp_path / "forged", entry, where="b") as bundle,
        pytest.raises(MalformedRecordError, match="4294967295"),
    ):
        list(bundle.iter_records())
    entry = forge(tmp_path, header.pack(b"SRBUNDLE", 9, 0, 32))
    with pytest.raises(FormatVersionError, match="upgrade"):
        open_bundle(tmp_path / "forged", entry, where="b")
    huge = struct.pack("<I4xQQ", 5, 1 << 60, 3)
    with pytest.raises(MalformedRecordError):
        decode_pack_files(memoryview(huge + b"x" * 30), where="b")


@given(st.binary(max_size=300), st.integers(0, 40))
def test_random_bytes_behind_a_right_header_raise_our_errors_only(tmp_path_factory, body: bytes, count: int) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    content = struct.pack("<8sH6xQQ", b"SRBUNDLE", 1, count, 32 + len(body)) + body
    records = []
    with (
        contextlib.suppress(CorruptionError),
        open_bundle(folder / "forged", forge(folder, content), where="b") as bundle,
    ):
        for record in bundle.iter_records():
            if record.kind is RecordKind.PACK:
                decode_pack_files(record.payload, where="b")
            records.append(record)
    assert sum(40 + len(record.payload) for record in records) <= len(body)


def test_merged_bundles_hold_what_they_were_made_of(tmp_path: Path) -> None:
    first, second = write_bundle(tmp_path / "a", 3), write_bundle(tmp_path / "b", 6)
    writer = BundleWriter(tmp_path / "c")
    for name, entry in (("a", first), ("b", second)):
        with open_bundle(tmp_path / name, entry, where=name) as bundle:
            merge_bundle(bundle, writer)
    assert writer.finish().objects == 6


def test_a_thousand_pushes_leave_few_bundles_and_rewrite_little() -> None:
    random = np.random.default_rng(5)
    entries: list[BundleEntry] = [BundleEntry(TIP, 70 << 20, 1, 1, 1)]
    rewritten = pushed = 0
    for _ in range(1000):
        nbytes = int(random.integers(10_000, 200_000))
        merged = plan_compaction(entries, nbytes)
        taken = entries[len(entries) - merged :]
        assert all(entry.nbytes < 70 << 20 for entry in taken)
        rewritten += sum(entry.nbytes for entry in taken)
        pushed += nbytes
        entries = [*entries[: len(entries) - merged], BundleEntry(TIP, nbytes + sum(e.nbytes for e in taken), 1, 1, 1)]
        assert len(entries) <= 8
    assert rewritten < 8 * pushed

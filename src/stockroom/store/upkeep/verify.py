"""Checks one pack against itself: its name, its files, and the digest of every chunk that is present."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.digest import PackDigest, compute_digest
from stockroom.errors import (
    CorruptionError,
    FormatVersionError,
    InvalidInputError,
    NotFoundError,
    StockroomError,
    UnreadableError,
)
from stockroom.store.pack.layout import ROW_ALIGNMENT_NBYTES
from stockroom.store.pack.manifest import MANIFEST_NAME, decode_manifest
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_folder import read_file
from stockroom.store.pack.zarr_metadata import METADATA_NAME

REPAIR: Final = "run `stock fsck --repair`"
_ROWS_AT_ONCE = 1024
_PART_NBYTES = 4 << 20

Apply: TypeAlias = Callable[[Callable[[list[int]], Any], list[list[int]]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Damage:
    """One problem: its place, its kind, the repair, and the known users of the damaged part."""

    where: str
    what: str
    repair: str
    needed_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        needed = f"; needed by {', '.join(self.needed_by)}" if self.needed_by else ""
        return f"{self.where}: {self.what}{needed}; {self.repair}"


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Something that could not be checked, so it may be whole: where, why, and the name of the system's error."""

    where: str
    why: str
    errno: str = ""

    def __str__(self) -> str:
        return f"{self.where}: could not be checked: {self.why}"


def says_damage(error: Exception) -> bool:
    """Return whether an error says that something is wrong or missing. If not, it only prevented a check."""
    return isinstance(error, CorruptionError | NotFoundError | InvalidInputError)


def describe_unchecked(where: str, error: Exception) -> Unchecked:
    """Return the finding for an error that says nothing about the content."""
    number = getattr(error, "errno", None)
    name = errno.errorcode.get(number, str(number)) if number else ""
    return Unchecked(where, str(error) or type(error).__name__, name)


@dataclass(frozen=True, slots=True, eq=False)
class PackFindings:
    """The findings of a check of one pack.

    Attributes:
        damage: all that is wrong with the pack. Absent units of a partial pack are not damage.
        unchecked: the parts that could not be read.
        bad: digests `(n, 32)` of its chunks that do not match; None if its manifest cannot be trusted.
        nbytes: bytes of its rows that were read.
    """

    damage: tuple[Damage, ...]
    unchecked: tuple[Unchecked, ...]
    bad: NDArray[np.uint8] | None
    nbytes: int

    @property
    def is_sound(self) -> bool:
        """Whether everything was checked, and is right."""
        return not (self.damage or self.unchecked)


def check_pack(
    directory: Path, *, digest: PackDigest | None = None, read_rows: bool = True, apply: Apply = map
) -> PackFindings:
    """Check the pack in `directory`, whose name says its digest unless `digest` does.

    Without `read_rows`, check only its names and sizes. `apply` is `map`, or that of an executor, whose threads then
    hash in parallel.
    """
    check = _PackCheck(directory, directory.name if digest is None else digest.hex(), read_rows, apply)
    try:
        check.run()
    except (UnreadableError, FormatVersionError, OSError, MemoryError) as error:
        check.errors.append(error)
    except (StockroomError, ValueError) as error:
        check.bad = None
        check.damage.append(Damage(check.where, str(error), REPAIR))
    unchecked = tuple(describe_unchecked(check.where, error) for error in check.errors)
    return PackFindings(tuple(check.damage), unchecked, check.list_bad(), check.nbytes)


@dataclass(slots=True, eq=False)
class _PackCheck:
    """One check of a pack, and its findings so far."""

    _directory: Path
    _name: str
    _read_rows: bool
    _apply: Apply
    damage: list[Damage] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    nbytes: int = 0
    bad: list[int] | None = None
    _manifest: bytes | None = None

    @property
    def where(self) -> str:
        return f"pack {self._name}"

    def run(self) -> None:
        manifest = read_file(self._directory, MANIFEST_NAME)
        if compute_digest(manifest).hex() != self._name:
            self.damage.append(Damage(self.where, f"its {MANIFEST_NAME} file does not hash to its name", REPAIR))
            return
        self._manifest = manifest
        pack = Pack(self._directory, PackDigest(bytes.fromhex(self._name)), careful=True)
        try:
            if not is_metadata_right(self._directory, pack):
                self.damage.append(Damage(self.where, f"its {METADATA_NAME} was changed", REPAIR))
        except UnreadableError as error:
            self.errors.append(error)
        self.check_content(pack)

    def check_content(self, pack: Pack) -> None:
        """Check the shard."""
        self.bad = bad = list[int]()
        if self._read_rows:
            self._check_rows(pack, bad)
        self.damage += _describe_rows(pack, self.where, bad)
        if not pack.is_raw or pack.presence is None:
            _ = pack.spans  # checks the shard's index, which reading raw rows does not need
        if self._read_rows and pack.is_raw and pack.presence is None and not _is_padding_zero(pack):
            self.damage.append(Damage(self.where, "the padding between its chunks is not zero", REPAIR))

    def list_bad(self) -> NDArray[np.uint8] | None:
        """Return the digests of the wrong chunks: of all, if the pack is damaged and cannot be opened."""
        digests = None if self._manifest is None else _list_digests(self._manifest, self._directory)
        if digests is None or (self.bad is None and self.damage):
            return digests
        return digests[self.bad or []]

    def _check_rows(self, pack: Pack, bad: list[int]) -> None:
        """Append rows that do not match their digest to `bad`."""
        for start in range(0, pack.rows, _ROWS_AT_ONCE):
            rows = _list_present_rows(pack, np.arange(start, min(start + _ROWS_AT_ONCE, pack.rows)))
            parts = _split(pack, rows)
            for part, found in zip(parts, self._apply(lambda part: _list_wrong(pack, part), parts), strict=True):
                if isinstance(found, UnreadableError):
                    self.errors.append(found)
                else:
                    self.nbytes += int(pack.measure_rows(np.array(part)).sum())
                    bad += found


def check_open_pack(pack: Pack) -> None:
    """Read a whole, open pack once, and raise unless it is sound.

    Raises:
        CorruptionError: a row does not match its digest, or the pack is otherwise damaged.
        UnreadableError: a part of it cannot be read.
        StalePackError: it is no longer in its place.
    """
    check = _PackCheck(pack.directory, pack.digest.hex(), True, map)
    check.check_content(pack.reopen_careful())
    for error in check.errors:
        raise error
    for damage in check.damage:
        raise CorruptionError(str(damage), where=pack.digest.hex())


def mask_bad_rows(pack: Pack) -> NDArray[np.bool_]:
    """Return which rows are absent, cannot be decoded or do not match their digest, as `(rows,)`. Reads in parts.

    Raises `UnreadableError` if a row cannot be read: it may be right.
    """
    bad = np.ones(pack.rows, bool)
    for part in _split(pack, _list_present_rows(pack, np.arange(pack.rows))):
        wrong = _list_wrong(pack, part)
        if isinstance(wrong, UnreadableError):
            raise wrong
        bad[part] = False
        bad[wrong] = True
    return bad


def _list_wrong(pack: Pack, rows: list[int]) -> list[int] | UnreadableError:
    """Return the rows that are wrong, or the error that keeps some from being read."""
    try:
        contents = _view_rows(pack, rows) if pack.is_raw else pack.read_rows(rows)
    except UnreadableError as error:
        return error
    except (CorruptionError, ValueError):
        return rows if len(rows) == 1 else _list_wrong_one_by_one(pack, rows)
    digests = pack.manifest.digests[rows].tobytes()
    found = b"".join([blake3(content).digest() for content in contents])
    if found == digests:
        return []
    return [row for at, row in enumerate(rows) if found[32 * at : 32 * at + 32] != digests[32 * at : 32 * at + 32]]


def _list_wrong_one_by_one(pack: Pack, rows: list[int]) -> list[int] | UnreadableError:
    wrong: list[int] = []
    for row in rows:
        found = _list_wrong(pack, [row])
        if isinstance(found, UnreadableError):
            return found
        wrong += found
    return wrong


def _view_rows(pack: Pack, rows: list[int]) -> Sequence[Any]:
    """Return rows of a raw pack; rows that lie close together are read all at once."""
    wanted = np.array(rows)
    offsets, lengths = pack.get_offsets(wanted), pack.measure_rows(wanted)
    start, stop = int(offsets[0]), int(offsets[-1] + lengths[-1])
    if stop - start > int(lengths.sum()) + ROW_ALIGNMENT_NBYTES * len(rows) or (np.diff(offsets) < 0).any():
        return [pack.view_row(row) for row in rows]
    joined = memoryview(pack.read_bytes(start, stop))  # type: ignore[arg-type]  # numpy's stubs declare no buffer
    begins = (offsets - start).tolist()
    return [joined[at : at + nbytes] for at, nbytes in zip(begins, lengths.tolist(), strict=True)]


def _split(pack: Pack, rows: NDArray[np.int64]) -> list[list[int]]:
    """Split `rows` into runs of some MiB, to be read and hashed in parallel."""
    parts = np.cumsum(pack.measure_rows(rows)) // _PART_NBYTES
    return [part.tolist() for part in np.split(rows, np.flatnonzero(np.diff(parts)) + 1) if len(part)]


def _list_present_rows(pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows if pack.presence is None else rows[~pack.mask_absent(rows)]


def _describe_rows(pack: Pack, where: str, bad: list[int]) -> Iterator[Damage]:
    if bad:
        first = pack.manifest.digests[bad[0]].tobytes().hex()
        what = f"{len(bad)} of {pack.rows} chunks are unreadable or do not match their digests (first {first})"
        yield Damage(where, what, REPAIR)


def is_metadata_right(directory: Path, pack: Pack) -> bool:
    """Return whether a pack's `zarr.json` has the digest that its manifest names.

    Raises `UnreadableError` if it cannot be read now.
    """
    try:
        return compute_digest(read_file(directory, METADATA_NAME)) == pack.manifest.zarr_digest
    except CorruptionError:  # it is missing
        return False


def _list_digests(manifest_bytes: bytes, directory: Path) -> NDArray[np.uint8] | None:
    try:
        return decode_manifest(manifest_bytes, where=str(directory)).digests
    except StockroomError:
        return None


def _is_padding_zero(pack: Pack) -> bool:
    """Return whether a raw pack holds only zeros between and after its rows, which no digest covers."""
    end = 0
    for row in range(pack.rows) if pack.layout.is_ragged else ():
        start, nbytes = pack.get_span(row)
        if start > end and pack.read_bytes(end, start).any():
            return False
        end = start + nbytes
    if not pack.layout.is_ragged:
        end = pack.rows * pack.layout.unit_nbytes
    return not pack.read_bytes(end, pack.body_nbytes).any()

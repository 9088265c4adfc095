"""The units of a partial pack that are on this machine: a bit map beside the pack, mapped and shared by all processes.

A unit is a block if the pack is encoded, and a row if it is raw. A pack without a map is whole. File format: magic
`SRPRESNT`, u64 number of units, then one bit per unit, lowest bit first.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import ReadOnlyError, malformed
from stockroom.file_map import map_shared
from stockroom.files import FileIdentity, give_to_owner, identify, refuse_unreadable

PRESENCE_NAME = "present"
_HEADER = struct.Struct("<8sQ")
_MAGIC = b"SRPRESNT"
_ADVICE = "delete the pack's folder to fetch it again"


class PresenceMap:
    """A pack's bit map, open for reading and marking."""

    def __init__(self, bits: NDArray[np.uint8], units: int, file: FileIdentity) -> None:
        self._bits = bits
        self.units = units
        self.file = file

    @classmethod
    def create(cls, directory: Path, units: int) -> PresenceMap:
        """Create a map beside the pack in `directory`, with every unit absent."""
        path = directory / PRESENCE_NAME
        with path.open("xb") as file:
            give_to_owner(path)
            file.write(_HEADER.pack(_MAGIC, units))
            file.write(bytes(-(-units // 8)))  # and no hole: on a full disk, a mark in one would end the process
            file.flush()
            os.fsync(file.fileno())
        return cls.open(directory, units, writable=True)

    @classmethod
    def open(cls, directory: Path, units: int, *, writable: bool = False) -> PresenceMap:
        """Open the map beside the pack in `directory`, which must describe `units` units."""
        path = directory / PRESENCE_NAME
        with path.open("r+b" if writable else "rb") as file:
            return cls.open_file(file.fileno(), units, where=path, writable=writable)

    @classmethod
    def open_file(cls, fd: int, units: int, *, where: Path, writable: bool = False) -> PresenceMap:
        """Map an open file, which must describe `units` units; the caller may close the file afterwards."""
        expected = f"a presence map of {units} units"
        found = os.fstat(fd)
        if found.st_size != _HEADER.size + -(-units // 8):
            raise malformed(str(where), expected, "another size", _ADVICE)
        try:
            mapping = map_shared(fd, found.st_size, writable=writable)
        except OSError as error:
            refuse_unreadable(error, where)
            raise
        if _HEADER.unpack(mapping[: _HEADER.size].tobytes()) != (_MAGIC, units):
            raise malformed(str(where), expected, "something else", _ADVICE)
        opened = cls(mapping[_HEADER.size :], units, identify(found))
        if opened._padding:
            raise malformed(str(where), expected, "bits set after the last", _ADVICE)
        return opened

    def add(self, units: NDArray[np.int64]) -> None:
        """Record `units` as present. Their bytes must be on disk already, and the map open for writing."""
        if not self._bits.flags.writeable:  # numpy's `at` does not check, and the process would crash
            raise ReadOnlyError("this presence map is read-only; open it with writable=True")
        np.bitwise_or.at(self._bits, units >> 3, (1 << (units & 7)).astype(np.uint8))

    def clear(self, units: NDArray[np.int64]) -> None:
        """Record `units` as absent, for every process that has the map open. The map must be open for writing."""
        if not self._bits.flags.writeable:
            raise ReadOnlyError("this presence map is read-only; open it with writable=True")
        np.bitwise_and.at(self._bits, units >> 3, ~(1 << (units & 7)).astype(np.uint8))

    def list_absent(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the absent units among `units`, sorted and unique."""
        absent = (self._bits[units >> 3] >> (units & 7).astype(np.uint8)) & 1 == 0
        return np.unique(units[absent])

    def count_present(self) -> int:
        """Return the number of present units."""
        return int(np.bitwise_count(self._bits).sum()) - self._padding.bit_count()

    @property
    def _padding(self) -> int:
        """The bits after those of the units, which are zero."""
        return int(self._bits[-1]) >> (1 + (self.units - 1) % 8) if self.units else 0

    @property
    def is_complete(self) -> bool:
        """Whether every unit is present."""
        return self.count_present() == self.units

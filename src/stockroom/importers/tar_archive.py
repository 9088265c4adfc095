"""Reads tar archives of strangers: decompressed piece by piece, with bounds on output and on headers.

tarfile reads every header whole, decompresses as much as there is, and takes a cut or a damaged header for the end.
Owns the bounds and the check of the end; knows no rows.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.limits import Limits
from stockroom.importers.streams import translate_read_errors

MAX_HEADER_NBYTES: Final = 1 << 20
"""The largest extended header (PAX or GNU long name) of a member; names and times take far less."""

MAX_HEADERS_NBYTES: Final = 64 << 20
"""Extended headers together, those for one member and those for all."""

_DAMAGE: Final = "not a complete tar archive"
_PIECE_NBYTES: Final = 1 << 20
_MEMORY_NBYTES: Final = 256 << 20
"""The largest dictionary of an xz stream; the most that xz itself uses is 64 MiB."""

_END: Final[type[Exception]] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_CUT: Final[tuple[type[Exception], ...]] = (
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
)

_EXTENDED: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


_MAKERS: Final[dict[bytes, Callable[[], Any]]] = {
    b"\x1f\x8b": lambda: _Deflate(),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(memlimit=_MEMORY_NBYTES),
    b"]\x00\x00": lambda: lzma.LZMADecompressor(memlimit=_MEMORY_NBYTES),
}
"""The first bytes of compressed streams, and their decompressors."""


@contextmanager
def open_tar(path: Path, limits: Limits, *, to_end: bool = True) -> Iterator[tarfile.TarFile]:
    """Provide an archive to read from front to back, compressed or not, with the errors of its reader translated.

    Raises `CorruptionError` if it ends without the block of zeros that ends an archive, `InvalidInputError` if more
    than zeros follow that block; without `to_end`, neither is checked.
    """
    with translate_read_errors(path, _DAMAGE), path.open("rb") as file:
        stream = _open_stream(file, path, limits)
        headers = _make_header_class(path, limits)
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", tarinfo=headers) as archive:
            yield archive
            if to_end:
                _check_end(archive, path)


def _check_end(archive: tarfile.TarFile, path: Path) -> None:
    """Read the rest of a file after the end of its archive; the padding is zeros."""
    rest: Any = archive.fileobj
    while piece := rest.read(_PIECE_NBYTES):
        if piece.count(0) != len(piece):
            raise InvalidInputError(
                f"{path}: expected nothing after the end of the archive, found more data, as when archives are joined "
                "with cat; import them one by one"
            )


def _open_stream(file: BinaryIO, path: Path, limits: Limits) -> Any:
    start = file.read(6)
    file.seek(0)
    maker = next((make for magic, make in _MAKERS.items() if start.startswith(magic)), None)
    return file if maker is None else io.BufferedReader(_Decompressed(file, maker, path, limits), _PIECE_NBYTES)


class _Deflate:
    """A gzip stream, as the other decompressors are used."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail


class _Decompressed(io.RawIOBase):
    """The bytes of one compressed stream or several in a row, with a bound on how many there are."""

    def __init__(self, file: BinaryIO, make: Callable[[], Any], path: Path, limits: Limits) -> None:
        self._file = file
        self._make = make
        self._path = path
        self._limits = limits
        self._stored_nbytes = path.stat().st_size
        self._nbytes = 0
        self._stream = make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        piece = self._read_piece(len(buffer))
        buffer[: len(piece)] = piece
        self._nbytes += len(piece)
        self._limits.check_expansion(self._nbytes, self._path, stored_nbytes=self._stored_nbytes)
        return len(piece)

    def _read_piece(self, nbytes: int) -> bytes:
        while True:
            if self._stream.eof:
                rest = self._stream.unused_data or self._file.read(_PIECE_NBYTES)
                if not rest.strip(b"\0"):  # padding, or the end
                    return b""
                self._stream = self._make()
            else:
                rest = self._file.read(_PIECE_NBYTES) if self._stream.needs_input else b""
            was_hungry = not rest and self._stream.needs_input
            if piece := self._stream.decompress(rest, nbytes):
                return bytes(piece)
            if was_hungry and not self._stream.eof:
                raise _damaged(self._path, "it is cut short")


def _make_header_class(path: Path, limits: Limits) -> type[tarfile.TarInfo]:
    """Return a class of members whose extended headers are bounded, each and together."""
    nbytes = {"all": 0, "next": 0}
    """Of headers that hold for all members to come, and of those in a row that hold for the next."""

    class BoundedTarInfo(tarfile.TarInfo):
        """A member; refuses extended headers that are too large, and sparse files, before anything of them is read."""

        @classmethod
        def fromtarfile(cls, archive: tarfile.TarFile, /) -> Self:
            try:
                return super().fromtarfile(archive)
            except _END:
                raise
            except _CUT as error:
                raise _damaged(path, "it is cut short") from error
            except tarfile.HeaderError as error:
                raise _damaged(path, f"a header is damaged: {error}") from error

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            member = super().frombuf(buf, encoding, errors)
            if member.type == tarfile.GNUTYPE_SPARSE:
                raise _refuse_sparse(path, member.name)
            if member.type in _EXTENDED:
                limits.check(member.size, MAX_HEADER_NBYTES, "bytes of a header in an archive", where=path)
                nbytes["all" if member.type == tarfile.XGLTYPE else "next"] += member.size + tarfile.BLOCKSIZE
                limits.check(max(nbytes.values()), MAX_HEADERS_NBYTES, "bytes of headers in an archive", where=path)
            else:
                nbytes["next"] = 0
            return member

        def _proc_gnusparse_10(self, *_: Any) -> None:
            raise _refuse_sparse(path, self.name)

    return BoundedTarInfo


def _damaged(path: Path, reason: str) -> CorruptionError:
    return CorruptionError(f"{path}: {_DAMAGE}: {reason}", where=str(path))


def _refuse_sparse(path: Path, name: str) -> InvalidInputError:
    return InvalidInputError(f"{path}: expected plain files, found {name!r:.80}, which is sparse")

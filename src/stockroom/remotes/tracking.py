"""A repository's knowledge of a remote: the ref state last seen, the packs it holds, the bundles taken in.

Losing it costs requests, never bytes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from blake3 import blake3

from stockroom.digest import DIGEST_NBYTES, PackDigest
from stockroom.errors import StockroomError
from stockroom.files import FILE_MODE, NEW_SUFFIX, give_to_owner, make_folder, replace_own_file
from stockroom.remotes.format.ref_state import RefState, decode_state
from stockroom.repository.paths import RepositoryPaths

_DIRECTORY: Final = "remotes"


class Tracking:
    """The knowledge of the remote `name`."""

    def __init__(self, paths: RepositoryPaths, name: str) -> None:
        self._directory = paths.folder / _DIRECTORY / name
        self._state = self._directory / "state"
        self._packs = self._directory / "packs"
        self._bundles = self._directory / "bundles"
        self._described = self._directory / "described"
        self._marks_file = self._directory / "marks"
        self._exclusive = self._directory / "exclusive"

    @property
    def has_seen_state(self) -> bool:
        """Whether the remote was seen to have a ref state, even if it is not known which one."""
        return any(path.exists() for path in (self._state, self._packs, self._bundles))

    def read_state(self) -> RefState | None:
        """Read the ref state last seen, or None if there is no readable one."""
        try:
            content = self._state.read_bytes()
            number, _, encoded = content.partition(b"\n")
            return decode_state(encoded, number=int(number), where=str(self._state))
        except (OSError, ValueError, StockroomError):
            return None

    def write_state(self, state: RefState) -> None:
        """Remember a ref state, and forget the descriptions of bundles that it does not name."""
        _replace(self._state, f"{state.number}\n".encode() + state.encode())
        current = {entry.digest.hex() for entry in state.bundles}
        for path in self._described.glob("*"):
            if path.suffix != NEW_SUFFIX and path.name not in current:
                path.unlink(missing_ok=True)

    def read_packs(self) -> set[PackDigest]:
        """Return the packs known to be on the remote."""
        return {PackDigest(digest) for digest in _read_digests(self._packs)}

    def add_packs(self, packs: Iterable[PackDigest]) -> None:
        """Remember packs that the remote was seen to hold."""
        self._append(self._packs, set(packs) - self.read_packs())

    def note_described(self, bundle: bytes, packs: Iterable[PackDigest]) -> None:
        """Remember which packs a bundle describes."""
        _replace(self._described / bundle.hex(), b"".join(packs))

    def read_described(self, bundles: Iterable[bytes]) -> set[PackDigest]:
        """Return the packs that bundles are known to describe. A pack left out is described again, harmlessly."""
        return {PackDigest(pack) for bundle in bundles for pack in _read_digests(self._described / bundle.hex())}

    def read_marks(self, digest: bytes) -> bytes | None:
        """Return the remote's table of marks with that digest, if it was read before."""
        try:
            content = self._marks_file.read_bytes()
        except OSError:
            return None
        return content if blake3(content).digest() == digest else None

    def write_marks(self, content: bytes) -> None:
        """Keep a table of marks."""
        _replace(self._marks_file, content)

    def read_bundles(self) -> set[bytes]:
        """Return the bundles of the remote whose content is here."""
        return set(_read_digests(self._bundles))

    def add_bundles(self, digests: Iterable[bytes]) -> None:
        """Remember bundles whose content is here."""
        self._append(self._bundles, set(digests) - self.read_bundles())

    @property
    def is_exclusive(self) -> bool:
        """Whether the remote was seen to create a file only once."""
        return self._exclusive.exists()

    def note_exclusive(self) -> None:
        """Remember that the remote creates a file only once."""
        _replace(self._exclusive, b"")

    def rename(self, name: str) -> None:
        """Let this be what is known of the remote `name`, instead of what was known of that before."""
        new = self._directory.with_name(name)
        if self._directory.is_dir():
            shutil.rmtree(new, ignore_errors=True)
            self._directory.rename(new)

    def forget(self) -> None:
        """Forget everything about the remote."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _append(self, path: Path, digests: set[bytes] | set[PackDigest]) -> None:
        if not digests:
            return
        make_folder(self._directory)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            give_to_owner(path)
            torn = os.fstat(fd).st_size % DIGEST_NBYTES
            if torn:
                os.ftruncate(fd, os.fstat(fd).st_size - torn)
            os.write(fd, b"".join(digests))
        finally:
            os.close(fd)


def forget_all_bundles(paths: RepositoryPaths) -> None:
    """Forget the bundles taken in from every remote, so that they are taken in again: some of their content is gone."""
    for bundles in (paths.folder / _DIRECTORY).glob("*/bundles"):
        bundles.unlink(missing_ok=True)


def _read_digests(path: Path) -> list[bytes]:
    """Read the digests in a file, except one at its end that a kill cut short."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return [content[at : at + DIGEST_NBYTES] for at in range(0, len(content) - DIGEST_NBYTES + 1, DIGEST_NBYTES)]


def _replace(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    with suppress(FileNotFoundError):  # another process has forgotten the remote
        replace_own_file(path, content)

"""What a repository takes on disk, seen from outside: files and the records in its environment of names and history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stockroom.kv import Environment, ReadTxn
from stockroom.refs import DATABASES
from stockroom.store.pack.layout import SHARD_NAME


def list_records(repository: Path) -> dict[str, int]:
    """Name -> bytes of key and value at rest, of every node, record, chunk list, commit and operation."""

    def measure(txn: ReadTxn) -> dict[str, int]:
        return {f"{db}/{key.hex()}": len(key) + len(value) for db in DATABASES for key, value in txn.iterate(db)}

    env = Environment.open(repository / ".stockroom" / "refs", databases=DATABASES)
    try:
        return env.view(measure)
    finally:
        env.close()


def list_written_files(folder: Path) -> dict[str, int]:
    """Path -> length of every file but the shards, which hold samples."""
    return {str(path): path.stat().st_size for path in _iter_metadata(folder) if path.is_file()}


def measure_allocated(repository: Path) -> int:
    """Bytes of disk that everything in a repository but its shards occupies, folders included."""
    return sum(path.stat().st_blocks * 512 for path in _iter_metadata(repository))


def measure_disk(folder: Path) -> int:
    """Bytes of disk that everything in a folder occupies."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def measure_content(repository: Path) -> int:
    """Bytes of every file but LMDB's, and of the records in the environment of names and history."""
    files = (path for path in repository.rglob("*") if path.is_file() and path.suffix != ".mdb")
    return sum(path.stat().st_size for path in files) + sum(list_records(repository).values())


def read_written_nbytes() -> int:
    """Bytes that this process has passed to the operating system for writing so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def _iter_metadata(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.name.startswith(f"{SHARD_NAME}."))

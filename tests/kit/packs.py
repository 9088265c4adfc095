"""What a repository's packs take."""

from __future__ import annotations

from pathlib import Path


def measure_packs(path: Path, files: str = "*") -> int:
    """Bytes of the files of all packs of the repository at `path`; `c.*` counts shards alone."""
    found = (path / ".stockroom" / "packs").rglob(files)
    return sum(file.stat().st_size for file in found if file.is_file())

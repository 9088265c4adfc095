"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stockroom.errors import InvalidInputError


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears at `path`, in place of whatever file is there, once the block ends well.

    Raises `InvalidInputError` where `path` is a folder.
    """
    if path.is_dir():
        raise InvalidInputError(f"expected the path of a file, found the folder {path}; add a name to it")
    if not path.parent.is_dir():
        raise InvalidInputError(f"{path}: expected a folder to write it in, found none; make {path.parent} first")
    part = path.with_name(f".stockroom-{os.urandom(8).hex()}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

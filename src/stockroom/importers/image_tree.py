"""Finds the images below a folder, and counts everything else there as left out.

Links are followed as torchvision's ImageFolder follows them, except that a class contains each folder once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from stockroom.importers.left_out import LeftOut
from stockroom.importers.streams import translate_read_errors

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp")
_LITTER: Final = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
"""Folders and files that systems leave everywhere, in lower case, besides those that start with a dot."""


def list_images(folder: Path, left_out: LeftOut) -> list[str]:
    """Return the relative paths of the images below a folder, sorted, and count in `left_out` what is none.

    The folders directly below are classes. One without images is none, as is a hidden one.
    """
    found: list[str] = []
    for entry in _list_entries(folder):
        if is_hidden(entry.name):
            left_out.add(entry.name, "hidden folder" if _is_folder(entry) else "hidden file")
        elif _is_folder(entry):
            images = list(_iter_images(folder, entry.name, left_out))
            found += images
            if not images:
                left_out.add(entry.name, "imageless folder")
        else:
            found += _take_file(entry, entry.name, left_out)
    return sorted(found)


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, sorted. Raises `InvalidInputError` if it cannot be read."""
    with translate_read_errors(folder), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or left there by a system."""
    return name.startswith(".") or name.lower() in _LITTER


def _iter_images(root: Path, top: str, left_out: LeftOut) -> Iterator[str]:
    """Yield the images of one class. Links wait until its own folders are read, so that these keep their names."""
    seen = {_identify(root)}
    folders, links = [top], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop()
        identity = _identify(root / inside)
        if identity in seen:
            left_out.add(inside, "repeated linked folder")
            continue
        seen.add(identity)
        for entry in _list_entries(root / inside):
            path = f"{inside}/{entry.name}"
            if is_hidden(entry.name):
                left_out.add(path, "hidden folder" if _is_folder(entry) else "hidden file")
            elif _is_folder(entry):
                (links if entry.is_symlink() else folders).append(path)
            else:
                yield from _take_file(entry, path, left_out)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identify(folder: Path) -> tuple[int, int]:
    with translate_read_errors(folder):
        found = folder.stat()
    return found.st_dev, found.st_ino


def _take_file(entry: os.DirEntry[str], path: str, left_out: LeftOut) -> Iterator[str]:
    """Yield the path of an image, also one behind a dead link: it is reported as broken."""
    suffix = PurePosixPath(entry.name).suffix.lower()
    is_dead = entry.is_symlink() and not Path(entry.path).exists()
    if not is_dead and not entry.is_file():
        left_out.add(path, "special file")
    elif suffix in SUFFIXES:
        yield path
    else:
        left_out.add(path, suffix or "extensionless file")

"""Folders that exports write: a list in each names the files that the export made, and only those are ever replaced.

The list may come from a stranger. No path in it is followed out of the folder, or through a link.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec

from stockroom.errors import InvalidInputError
from stockroom.files import find_regular, replace_own_file, try_exchange

LIST_NAME: Final = ".stockroom-export"
_MAX_NBYTES: Final = 1 << 30


class _List(msgspec.Struct, frozen=True):
    """The paths of the files that an export made, relative to its folder, with `/` between folders."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    files: list[str]


def publish_folder(part: Path, folder: Path) -> None:
    """Move a finished export to `folder`, where it replaces the files of an earlier export and nothing else.

    In one step, unless `folder` holds other files or the file system cannot exchange folders. If other files are in
    the way, raises `InvalidInputError` and changes nothing; `part` stays.
    """
    new = list(_iter_files(part))
    if not os.path.lexists(folder):
        _write_list(part, new)
        part.rename(folder)
        return
    old = set(_read_list(folder))
    _check_free(folder, new, old)
    if old.union(_glob_lists(folder)).issuperset(_iter_files(folder)):
        _write_list(part, new)
        if try_exchange(part, folder):
            _remove(part, [*old, *_glob_lists(part)])
            with suppress(OSError):  # a file has appeared in it meanwhile: it is not ours
                part.rmdir()
            return
        (part / _choose_list_path(part)).unlink()
    _write_list(folder, [*old, *new])
    for path in new:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (part / path).replace(folder / path)
    stale = set(_glob_lists(folder)) - {_choose_list_path(folder)}
    _write_list(folder, new)
    _remove(folder, [*old.difference(new), *stale])
    shutil.rmtree(part)


def _iter_files(folder: Path) -> Iterator[str]:
    """Yield the path of every file, link and empty folder in a folder."""
    for parent, folders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from ((inside / name).as_posix() for name in (*names, *links))
        if not folders and not names and inside.parts:
            yield inside.as_posix()


def _check_free(folder: Path, new: Iterable[str], old: Collection[str]) -> None:
    """Raise `InvalidInputError` if something other than a file of an earlier export has the name of a new file."""
    parents: set[Path] = set()
    for path in new:
        target = folder / path
        is_taken = os.path.lexists(target) and (path not in old or (target.is_dir() and not target.is_symlink()))
        above = None if target.parent in parents else _find_obstacle(folder, target.parent)
        parents.add(target.parent)
        if is_taken or above is not None:
            raise InvalidInputError(
                f"{above or target} is in the way, and no earlier export made it; move it away, or choose another "
                "folder"
            )


def _find_obstacle(folder: Path, parent: Path) -> Path | None:
    """Return the first folder from `folder` down to `parent` that is a file or a link, or None."""
    inside = parent.relative_to(folder).parts
    for count in range(1, len(inside) + 1):
        target = folder.joinpath(*inside[:count])
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            return target
    return None


def _remove(folder: Path, paths: Iterable[str]) -> None:
    """Remove files, and the folders that they leave empty."""
    parents: dict[Path, bool] = {}
    for path in paths:
        target = folder / path
        if target.parent not in parents:
            parents[target.parent] = _find_obstacle(folder, target.parent) is None
        if parents[target.parent]:
            with suppress(OSError):  # it is gone, or a folder now
                target.unlink()
    above = {each for parent in parents for each in (parent, *parent.parents) if folder in each.parents}
    for each in sorted(above, key=lambda each: -len(each.parts)):
        with suppress(OSError):  # it holds other files
            each.rmdir()


def _choose_list_path(folder: Path) -> str:
    """Return the path of the list. In a Zarr group it lies in the first array: readers take all names for members."""
    if not (folder / "zarr.json").is_file() or (folder / "c").is_dir():
        return LIST_NAME
    first = min((path.parent.name for path in folder.glob("*/zarr.json")), default=None)
    return LIST_NAME if first is None else f"{first}/{LIST_NAME}"


def _glob_lists(folder: Path) -> list[str]:
    """Return the paths of the lists in a folder: one, unless an export was killed."""
    is_zarr = (folder / "zarr.json").is_file()
    found = [*folder.glob(LIST_NAME), *(folder.glob(f"*/{LIST_NAME}") if is_zarr else ())]
    return [path.relative_to(folder).as_posix() for path in found]


def _write_list(folder: Path, files: Iterable[str]) -> None:
    replace_own_file(folder / _choose_list_path(folder), msgspec.json.encode(_List(1, sorted(set(files)))))


def _read_list(folder: Path) -> Iterator[str]:
    """Yield the files that an earlier export made, as far as its list can be read and names files in the folder."""
    for path in _glob_lists(folder):
        content = find_regular(folder / path, max_nbytes=_MAX_NBYTES)
        with suppress(msgspec.DecodeError, RecursionError):
            yield from filter(_is_inside, msgspec.json.decode(content or b"", type=_List).files)


def _is_inside(path: str) -> bool:
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))

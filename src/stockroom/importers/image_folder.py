"""`stock import imagefolder DIR`: the images of a folder as columns `image`, `label` and `path`.

The folder directly below DIR is an image's class. Classes are in the order of names, as in torchvision's ImageFolder.
Owns the common mode of all images, and the report of broken ones and of those that arrays cannot hold.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.column_attrs import keep_attrs
from stockroom.importers.image_tree import SUFFIXES, list_images
from stockroom.importers.left_out import LeftOut
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, TableSource
from stockroom.shelves.data.images import (
    FORMATS,
    HEAD_NBYTES,
    MODE_CHANNELS,
    check_image,
    count_further_pictures,
    decode_image,
    find_loss,
    load_pillow,
    measure_upright,
    natural_mode,
)
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

IN_FLIGHT_NBYTES: Final = 64 << 20
"""The most bytes of pixels decoded ahead of writing, exceeded by at most one image."""

_DEEP_DTYPES: Final = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}
_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image: its path below the folder, and the content of its header, which is empty if it is broken.

    `loss` is its kind if an array cannot hold it. `extras` are the parts beside its pixels that an array does not hold:
    a kind and a unit each.
    """

    path: str
    mode: str = ""
    shape: tuple[int, int] = (0, 0)
    error: str = ""
    loss: str | None = None
    extras: tuple[tuple[str, str], ...] = ()

    @property
    def nbytes(self) -> int:
        """The bytes of its pixels, at most."""
        return self.shape[0] * self.shape[1] * 4


class ImageFolderImporter(Importer):
    """Reads folders of JPEG, PNG, WebP and BMP files of any sizes, through Pillow."""

    name = "imagefolder"

    def open(self, spec: ImportSpec) -> Sequence[TableSource]:
        """Return the table of the images in the one folder that `spec` names. Reads the header of every file."""
        folder = _locate_folder(spec)
        load_pillow(f"{folder}")
        left_out = LeftOut()
        files = [_read_header(folder, path) for path in list_images(folder, left_out)]
        kept = files if spec.keep_encoded else [file for file in files if _is_kept(file, left_out)]
        if not kept:
            beside = f"; left out {left_out.summarize()}" if left_out else ""
            hint = "; --keep-encoded keeps images as they are" if files else ""
            raise InvalidInputError(
                f"{folder}: expected images ({', '.join(SUFFIXES)}) in it or below, found none{beside}{hint}"
            )
        return [_ImageTable(folder, kept, spec, left_out).describe()]


def _is_kept(file: ImageFile, left_out: LeftOut) -> bool:
    """Return whether an array can hold an image, and count what it does not hold."""
    if file.loss:
        left_out.add(file.path, file.loss)
    else:
        for kind, unit in file.extras:
            left_out.add(file.path, kind, unit)
    return not file.loss


def choose_mode(files: Sequence[ImageFile], where: str, *, may_differ: bool = False) -> str:
    """Return a mode that all images convert to without loss: L, RGB or RGBA, or a deeper one that all have.

    Returns an empty mode if there is none and modes `may_differ`; otherwise raises `InvalidInputError`.
    """
    modes = {file.mode for file in files if not file.error}
    if not modes - MODE_CHANNELS.keys():
        return next((mode for mode in ("RGBA", "RGB") if mode in modes), "L")
    if len(modes) == 1:
        return modes.pop()
    if may_differ:
        return ""
    raise InvalidInputError(
        f"{where}: expected 8-bit images, or images of one mode, found {', '.join(sorted(modes))}; import images of "
        "more bits from a separate folder"
    )


class _ImageTable:
    """The table of some files, as `open` returns it."""

    def __init__(self, folder: Path, files: Sequence[ImageFile], spec: ImportSpec, left_out: LeftOut) -> None:
        self._folder = folder
        self._files = files
        self._spec = spec
        self._left_out = left_out
        self._mode = choose_mode(files, str(folder), may_differ=spec.keep_encoded)
        self._decoder = f"image:{self._mode}" if self._mode in MODE_CHANNELS else "image"
        self._classes = sorted({file.path.partition("/")[0] for file in files if "/" in file.path})
        self._labels = {name: label for label, name in enumerate(self._classes)}
        self._prefix = f"{spec.split}-" if spec.split else ""
        self._broken: list[str] = []

    def describe(self) -> TableSource:
        name, plans = f"{self._prefix}image", self._plan()
        return TableSource(name, plans, len(self._files), self._iter_batches, self._broken, self._left_out)

    def _plan(self) -> list[ColumnPlan]:
        if self._spec.keep_encoded:
            image = ColumnPlan(f"{self._prefix}image", Schema("bytes", (None,)), decoder=self._decoder)
        else:
            image = ColumnPlan(f"{self._prefix}image", Schema(_DEEP_DTYPES.get(self._mode, "uint8"), self._shape()))
        plans = [image, ColumnPlan(f"{self._prefix}path", Schema("str", (None,)))]
        if self._classes:
            attrs = keep_attrs({"classes": self._classes}, f"column {self._prefix}label", self._left_out)
            plans.insert(1, ColumnPlan(f"{self._prefix}label", Schema("int64", ()), attrs))
        return plans

    def _shape(self) -> tuple[int | None, ...]:
        """Return the shape of all images, with None for a side that differs."""
        shapes = {file.shape for file in self._files if not file.error}
        lengths = [{shape[axis] for shape in shapes} for axis in (0, 1)]
        sides = (each.pop() if len(each) == 1 else None for each in lengths)
        return (*sides, *MODE_CHANNELS.get(self._mode, ()))

    def _iter_batches(self) -> Iterator[dict[str, Values]]:
        """Yield batches of some 8 MiB. Raises `CorruptionError` after the last if broken files must not be skipped."""
        self._broken.clear()
        batch: list[tuple[str, Any]] = []
        nbytes = 0
        for path, image in self._iter_images():
            if self._broken and not self._spec.skip_broken:
                continue  # this import fails; go on only to name every broken file
            batch.append((path, image))
            nbytes += len(image) if isinstance(image, bytes) else image.nbytes
            if nbytes >= BATCH_NBYTES:
                yield self._name_columns(batch)
                batch, nbytes = [], 0
        if self._broken and not self._spec.skip_broken:
            raise self._make_error()
        if batch:
            yield self._name_columns(batch)

    def _iter_images(self) -> Iterator[tuple[str, Any]]:
        """Yield whole images in order, decoded by threads some way ahead; note those that are broken."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            flying: deque[tuple[ImageFile, Future[Any]]] = deque()
            nbytes = 0
            for file in self._files:
                flying.append((file, threads.submit(self._load, file)))
                nbytes += file.nbytes
                while nbytes > IN_FLIGHT_NBYTES or len(flying) > BATCH_NBYTES >> 14:
                    done, image = flying.popleft()
                    nbytes -= done.nbytes
                    yield from self._take(done, image)
            for done, image in flying:
                yield from self._take(done, image)

    def _load(self, file: ImageFile) -> Any:
        """Return the pixels of a file, or its bytes, after checking that it is whole. Raises if it is broken."""
        if file.error:
            raise InvalidInputError(f"{file.path}: {file.error}")
        data = (self._folder / file.path).read_bytes()
        if self._spec.keep_encoded:
            check_image(data, file.path)
            return data
        pixels = decode_image(data, self._decoder, file.path, writable=False)
        if pixels.shape[:2] != file.shape:
            raise InvalidInputError(f"{file.path}: its EXIF orientation is at its end; keep it with --keep-encoded")
        return pixels

    def _take(self, file: ImageFile, image: Future[Any]) -> Iterator[tuple[str, Any]]:
        try:
            yield file.path, image.result()
        except (InvalidInputError, OSError) as error:
            self._broken.append(str(error))

    def _name_columns(self, batch: Sequence[tuple[str, Any]]) -> dict[str, Values]:
        paths = [path for path, _ in batch]
        columns: dict[str, Values] = {f"{self._prefix}image": [image for _, image in batch]}
        if self._classes:
            columns[f"{self._prefix}label"] = [self._labels.get(path.partition("/")[0]) for path in paths]
        return columns | {f"{self._prefix}path": paths}

    def _make_error(self) -> CorruptionError:
        more = f"; and {len(self._broken) - _LISTED} more" if len(self._broken) > _LISTED else ""
        return CorruptionError(
            f"{self._folder}: {len(self._broken)} of {len(self._files)} files are broken: "
            f"{'; '.join(self._broken[:_LISTED])}{more}; fix them, or skip them with --skip-broken",
            where=str(self._folder),
        )


def _locate_folder(spec: ImportSpec) -> Path:
    given = [*spec.paths] or ([Path()] if spec.root else [])
    if len(given) != 1:
        raise InvalidInputError(f"expected one folder of images to import, found {len(given)}")
    folder = (spec.root or Path()) / given[0] / (spec.split or "")
    if not folder.is_dir():
        raise InvalidInputError(f"expected a folder of images, found none at {folder}; check the path")
    return folder


def _iter_extras(image: Any) -> Iterator[tuple[str, str]]:
    """Yield the parts of a file that are not pixels of its image: a kind and a unit each."""
    if image.info.get("icc_profile"):
        yield "color profile", "color profile"
    for _ in range(count_further_pictures(image)):
        yield "further picture", "picture"


def _read_header(folder: Path, path: str) -> ImageFile:
    try:
        with load_pillow(path).open(folder / path, formats=FORMATS) as image, (folder / path).open("rb") as file:
            loss = find_loss(image, file.read(HEAD_NBYTES)) or ("CMYK image" if image.mode == "CMYK" else None)
            shape, extras = measure_upright(image), tuple(_iter_extras(image))
            return ImageFile(path, natural_mode(image), shape, loss=loss, extras=extras)
    except InvalidInputError:
        raise
    except Exception as error:  # Pillow's readers can raise anything
        return ImageFile(path, error=f"not a readable image: {error}")

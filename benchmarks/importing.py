"""Importing real images, bounded by what decodes them."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from materials import Materials
from row import Row, compare_rates
from stockroom.importers.image_folder import ImageFolderImporter
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec
from writing import FreshRepository

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "demo"))
import real_data

ROUNDS = 5


def import_images(materials: Materials) -> Iterator[Row]:
    """PNG files of a thousand sizes into a column, with labels and paths, beside decoding the same files by Pillow."""
    try:
        files = _copy_images(materials)
    except real_data.MaterialUnavailableError as error:
        print(f"import_images is left out: {error}", file=sys.stderr)
        return
    folder = materials.folder / "images"
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    with FreshRepository(materials.folder) as fresh:

        def decode(_: int) -> None:
            for file in files:
                _decode(file)

        def bring_in(_: int) -> None:
            with fresh.stock.enable_write("Import images") as stock:
                sources = ImageFolderImporter().open(ImportSpec("imagefolder", paths=(folder,), skip_broken=True))
                import_into(stock, sources)

        pair = materials.stopwatch.compare(decode, bring_in, rounds=ROUNDS, after=fresh.renew)
        bring_in(0)
        image, path = fresh.stock.data["image"], fresh.stock.data["path"]
        assert len(image) >= 0.99 * len(files)
        for key in np.linspace(0, len(image) - 1, 20).astype(int).tolist():
            assert np.array_equal(image[key], _decode(folder / str(path[key])))
    yield compare_rates(f"import of {len(files):,} PNG images of many sizes", pair, at_least_ratio=0.8)


def _copy_images(materials: Materials) -> list[Path]:
    """Every so many-th file of the collection, in folders by subject, on the disk to be measured."""
    collection = real_data.openclipart()
    found = sorted(file for file in collection.rglob("*.png") if not file.is_symlink())
    copies = []
    for file in found[:: materials.sizes.image_stride]:
        copy = materials.folder / "images" / file.relative_to(collection)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copies.append(Path(shutil.copyfile(file, copy)))
    return copies


def _decode(file: Path) -> np.ndarray | None:
    """The pixels, as RGBA; None of an image that Pillow takes for a bomb."""
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGBA"))
    except Image.DecompressionBombError:
        return None

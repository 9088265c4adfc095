"""Real images of many sizes in one column of variable shape: openclipart's PNG files, their folders as labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.kit.packs import measure_packs
from torch.utils.data import DataLoader

from stockroom import StockRoom, make_torch_dataset

STRIDE = 23  # of 6,900 files, about 300


@pytest.fixture(scope="module")
def clipart(openclipart):
    """Path below the collection -> RGBA pixels `(height, width, 4)`."""
    files = sorted(openclipart.rglob("*.png"))[::STRIDE]
    pixels = {}
    for file in files:
        with Image.open(file) as image:
            pixels[str(file.relative_to(openclipart))] = np.asarray(image.convert("RGBA"))
    return pixels


@pytest.fixture(scope="module")
def room(clipart, tmp_path_factory):
    with StockRoom.init(tmp_path_factory.mktemp("clipart")) as stock:
        with stock.enable_write("clip art"):
            image = stock.data.create("image", dtype="uint8", shape=(None, None, 4), keys="str")
            image.update(clipart)
            stock.data["label"] = {name: name.split("/")[0] for name in clipart}
        yield stock


def test_images_of_many_sizes_come_back_pixel_for_pixel(room, clipart):
    assert len({pixels.shape for pixels in clipart.values()}) > 50
    with StockRoom(room.path) as stock:
        image = stock.data["image"]
        assert list(image) == sorted(clipart)
        for name, pixels in clipart.items():
            np.testing.assert_array_equal(image[name], pixels)
        assert image.nbytes == sum(pixels.nbytes for pixels in clipart.values())


def test_a_batch_of_many_sizes_is_a_list_in_the_order_asked_for(room, clipart):
    names = sorted(clipart)
    positions = np.random.default_rng(0).integers(0, len(names), 64)
    for position, pixels in zip(positions, room.data["image"].take(positions), strict=True):
        np.testing.assert_array_equal(pixels, clipart[names[position]])


def test_a_loader_with_workers_gives_images_of_many_sizes(room, clipart):
    dataset = make_torch_dataset({"image": room.data["image"], "label": room.data["label"]})
    loader = DataLoader(dataset, batch_size=16, num_workers=2, collate_fn=list)
    samples = [sample for batch in loader for sample in batch]
    assert [sample["label"] for sample in samples] == [name.split("/")[0] for name in sorted(clipart)]
    for name, sample in zip(sorted(clipart), samples, strict=True):
        np.testing.assert_array_equal(sample["image"].numpy(), clipart[name])


def test_the_same_images_under_other_names_are_stored_once(room, clipart, tmp_path):
    with StockRoom.init(tmp_path) as stock:
        with stock.enable_write("once"):
            stock.data["image"] = dict(clipart)
        once = measure_packs(tmp_path, "c.*")
        with stock.enable_write("and again"):
            stock.data["copy"] = {f"copy of {name}": pixels for name, pixels in clipart.items()}
        assert measure_packs(tmp_path, "c.*") == once

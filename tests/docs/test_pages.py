"""Every block of the README and the guide is run as written, and prints what the page says.

After a change that shows in them, `STOCKROOM_PASTE=1 pytest tests/docs` pastes what is printed into the pages: read the
difference before you commit it.
"""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.docs.pages import Reader, normalise, parse_page, paste

ROOT = Path(__file__).parents[2]
GUIDE = ("first-steps", "data", "training", "history", "sharing")
PASTE = os.environ.get("STOCKROOM_PASTE") == "1"


def follow(reader: Reader, page: Path) -> None:
    """Run a page; what its blocks print is what it says, but for what differs from run to run."""
    text = page.read_text("utf-8")
    bodies = []
    for block, body in reader.follow(text):
        bodies.append((block, body))
        if not (PASTE or block.note):
            line = text[: block.start].count("\n") + 1
            assert normalise(body) == normalise(block.body), f"{page.name}, the block at line {line}"
    if PASTE:
        page.write_text(paste(text, bodies), "utf-8")


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), 1))


def make_fashion_mnist(folder: Path) -> None:
    """Four files of the form and size of Fashion-MNIST, of which a net can learn something."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 120, (10, 28, 28))
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        labels[7] = 2
        if name == "train":
            labels[-5:] = [5, 1, 3, 0, 5]
        images = (classes[labels] + rng.integers(0, 130, (count, 28, 28))).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)


def make_signs(folder: Path) -> None:
    """Twelve images of many sizes in a folder for each class, and one that is torn."""
    for number in range(12):
        path = folder / ("animals", "plants")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (40 + 13 * number, 50 + 7 * (number % 5), 4)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, np.uint8)).save(path)
    (folder / "animals" / "torn.png").write_bytes(b"not an image")


@pytest.mark.timeout(600)
def test_the_guide(tmp_path: Path) -> None:
    """Its pages, one after the other."""
    reader = Reader(tmp_path)
    make_fashion_mnist(reader.home / "fashion-mnist")
    make_signs(reader.home / "signs")
    (reader.home / "notes.csv").write_text(
        "name,weight (g),picked,sweet\npear,181,2026-09-02,true\nfig,,2026-09-05,true\nquince,240.5,2026-10-11,false\n"
    )
    for name in GUIDE:
        follow(reader, ROOT / f"docs/guide/{name}.md")


@pytest.mark.timeout(600)
def test_the_readme(tmp_path: Path) -> None:
    follow(Reader(tmp_path), ROOT / "README.md")


@pytest.mark.timeout(600)
def test_what_ada_and_ben_do_beside_git(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for user in ("ben", "ada"):
        reader.become(user)
        reader.run(f"git config --global user.name {user} && git config --global user.email {user}@example.org")
        reader.run("git config --global init.defaultBranch main && git config --global advice.detachedHead false")
    reader.run("git init -q --bare ~/../share/pets.git")
    follow(reader, ROOT / "docs/guide/git.md")


def test_every_page_of_the_guide_is_followed_and_every_block_has_a_language() -> None:
    assert {path.stem for path in (ROOT / "docs/guide").glob("*.md")} == {*GUIDE, "git", "places"}
    for page in [ROOT / "README.md", *(ROOT / "docs/guide").glob("*.md")]:
        for block in parse_page(page.read_text("utf-8")):
            assert block.note == "not run" or block.language in ("python", "console"), f"{page.name}: {block.body}"

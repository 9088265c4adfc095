"""What notebooks show: escaped, bounded, and nothing fetched for it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from stockroom import StockRoom
from stockroom.shelves.data.notebook import make_thumbnail

HOSTILE = "<script>alert(1)</script>&\"'<img src=x onerror=alert(1)>"
RNG = np.random.default_rng(0)
ALLOWED = {"div", "p", "b", "table", "tr", "th", "td", "img"}


class Tags(HTMLParser):
    """Collects tags, and checks that each is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(text: str) -> Tags:
    tags = Tags(text)
    assert {tag for tag, _ in tags.seen} <= ALLOWED
    assert all(set(attrs) <= {"style", "src", "alt"} for _, attrs in tags.seen)
    assert all(attrs["src"].startswith("data:image/png;base64,") for tag, attrs in tags.seen if tag == "img")
    assert len(text) < 400_000
    return tags


def pictures(text: str) -> list[np.ndarray]:
    found = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


@pytest.fixture
def shown(stock):
    with stock.enable_write(HOSTILE) as writer:
        data = writer.data
        data["image"] = RNG.integers(0, 256, (40, 32, 32, 3), np.uint8)
        data["image"].attrs = {HOSTILE: HOSTILE, "long": "x" * 10_000}
        data["text"] = {HOSTILE: HOSTILE * 50, "other": "\ud800 lone"}
        data["number"] = np.arange(5)
        data["scan"] = [RNG.random((100 + n, 300), np.float32) for n in range(3)]
        data["raw"] = [b"\x00<b>"]
        photo = data.create("photo", decoder="image")
        photo[0] = b"<script>no image"
        writer.model["net"] = {"w": np.zeros(3)}
        writer.experiment["lr"] = 0.1
    return stock


def test_everything_that_notebooks_show_is_escaped_and_bounded(shown):
    with shown.enable_write("more") as writer:
        del writer.data["number"]
        texts = [thing._repr_html_() for thing in (writer, writer.data, writer.diff(), *writer.data.values())]
    commits = list(shown.log())
    texts += [commit._repr_html_() for commit in commits]
    texts += [thing._repr_html_() for thing in (shown, shown.model, shown.experiment, shown.diff("HEAD", "HEAD~1"))]
    for text in texts:
        check(text)
        assert "<script>" not in text
    assert "&lt;script&gt;" in shown.data["text"]._repr_html_()
    assert "data/image" in shown._repr_html_()
    assert "model/net" in shown._repr_html_()
    assert "removed" in shown.diff("HEAD~1", "HEAD")._repr_html_()
    shown.close()
    assert shown._repr_html_() is None


def test_images_are_shown_as_they_are_and_large_ones_smaller(shown):
    found = pictures(shown.data["image"]._repr_html_())
    assert len(found) == 12
    np.testing.assert_array_equal(found[3], shown.data["image"][3])
    assert [picture.shape for picture in pictures(shown.data["scan"]._repr_html_())] == [(50, 60), (51, 60), (51, 60)]
    assert "cannot decode the image" in shown.data["photo"]._repr_html_()


def test_many_columns_are_cut(stock):
    with stock.enable_write("many") as writer:
        for n in range(60):
            writer.data[f"column{n}"] = [n]
    text = stock.data._repr_html_()
    assert text.count("<tr>") == 51
    assert "and more" in text
    assert "data/column59" not in text


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros((3, 32, 40), np.uint8), (32, 40, 3)),
        (np.zeros((32, 40, 1), np.uint8), (32, 40)),
        (np.full((9, 9), np.nan), (9, 9)),
        (np.eye(9, dtype=bool), (9, 9)),
        (np.zeros((5000, 10), np.int64), (64, 10)),
        (np.zeros((3, 3), np.uint8), None),
        (np.zeros((9, 9), np.complex64), None),
        (np.zeros((9, 9, 7)), None),
        (np.zeros(9), None),
    ],
)
def test_what_is_a_picture(array, shape):
    picture = make_thumbnail(array)
    assert (None if picture is None else picture.shape) == shape


def test_a_giant_sample_is_not_read(stock):
    with stock.enable_write("giant") as writer:
        writer.data["giant"] = [np.zeros((5000, 5000), np.uint8)]
    text = stock.data["giant"]._repr_html_()
    assert "too large to show" in text
    assert not pictures(text)


@pytest.mark.parametrize("chunked", [False, True], ids=["one shape", "many shapes"])
def test_nothing_is_fetched_and_no_agent_started_for_what_is_not_here(stock, tmp_path, chunked):
    with stock.enable_write("first") as writer:
        shapes = [(40, 40 + n * chunked) for n in range(3)]
        writer.data["image"] = [RNG.integers(0, 256, shape, np.uint8) for shape in shapes]
    stock.add_remote("origin", str(tmp_path / "remote"))
    stock.push()
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", metadata_only=True) as clone:
        before = set((tmp_path / "clone").rglob("*"))
        text = clone.data["image"]._repr_html_() + clone._repr_html_()
        assert "not on this machine" in text
        assert set((tmp_path / "clone").rglob("*")) == before
        clone.prefetch("data/image", keys=[1])
        assert len(pictures(clone.data["image"]._repr_html_())) == 1

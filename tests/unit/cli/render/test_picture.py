"""Samples that people can look at: which are pictures, and how they are drawn."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from stockroom import InvalidInputError
from stockroom.cli.render.picture import find_pixels, iter_picture_lines, shrink
from stockroom.cli.render.picture_file import open_viewer, save_picture
from stockroom.cli.render.sample import describe_shortly, draw_look, find_curve

CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+)m\x1b\[48;2;(\d+);(\d+);(\d+)m▀")
random = np.random.default_rng(3)


def make_bytes(*shape: int) -> np.ndarray:
    return random.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 7), (5, 7)),
        ((5, 7, 3), (5, 7, 3)),
        ((5, 7, 4), (5, 7, 4)),
        ((3, 5, 7), (5, 7, 3)),
        ((1, 5, 7), (5, 7)),
        ((5, 7, 1), (5, 7)),
        ((3, 5, 3), (3, 5, 3)),
    ],
)
def test_pictures_are_known_by_their_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    pixels = find_pixels(make_bytes(*shape))
    assert pixels is not None
    assert pixels.shape == expected


def test_channels_that_come_first_are_moved_to_the_end() -> None:
    planes = make_bytes(3, 5, 7)
    assert np.array_equal(find_pixels(planes), planes.transpose(1, 2, 0))


@pytest.mark.parametrize("sample", ["text", b"bytes", np.arange(6.0).reshape(2, 3), make_bytes(5), make_bytes(2, 5, 7),
                                    make_bytes(0, 4), make_bytes(2, 2, 2, 3)])  # fmt: skip
def test_other_samples_are_no_pictures(sample: object) -> None:
    assert find_pixels(sample) is None


def test_two_rows_of_pixels_make_one_line_of_characters() -> None:
    pixels = make_bytes(4, 3, 3)
    lines = list(iter_picture_lines(pixels, columns=80, lines=40))
    assert len(lines) == 2
    drawn = [[tuple(map(int, cell)) for cell in CELL.findall(line)] for line in lines]
    expected = [[(*pixels[y, x].tolist(), *pixels[y + 1, x].tolist()) for x in range(3)] for y in (0, 2)]
    assert drawn == expected
    assert all(line.endswith("\x1b[0m") for line in lines)


def test_an_odd_last_row_leaves_the_terminal_as_it_is_below() -> None:
    *_, last = iter_picture_lines(make_bytes(3, 2), columns=80, lines=40)
    assert last.count("\x1b[49m") == 2


def test_a_picture_is_no_larger_than_the_terminal_and_keeps_its_form() -> None:
    lines = list(iter_picture_lines(make_bytes(300, 600, 3), columns=60, lines=100))
    assert len(lines) == 15
    assert {len(CELL.findall(line)) for line in lines} == {60}
    assert len(list(iter_picture_lines(make_bytes(3000, 10), columns=60, lines=20))) <= 20


def test_shrinking_takes_the_mean_of_what_a_pixel_stands_for() -> None:
    rgb = make_bytes(10, 12, 3)
    expected = rgb.reshape(2, 5, 3, 4, 3).astype(int).mean(axis=(1, 3)).astype(np.uint8)
    assert np.array_equal(shrink(rgb, 2, 3), expected)
    assert np.array_equal(shrink(rgb, 10, 12), rgb)


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((2, 1, 4), np.uint8)
    pixels[1, 0, 3] = 255
    (line,) = iter_picture_lines(pixels, columns=9, lines=9)
    assert CELL.findall(line) == [("255", "255", "255", "0", "0", "0")]


def test_rows_of_numbers_are_curves() -> None:
    assert find_curve(np.arange(8), width=8) == "▁▂▃▄▅▆▇█"
    assert find_curve(np.array([np.nan, 1.0, 2.0]), width=3) == " ▁█"
    assert find_curve(np.array([np.nan, np.nan]), width=3) is None
    assert find_curve(np.array(["2020", "2021"], "M8[Y]"), width=3) is None
    assert find_curve(np.ones((2, 2)), width=3) is None


def test_any_sample_fits_in_a_line() -> None:
    assert describe_shortly("a\n b", width=10) == "a b"
    assert describe_shortly("x" * 50, width=10) == "x" * 9 + "…"
    assert describe_shortly(b"abc", width=10) == "3 bytes"
    assert describe_shortly(np.array(7), width=10) == "7"
    assert describe_shortly(np.ones((2, 3)), width=10) == "float64 2x3"
    assert draw_look("text") == []


def decode_png(data: bytes) -> np.ndarray:
    """The pixels of a PNG file without filters, read here without any of our code."""
    width, height, _, colour = struct.unpack(">IIBB", data[16:26])
    start = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[start - 8 : start - 4])[0]
    channels = {0: 1, 2: 3, 6: 4}[colour]
    lines = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(height, -1)
    return lines[:, 1:].reshape(height, width, channels)


def test_a_png_file_has_the_samples_pixels(tmp_path: Path) -> None:
    planes = make_bytes(3, 5, 7)
    path = save_picture(planes, tmp_path / "a.png")
    assert np.array_equal(decode_png(path.read_bytes()), planes.transpose(1, 2, 0))


def test_a_png_file_replaces_nothing_and_is_made_of_pictures_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mine")
    with pytest.raises(InvalidInputError, match="already exists"):
        save_picture(make_bytes(2, 2), tmp_path / "a.png")
    with pytest.raises(InvalidInputError, match="not a picture"):
        save_picture(np.arange(3), None)
    assert (tmp_path / "a.png").read_text() == "mine"


def test_without_a_desktop_nothing_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not open_viewer(tmp_path / "a.png")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not open_viewer(tmp_path / "a.png")

"""Saves a sample as a PNG file, and shows it with the desktop's viewer if there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from stockroom.cli.render.picture import Pixels, find_pixels
from stockroom.errors import InvalidInputError
from stockroom.shelves.png import encode_png

_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY")


def save_picture(sample: object, target: Path | None) -> Path:
    """Write a sample as a PNG file, new at `target` or temporary, and return its path; raises `InvalidInputError`."""
    pixels = find_pixels(sample)
    if pixels is None:
        from stockroom.shelves.data.values import describe_value  # here for start-up time

        raise InvalidInputError(
            "not a picture: expected uint8 of shape (h, w), (h, w, 3), (h, w, 4) or (3, h, w), "
            f"found {describe_value(sample)}"
        )
    if target is None:
        return _save_temporary(pixels)
    try:
        with target.open("xb") as file:
            file.write(encode_png(pixels))
    except FileExistsError as error:
        raise InvalidInputError(f"{target} already exists; choose another name") from error
    return target


def open_viewer(path: Path) -> bool:
    """Show a file with the desktop's viewer; False if there is no desktop."""
    if sys.platform != "darwin" and not any(os.environ.get(name) for name in _DISPLAYS):
        return False
    program = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if program is None:
        return False
    subprocess.Popen(  # noqa: S603 - the machine's own viewer
        [program, str(path.absolute())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return True


def _save_temporary(pixels: Pixels) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="stockroom-", suffix=".png")
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(encode_png(pixels))
    return Path(name)

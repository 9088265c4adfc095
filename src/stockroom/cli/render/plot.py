"""Draws curves to a file with matplotlib, an optional extra: PNG, SVG, or an HTML page that contains the SVG."""

from __future__ import annotations

import contextlib
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stockroom.content.printable import as_line
from stockroom.errors import InvalidInputError
from stockroom.files import open_whole

if TYPE_CHECKING:
    from stockroom import Series

SUFFIXES: Final = (".png", ".svg", ".html")

_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body style="font-family: sans-serif; margin: 2em">
<h1>{title}</h1>
{svg}
</body></html>
"""


def write_plot(path: Path, metric: str, curves: Mapping[str, Series]) -> None:
    """Draw `curves` by label to a file ending in one of `SUFFIXES`; raises `InvalidInputError` without matplotlib."""
    data = _encode(_draw(metric, curves), path.suffix.lower(), metric)
    with open_whole(path) as file:
        file.write(data)


def _draw(metric: str, curves: Mapping[str, Series]) -> Any:
    try:
        with contextlib.chdir("/"):  # matplotlib reads a `matplotlibrc` where it is imported, which can have it run TeX
            from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInputError(
            "drawing to a file needs matplotlib: install it with `pip install 'stockroom-vcs[plot]'`, or omit -o to "
            "see the curve here"
        ) from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for label, (steps, values) in curves.items():
        finite = np.where(np.isfinite(values), values, np.nan)  # NaN leaves a gap
        axes.plot(steps, finite, label=_escape(label), marker="." if len(steps) < 50 else None)
    axes.set_xlabel("step")
    axes.set_ylabel(_escape(metric))
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend()
    return figure


def _encode(figure: Any, suffix: str, metric: str) -> bytes:
    drawn = io.BytesIO()
    if suffix == ".png":
        figure.savefig(drawn, format="png", dpi=150)
        return drawn.getvalue()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    if suffix == ".svg":
        return drawn.getvalue()
    svg = drawn.getvalue().decode()
    return _PAGE.format(title=html.escape(as_line(metric)), svg=svg[svg.index("<svg") :]).encode()


def _escape(text: str) -> str:
    """Return `text` on one line with dollar signs escaped; matplotlib reads text between them as math."""
    return as_line(text).replace("$", r"\$")

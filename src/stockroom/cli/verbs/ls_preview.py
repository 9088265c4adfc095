"""`stock ls --preview`: the keys of a column, each with what its sample looks like."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from stockroom.cli.render.printable import format_key
from stockroom.cli.render.sample_look import describe_shortly, draw_look

if TYPE_CHECKING:
    from stockroom import Column
    from stockroom.cli.console import Console

_SAMPLES: Final = 20
_WIDTH: Final = 60
_THUMBNAIL: Final = (32, 8)
"""Characters and lines of a picture at most."""


def list_looks(console: Console, column: Column, *, n: int | None) -> None:
    """Print the first `n` keys (None: 20) with their samples: pictures where there are colours, else a few words."""
    keys = list(islice(column.keys_as_stored(), _SAMPLES if n is None else n))
    if console.json:
        looks = [{"key": key, "look": describe_shortly(column[key], width=_WIDTH)} for key in keys]
        console.document({"path": f"data/{column.name}", "samples": looks})
        return
    columns, lines = _THUMBNAIL
    for key in keys:
        sample = column[key]
        drawn = draw_look(sample, columns=columns, lines=lines) if console.has_colours else []
        console.line(format_key(key) if drawn else f"{format_key(key)}  {describe_shortly(sample, width=_WIDTH)}")
        console.draw(drawn)
    if n is None and len(column) > len(keys):
        console.say(f"and {len(column) - len(keys)} more: -n shows more of them")

"""Values of experiments as JSON, which has fewer kinds of them."""

from __future__ import annotations

import json
import math

import ml_dtypes
import numpy as np
import pytest

from stockroom.cli.render.experiment import as_json, shorten
from stockroom.shelves.experiment.cells import Outline


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (True, True),
        (np.bool_(True), True),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3),
        (1 << 70, 1 << 70),
        (None, None),
        ("ä\0", "ä\0"),
        (math.nan, "NaN"),
        (np.float16(np.inf), "Infinity"),
        (-math.inf, "-Infinity"),
        (1 + 2j, "(1+2j)"),
        (np.complex64(2j), "2j"),
        (np.datetime64("2026-07-01"), "2026-07-01"),
        (ml_dtypes.bfloat16(1.5), 1.5),
        (b"\xff", {"base64": "/w=="}),
        ((1, [math.nan]), [1, ["NaN"]]),
        ({3: {"a": b""}}, {"3": {"a": {"base64": ""}}}),
        (Outline("float32 (3, 4)", "00"), "float32 (3, 4)"),
        (np.array([[1.0, np.nan]]), {"dtype": "float64", "shape": [1, 2], "values": [[1.0, "NaN"]]}),
        (np.array([1], ml_dtypes.bfloat16), {"dtype": "bfloat16", "shape": [1], "values": [1.0]}),
        (np.array(3, "m8[s]"), {"dtype": "timedelta64[s]", "shape": [], "values": "3 seconds"}),
    ],
)
def test_every_value_has_a_form_in_strict_json(value: object, document: object) -> None:
    assert as_json(value) == document
    assert type(as_json(value)) is type(document)
    json.dumps(as_json(value), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "line"), [("short", "short"), ("a\n b\tc", "a b c"), ("0123456789", "01234567…"), ("x" * 9, "x" * 9)]
)
def test_text_is_shortened_to_one_line(text: str, line: str) -> None:
    assert shorten(text, 9) == line

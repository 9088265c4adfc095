"""The line that says what an import left out."""

from __future__ import annotations

from stockroom.importers import left_out
from stockroom.importers.left_out import LeftOut


def test_every_part_is_counted_by_its_kind():
    parts = LeftOut()
    for name in ("a.tif", "b.tif", "c.tif"):
        parts.add(name, ".tif")
    parts.add("old", "linked folder")

    assert parts.summarize() == "4 files: 3 .tif, 1 linked folder"
    assert parts.list_lines() == ["a.tif: .tif", "b.tif: .tif", "c.tif: .tif", "old: linked folder"]


def test_parts_of_several_units_and_sources_are_one_sum():
    parts, others = LeftOut(), LeftOut()
    parts.add("units", "attribute", unit="attribute")
    others.add("a.gif", ".gif")
    others.add("units", "attribute", unit="attribute")
    parts.merge(others)

    assert parts.summarize() == "3 parts: 2 attributes, 1 .gif"


def test_names_beyond_the_limit_are_counted(monkeypatch):
    monkeypatch.setattr(left_out, "MAX_NAMES", 2)
    parts = LeftOut()
    for number in range(5):
        parts.add(f"{number}.tif", ".tif")

    assert parts.list_lines() == ["0.tif: .tif", "1.tif: .tif", "3 more: .tif"]
    assert parts.as_document() == [{"unit": "file", "kind": ".tif", "count": 5, "names": ["0.tif", "1.tif"]}]

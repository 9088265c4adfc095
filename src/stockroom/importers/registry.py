"""Importers by name: finds plug-ins through their entry points.

Owns the entry-point group and the choice of an importer. A plug-in that fails to load is named when it is
asked for, and passed over otherwise, so that one broken package never takes the others away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from stockroom.errors import InvalidInputError, did_you_mean, near_names
from stockroom.importers.source import Importer

ENTRY_POINT_GROUP = "stockroom.importers"


def list_sources() -> list[str]:
    """Every source that can be imported here, sorted; sources of plug-ins that fail to load are left out."""
    return sorted(source for plug_in in _iter_working_plug_ins() for source in plug_in.sources)


def resolve_importer(source: str) -> Importer:
    """The importer that answers for `source`, such as `"torchvision.cifar10"`.

    Raises `InvalidInputError` where none does, listing those that exist, or where its plug-in fails to load.
    """
    entry_point = _find_entry_points().get(source.partition(".")[0])
    if entry_point is None:
        raise _unknown_source(source)
    plug_in = _load(entry_point)
    if source not in plug_in.sources:
        raise _unknown_source(source)
    return plug_in.importer


@dataclass(frozen=True, slots=True)
class _PlugIn:
    importer: Importer
    sources: tuple[str, ...]


def _find_entry_points() -> dict[str, EntryPoint]:
    """Plug-ins by name; where two packages claim a name, the one built in has it."""
    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        built_in = entry_point.module.startswith("stockroom.")
        if built_in or entry_point.name not in found:
            found[entry_point.name] = entry_point
    return found


def _iter_working_plug_ins() -> Iterator[_PlugIn]:
    for entry_point in _find_entry_points().values():
        with suppress(InvalidInputError):
            yield _load(entry_point)


def _load(entry_point: EntryPoint) -> _PlugIn:
    """The plug-in ready to use; whatever it raises on the way becomes an `InvalidInputError` that names it."""
    try:
        importer = entry_point.load()()
        if not isinstance(importer, Importer):
            raise TypeError("expected name, sources() and open(), see CONTRIBUTING.md for what an importer needs")
        return _PlugIn(importer, tuple(importer.sources()))
    except Exception as error:  # it is other people's code
        raise InvalidInputError(
            f"importer {entry_point.name!r} ({entry_point.value}) cannot be loaded: {type(error).__name__}: "
            f"{error}; repair or uninstall the package it comes from"
        ) from error


def _unknown_source(source: str) -> InvalidInputError:
    known = list_sources()
    near = [name for name in known if source and source in name] or near_names(source, known)
    hint = f"; {did_you_mean(near, quote=str)}" if near else "."
    return InvalidInputError(f"no importer for {source!r}{hint} Sources: {', '.join(known) or 'none'}")

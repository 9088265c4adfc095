"""Finds importers by name, through the entry points of plug-ins.

Owns the entry-point group and the choice of an importer. A plug-in that fails to load is named when it is requested,
and skipped otherwise, so one broken package never disables the others.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from stockroom.errors import InvalidInputError, did_you_mean, near_names
from stockroom.importers.source import Importer

ENTRY_POINT_GROUP = "stockroom.importers"


def list_sources() -> list[str]:
    """Return every source that can be imported here, sorted. Sources of plug-ins that fail to load are left out."""
    found: list[str] = []
    for entry_point in _read_entry_points().values():
        with suppress(InvalidInputError):
            found += _load(entry_point).sources
    return sorted(found)


def resolve_importer(source: str) -> Importer:
    """Return the importer of `source`, such as `"torchvision.cifar10"`.

    Raises `InvalidInputError` if there is none, listing those that exist, or if its plug-in fails to load.
    """
    entry_point = _read_entry_points().get(source.partition(".")[0])
    plug_in = None if entry_point is None else _load(entry_point)
    if plug_in is None or source not in plug_in.sources:
        raise _unknown_source(source)
    return plug_in.importer


@dataclass(frozen=True, slots=True)
class _PlugIn:
    importer: Importer
    sources: tuple[str, ...]


def _read_entry_points() -> dict[str, EntryPoint]:
    """Return plug-ins by name. If two packages claim a name, the built-in one gets it."""
    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        built_in = entry_point.module.startswith("stockroom.")
        if built_in or entry_point.name not in found:
            found[entry_point.name] = entry_point
    return found


def _load(entry_point: EntryPoint) -> _PlugIn:
    """Load a plug-in. Any error becomes an `InvalidInputError` that names the plug-in."""
    try:
        importer = entry_point.load()()
        if not isinstance(importer, Importer):
            raise TypeError("expected name, sources() and open(); CONTRIBUTING.md lists an importer's requirements")
        return _PlugIn(importer, tuple(importer.sources()))
    except Exception as error:  # third-party code
        raise InvalidInputError(
            f"importer {entry_point.name!r} ({entry_point.value}) cannot be loaded: {type(error).__name__}: "
            f"{error}; repair or uninstall its package"
        ) from error


def _unknown_source(source: str) -> InvalidInputError:
    known = list_sources()
    near = [name for name in known if source and source in name] or near_names(source, known)
    hint = f"; {did_you_mean(near, quote=str)}" if near else "."
    return InvalidInputError(f"no importer for {source!r}{hint} Sources: {', '.join(known) or 'none'}")

"""The common part of a handle's shelves: the pinned snapshot or open workspace, and names in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVar

from stockroom.content.printable import as_line
from stockroom.content.snapshot import name_path
from stockroom.digest import ObjectDigest
from stockroom.errors import ClosedError, NotFoundError, ReadOnlyError, did_you_mean, near_names

if TYPE_CHECKING:
    from stockroom.content.snapshot import Snapshot
    from stockroom.repository.repository import Repository
    from stockroom.repository.writing.workspace import Workspace
    from stockroom.store.tensor_store import TensorStore

E = TypeVar("E", bound=NotFoundError)
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class Pin:
    """Shared by a handle and everything taken from it, so that closing the handle closes all of them."""

    repository: Repository
    snapshot: Snapshot
    commit: str | None = None
    workspace: Workspace | None = None
    is_closed: bool = False
    lazy: bool = True

    @property
    def tensors(self) -> TensorStore:
        """The store that holds the chunks."""
        return self.repository.reader_tensors

    def check_open(self) -> None:
        """Raise `ClosedError` if the handle is closed."""
        if self.is_closed:
            raise ClosedError(
                f"this handle on {self.repository.paths.root} is closed: open it again with StockRoom(...)"
            )

    @property
    def source(self) -> Snapshot | Workspace:
        """The stage while writing, otherwise the snapshot."""
        self.check_open()
        return self.snapshot if self.workspace is None else self.workspace

    @property
    def content(self) -> Snapshot:
        """The content to read as one snapshot; while writing, it includes everything staged."""
        self.check_open()
        return self.snapshot if self.workspace is None else self.workspace.snapshot

    def guard(self, digest: ObjectDigest) -> Callable[[], None]:
        """Return a check that raises `ClosedError` once an object read now is gone, as after an undone block."""
        workspace = self.workspace
        if workspace is None:
            return self.check_open
        seen: tuple[Workspace | None, int] = workspace, workspace.drops

        def check() -> None:
            nonlocal seen
            self.check_open()
            now = self.workspace, workspace.drops
            if now != seen:
                if not self.repository.objects.contains(digest):
                    raise ClosedError("this was staged and has been dropped; take it from the shelf again")
                seen = now

        return check

    def __reduce__(self) -> NoReturn:
        raise TypeError("a shelf belongs to an open handle and cannot be pickled; send the path and open it there")

    def note_read(self, path: str) -> None:
        """Note in the workspace, if there is one, that a record is read."""
        if self.workspace is not None:
            self.workspace.note_read(path)

    def list_names(self, shelf: str) -> list[str]:
        """Return the names on a shelf, in order."""
        return list(self.source.iter_names(shelf))

    def writer(self) -> Workspace:
        """Return the workspace; raises `ReadOnlyError` if this handle only reads."""
        self.check_open()
        if self.workspace is None:
            raise ReadOnlyError(
                "this handle only reads: write inside `with stock.enable_write():`, or open with "
                "StockRoom(enable_write=True)"
            )
        self.workspace.check_open()
        return self.workspace

    def missing(self, kind: str, shelf: str, name: object, error: type[E]) -> E:
        """Return the error for a name that is not on a shelf; the message suggests similar names."""
        names = self.list_names(shelf)
        hint = did_you_mean(near_names(name, names)) if isinstance(name, str) else ""
        if not hint and names:
            hint = f"there are {', '.join(map(repr, names[:5]))}{' and more' if len(names) > 5 else ''}"
        elif not hint:
            hint = "there are none yet"
        return error(f"no {kind} {name!r} here; {hint}")


class Shelf(Mapping[str, V]):
    """The names on one shelf, in order. A subclass reads the thing under a name, called `_noun` in errors."""

    __slots__ = ("_pin",)

    _shelf: ClassVar[str]
    _noun: ClassVar[str]
    _not_found: ClassVar[type[NotFoundError]]

    def __init__(self, pin: Pin) -> None:
        self._pin = pin

    def __delitem__(self, name: str) -> None:
        workspace = self._pin.writer()
        if not isinstance(name, str) or not workspace.delete(name_path(self._shelf, name)):
            raise self._missing(name)

    def __iter__(self) -> Iterator[str]:
        for name in self._pin.list_names(self._shelf):
            self._pin.check_open()
            yield name

    def __len__(self) -> int:
        return self._pin.source.count_names(self._shelf)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._pin.source.has_path(name_path(self._shelf, name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(as_line, self))})"

    def _missing(self, name: object) -> NotFoundError:
        return self._pin.missing(self._noun, self._shelf, name, self._not_found)

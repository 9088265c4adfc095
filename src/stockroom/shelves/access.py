"""What the shelves of one handle share: the snapshot it is pinned to, the write session if there is one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from stockroom.errors import ClosedError, ColumnNotFoundError
from stockroom.repository import DATA, Repository, Snapshot, WriteSession
from stockroom.store import TensorStore


@dataclass(slots=True, eq=False)
class Access:
    """Shared by a handle and everything taken from it, so that closing the handle closes them all."""

    repository: Repository
    snapshot: Snapshot
    commit: str | None = None
    session: WriteSession | None = None
    is_closed: bool = False

    @property
    def tensors(self) -> TensorStore:
        """The chunks."""
        return self.repository.tensors

    def check_open(self) -> None:
        """Raise `ClosedError` once the handle is closed."""
        if self.is_closed:
            raise ClosedError(
                f"this handle on {self.repository.paths.root} is closed: open it again with StockRoom(...)"
            )

    def list_columns(self) -> list[str]:
        """The names of the columns, in order."""
        self.check_open()
        return list(self.snapshot.iter_names(DATA)) if self.session is None else self.session.iter_columns()

    def missing_column(self, name: str) -> ColumnNotFoundError:
        """The error for a column that is not there, with names near to it."""
        names = self.list_columns()
        near = difflib.get_close_matches(name, names, n=3) if isinstance(name, str) else []
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        elif names:
            hint = f"there are {', '.join(map(repr, names[:5]))}{' and more' if len(names) > 5 else ''}"
        else:
            hint = "there are none yet"
        return ColumnNotFoundError(f"no column {name!r} here; {hint}")

"""The experiment shelf: values, metrics and artifacts of the work that a commit stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockroom.content.html_table import format_table
from stockroom.content.snapshot import ARTIFACT, EXPERIMENT, METRIC
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.errors import InvalidInputError, ValueNotFoundError
from stockroom.refs.names import check_free_name
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.experiment.artifacts import Artifacts, write_artifact
from stockroom.shelves.experiment.cells import Cell, read_cells
from stockroom.shelves.experiment.metrics import Metrics
from stockroom.shelves.model.leaf_reader import open_leaves
from stockroom.shelves.model.leaf_values import LoadOptions
from stockroom.shelves.model.state import StateSource
from stockroom.shelves.pin import Access

if TYPE_CHECKING:
    from stockroom.shelves.experiment.table import ExperimentTable


class ExperimentShelf(MutableMapping[str, Any]):
    """Values by name, in order of name: a dict of what an experiment was run with, and of what came of it.

    A value is an int, float, complex, bool, str, bytes, None, numpy scalar, array, tensor, or any nesting of dict, list
    and tuple of those. It comes back as it was, types and all, and is the caller's own. `metrics` and `artifacts`
    stand beside the values and are none of them.
    """

    __slots__ = ("_access",)

    def __init__(self, access: Access) -> None:
        self._access = access

    # -- values

    def __getitem__(self, key: str) -> Any:
        return self.load(key)

    def load(self, key: str, *, as_numpy: bool = False) -> Any:
        """A value, the caller's own; with `as_numpy` torch's tensors in it as numpy arrays, which takes no torch.

        Raises `ValueNotFoundError`, `AbsentDataError`.
        """
        access = self._access
        record = access.source.find_state(f"{EXPERIMENT}/{key}") if isinstance(key, str) else None
        if record is None:
            raise self._missing(key)
        reader = open_leaves(access, record)
        opened = StateSource(access.repository, reader, kind="value", name=key, check_open=access.check_open)
        return opened.make("", LoadOptions(as_numpy=as_numpy))

    def outline(self, key: str) -> dict[str, Cell]:
        """What a table shows of one value, by dotted name, each of which begins with `key`; reads no chunk."""
        digest = self._access.content.find_digest(f"{EXPERIMENT}/{key}")
        if digest is None:
            raise self._missing(key)
        return read_cells(open_leaves(self._access, self._access.content.read_state(digest)), key, digest)

    def __setitem__(self, key: str, value: object) -> None:
        self.update({key: value})

    def update(  # type: ignore[override]
        self, values: Mapping[str, object] | Iterable[tuple[str, object]] = (), /, **more: object
    ) -> None:
        """Set many values; if one is refused, none is set.

        Raises `SchemaError` naming the value and the path of whatever cannot be kept, `InvalidNameError`,
        `ReadOnlyError`.
        """
        session = self._access.writer()
        records = {
            f"{EXPERIMENT}/{key}": _write(session, key, value) for key, value in {**dict(values), **more}.items()
        }
        session.put_states(records)

    def __delitem__(self, key: str) -> None:
        session = self._access.writer()
        if not isinstance(key, str) or not session.delete(f"{EXPERIMENT}/{key}"):
            raise self._missing(key)

    def __iter__(self) -> Iterator[str]:
        for key in self._access.list_names(EXPERIMENT):
            self._access.check_open()
            yield key

    def __len__(self) -> int:
        return len(self._access.list_names(EXPERIMENT))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._access.source.find_state(f"{EXPERIMENT}/{key}") is not None

    def __repr__(self) -> str:
        return f"ExperimentShelf({', '.join(self)})"

    def _repr_html_(self) -> str:
        return format_table(f"{len(self)} values", ((name,) for name in self))

    # -- metrics and artifacts

    def log(self, values: Mapping[str, float], step: int | None = None) -> int:
        """Add a point to each of some metrics; returns the step they are under.

        Points are buffered, and durable with the commit, with `flush()` or at the end of the write block. Of several
        at one step the last stands. Without `step` it is one more than the greatest of any metric.

        Raises `SchemaError` for what is no real number, `InvalidNameError`, `ReadOnlyError`; then nothing is added.
        """
        if type(values) is not dict and not isinstance(values, Mapping):
            raise InvalidInputError(f"expected a mapping of names and numbers, found {type(values).__name__}")
        return self._access.writer().log(values, step)

    @property
    def metrics(self) -> Metrics:
        """The metrics by name: `steps, values = metrics["loss"]`."""
        self._access.check_open()
        return Metrics(self._access)

    def artifact(self, name: str, source: str | Path | bytes, media_type: str | None = None) -> None:
        """Keep a file under a name, whatever was there before.

        Args:
            name: may have folders in it, as in `plots/roc.png`.
            source: its bytes, or the path of a file, which is read a part at a time. A str is a path.
            media_type: as in `image/png`; None tells it from the name.

        Raises `InvalidNameError`, `InvalidInputError` where there is no such file, `ReadOnlyError`.
        """
        session = self._access.writer()
        session.put_states({f"{ARTIFACT}/{name}": write_artifact(session, name, source, media_type)})

    @property
    def artifacts(self) -> Artifacts:
        """The artifacts by name."""
        self._access.check_open()
        return Artifacts(self._access)

    # -- comparing

    def table(self, refs: str | Iterable[str] | None = None, *, n: int | None = None) -> ExperimentTable:
        """Values and metrics of many commits, a row each; reads nothing of any data.

        Args:
            refs: branches, tags, or commits, each a row; None is the history of this handle's commit, newest first.
            n: at most so many rows.

        Raises `RefNotFoundError`.
        """
        from stockroom.shelves.experiment.table import read_table  # here for start-up time

        self._access.check_open()
        if n is not None and n < 0:
            raise InvalidInputError(f"expected a number of rows, or None for all, found {n}")
        return read_table(self._access, [refs] if isinstance(refs, str) else refs, n)

    def _missing(self, key: object) -> ValueNotFoundError:
        for shelf, attribute in ((METRIC, "metrics"), (ARTIFACT, "artifacts")):
            if isinstance(key, str) and self._access.content.find_digest(f"{shelf}/{key}") is not None:
                return ValueNotFoundError(
                    f"no value {key!r} here, but one of the {attribute} is called so: use .{attribute}[{key!r}]"
                )
        return self._access.missing("value", EXPERIMENT, key, ValueNotFoundError)


def _write(session: Workspace, key: str, value: object) -> StateRecord | ValueRecord:
    from stockroom.shelves.model.state_writer import write_value  # here for start-up time

    check_free_name("value", key)
    return write_value(session, value, where=f"value {key!r}")

"""The experiment shelf: the values, metrics and artifacts of the work behind a commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockroom.content.html_table import format_table
from stockroom.content.snapshot import ARTIFACT, EXPERIMENT, METRIC, name_path
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.errors import InvalidInputError, NotFoundError, ValueNotFoundError
from stockroom.refs.names import check_free_name
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.experiment.artifacts import Artifacts, write_artifact
from stockroom.shelves.experiment.cells import Cell, read_cells
from stockroom.shelves.experiment.metrics import Metrics
from stockroom.shelves.model.leaf_reader import open_leaves
from stockroom.shelves.model.leaf_values import LoadOptions
from stockroom.shelves.model.state import OpenState
from stockroom.shelves.pin import Shelf

if TYPE_CHECKING:
    from stockroom.shelves.experiment.table import ExperimentTable


class ExperimentShelf(Shelf[Any], MutableMapping[str, Any]):
    """Values by name, in order of name: a dict of the settings and results of an experiment.

    A value is an int, float, complex, bool, str, bytes, None, numpy scalar, array or tensor, or any nesting of dict,
    list and tuple of those. It is returned with the same types, and belongs to the caller. `metrics` and `artifacts`
    are separate; the dict does not list them.
    """

    __slots__ = ()

    _shelf = EXPERIMENT
    _noun = "value"
    _not_found = ValueNotFoundError

    # -- values

    def __getitem__(self, key: str) -> Any:
        return self.load(key)

    def load(self, key: str, *, as_numpy: bool = False) -> Any:
        """Return a value, owned by the caller; `as_numpy` makes torch tensors in it numpy arrays, and needs no torch.

        Raises `ValueNotFoundError` or `AbsentDataError`.
        """
        pin = self._pin
        pin.note_read(name_path(EXPERIMENT, key))
        record = pin.source.find_state(name_path(EXPERIMENT, key)) if isinstance(key, str) else None
        if record is None:
            raise self._missing(key)
        reader = open_leaves(pin, record)
        opened = OpenState(pin.repository, reader, kind="value", name=key, check_open=pin.check_open)
        return opened.make("", LoadOptions(as_numpy=as_numpy))

    def outline(self, key: str) -> dict[str, Cell]:
        """Return the table cells of one value by dotted name; every name begins with `key`. Reads no chunks."""
        digest = self._pin.content.find_digest(name_path(EXPERIMENT, key))
        if digest is None:
            raise self._missing(key)
        return read_cells(open_leaves(self._pin, self._pin.content.read_state(digest)), key, digest)

    def __setitem__(self, key: str, value: object) -> None:
        self.update({key: value})

    def update(  # type: ignore[override]
        self, values: Mapping[str, object] | Iterable[tuple[str, object]] = (), /, **more: object
    ) -> None:
        """Set many values; if one is refused, none is set.

        Raises `SchemaError` naming the value and the path in it, `InvalidNameError`, or `ReadOnlyError`.
        """
        workspace = self._pin.writer()
        records = {
            name_path(EXPERIMENT, key): _write(workspace, key, value) for key, value in {**dict(values), **more}.items()
        }
        workspace.put_states(records)

    def _repr_html_(self) -> str:
        return format_table(f"{len(self)} values", ((name,) for name in self))

    # -- metrics and artifacts

    def log(self, values: Mapping[str, float], step: int | None = None) -> int:
        """Add a point to each of these metrics, and return its step.

        Points are buffered. They are durable after a commit, `flush()` or the end of the write block. At one step the
        last point wins. A second run begins a metric again: if a writer, after it opened or committed, logs the first
        step of the metric and then other steps, all earlier points are removed. Without `step`, the step is one more
        than the greatest of any metric. Raises `SchemaError` for values that are not real numbers, `InvalidNameError`
        or `ReadOnlyError`, and then adds nothing.
        """
        if type(values) is not dict and not isinstance(values, Mapping):
            raise InvalidInputError(f"expected a mapping of names and numbers, found {type(values).__name__}")
        return self._pin.writer().log(values, step)

    @property
    def metrics(self) -> Metrics:
        """The metrics by name: `steps, values = metrics["loss"]`."""
        self._pin.check_open()
        return Metrics(self._pin)

    def artifact(self, name: str, source: str | Path | bytes, media_type: str | None = None) -> None:
        """Save a file under a name; replaces an artifact of that name.

        Args:
            name: may contain folders, as in `plots/roc.png`.
            source: the bytes, or the path of a file, which is read in parts. A str is a path.
            media_type: such as `image/png`; None guesses it from the name.

        Raises `InvalidNameError`, `InvalidInputError` if there is no such file, or `ReadOnlyError`.
        """
        workspace = self._pin.writer()
        workspace.put_states({name_path(ARTIFACT, name): write_artifact(workspace, name, source, media_type)})

    @property
    def artifacts(self) -> Artifacts:
        """The artifacts by name."""
        self._pin.check_open()
        return Artifacts(self._pin)

    # -- comparing

    def table(self, refs: str | Iterable[str] | None = None, *, n: int | None = None) -> ExperimentTable:
        """Return the values and metrics of many commits, one row each; reads no chunks.

        Args:
            refs: branches, tags or commits, one row each; None is the history of this handle's commit, newest first.
            n: the maximum number of rows.

        Raises `RefNotFoundError`.
        """
        from stockroom.shelves.experiment.table import read_table  # here for start-up time

        self._pin.check_open()
        if n is not None and n < 0:
            raise InvalidInputError(f"expected a number of rows, or None for all, found {n}")
        return read_table(self._pin, [refs] if isinstance(refs, str) else refs, n)

    def _missing(self, key: object) -> NotFoundError:
        for shelf, attribute in ((METRIC, "metrics"), (ARTIFACT, "artifacts")):
            if isinstance(key, str) and self._pin.source.has_path(name_path(shelf, key)):
                return ValueNotFoundError(f"no value {key!r} here; .{attribute} has it: use .{attribute}[{key!r}]")
        return super()._missing(key)


def _write(workspace: Workspace, key: str, value: object) -> StateRecord | ValueRecord:
    from stockroom.shelves.model.state_writer import write_value  # here for start-up time

    check_free_name("value", key)
    return write_value(workspace, value, where=f"value {key!r}")

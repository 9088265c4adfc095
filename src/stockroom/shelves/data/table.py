"""Fills the columns of a table by batches of rows; creates a column at its first value, widens it as shapes vary.

A row's number is its key in every column. A row without a value in some column has no key there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.shelves.data.values import Array, Schema, as_array_like, infer_schema, widen_schema

if TYPE_CHECKING:
    from stockroom.content.column_edit import ColumnEdit
    from stockroom.shelves.data.column import Column

Values: TypeAlias = Array | Sequence[Any]
"""One column's part of a batch: samples stacked on axis 0, or a list with None for rows without a value."""

MAX_NAMES_NBYTES: Final = 48 << 10
"""The most bytes that class names may take in a column's attrs, which hold 64 KiB."""

NO_VALUES: Final = "column without values"


class _Shelf(Protocol):
    """The methods of the data shelf that a table uses."""

    def create(
        self,
        name: str,
        *,
        dtype: Any,
        shape: Sequence[int | None],
        attrs: Mapping[str, Any],
        decoder: str | None,
    ) -> Column: ...
    def widen(self, name: str, shape: Sequence[int | None]) -> Column: ...
    def take_out(self, *names: str) -> dict[str, ColumnEdit | None]: ...
    def keep_keys(self, name: str) -> None: ...
    def put_back(self, name: str, edit: ColumnEdit | None) -> None: ...


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """A column to create. Without `schema`, the first values decide it; later values may widen it.

    `attrs` may grow until the last row is added. `absence` is what to say if the column never gets a value.
    """

    name: str
    schema: Schema | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    decoder: str | None = None
    absence: str = NO_VALUES


class GrowingColumns:
    """The columns of a table; they replace columns of the same names. Plans with a schema are created at once."""

    def __init__(self, shelf: _Shelf, plans: Iterable[ColumnPlan] = ()) -> None:
        self._shelf = shelf
        self._plans = {plan.name: plan for plan in plans}
        self._columns: dict[str, Column] = {}
        self._replaced: dict[str, ColumnEdit | None] = {}
        self._rows = 0
        try:
            self._take_out(*self._plans)
            for plan in self._plans.values():
                if plan.schema is not None:
                    self._create(plan, plan.schema)
        except BaseException:
            self.undo()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns created so far."""
        return tuple(self._columns)

    @property
    def absent(self) -> tuple[str, ...]:
        """The planned columns that have no value so far."""
        return tuple(name for name in self._plans if name not in self._columns)

    @property
    def rows(self) -> int:
        """The number of rows added."""
        return self._rows

    @property
    def samples(self) -> int:
        """The number of samples in all columns."""
        return sum(map(len, self._columns.values()))

    @property
    def before(self) -> dict[str, ColumnEdit]:
        """The columns of the same names as they were before."""
        return {name: edit for name, edit in self._replaced.items() if edit is not None}

    @property
    def replaced(self) -> dict[str, int]:
        """The columns of the same names that had other samples, and how many."""
        return {name: edit.tree.count for name, edit in self.before.items() if self._differs(name, edit)}

    def find_schema(self, name: str) -> Schema | None:
        """Return the schema of a column, or None before its first value."""
        column = self._columns.get(name)
        return None if column is None else column.schema

    def undo(self) -> None:
        """Restore the columns that were replaced, and remove the new ones."""
        for name, edit in self._replaced.items():
            self._shelf.put_back(name, edit)

    def add(self, batch: Mapping[str, Values]) -> int:
        """Add the rows of a batch, and return the number of raw bytes in their samples.

        Raises `SchemaError` naming column and key if a value's dtype or number of axes differs from earlier ones.
        """
        count = max(map(len, batch.values()), default=0)
        self._take_out(*batch)  # the columns that it replaces go even before their first values
        nbytes = sum(self._add_values(name, values) for name, values in batch.items())
        self._rows += count
        return nbytes

    def finish(self) -> None:
        """Fix the keys, which do not move if others append too, and set attrs that grew with the rows."""
        for name, column in self._columns.items():
            self._shelf.keep_keys(name)
            if name in self._plans and self._plans[name].attrs != column.attrs:
                column.attrs = self._plans[name].attrs

    def put(self, name: str, samples: Mapping[int, Any]) -> None:
        """Put samples into rows that have been added without them."""
        if samples:
            self._fit(name, list(samples.values())).update(samples.items())

    def _add_values(self, name: str, values: Values) -> int:
        if not isinstance(values, np.ndarray):
            where = f"column {name!r}"
            values = [as_array_like(value, where) for value in values]
        there = values if isinstance(values, np.ndarray) else [value for value in values if value is not None]
        if not len(there):
            return 0
        column = self._fit(name, there)
        if len(there) == len(values) and len(column) == self._rows:
            column.extend(there)
        else:
            column.update((self._rows + offset, value) for offset, value in enumerate(values) if value is not None)
        return there.nbytes if isinstance(there, np.ndarray) else sum(map(measure_value, there))

    def _fit(self, name: str, values: Values) -> Column:
        """Return the column, created or widened so that it admits the shapes of `values`."""
        column = self._columns.get(name)
        schema = None if column is None else column.schema
        if isinstance(values, np.ndarray):
            found = Schema(infer_schema(values, f"column {name!r}").dtype, values.shape[1:])
            widened = found if schema is None else widen_schema(schema, found)
        else:
            widened = schema or infer_schema(values[0], f"column {name!r}")
            for value in values:
                widened = widen_schema(widened, infer_schema(value, f"column {name!r}"))
        if column is None:
            return self._create(self._plans.get(name, ColumnPlan(name)), widened)
        if widened != schema:
            column = self._columns[name] = self._shelf.widen(name, widened.shape)
        return column

    def _take_out(self, *names: str) -> None:
        """Remove columns of these names, all at once: each removal writes the root tree."""
        fresh = [name for name in names if name not in self._replaced]
        if fresh:
            self._replaced |= self._shelf.take_out(*fresh)

    def _differs(self, name: str, edit: ColumnEdit) -> bool:
        return edit.tree.count > 0 and (name not in self._columns or self._columns[name].root != edit.tree.root.hex())

    def _create(self, plan: ColumnPlan, schema: Schema) -> Column:
        is_text = schema.dtype in ("str", "bytes")
        column = self._shelf.create(
            plan.name,
            dtype=schema.dtype,
            shape=() if is_text else schema.shape,
            attrs=plan.attrs,
            decoder=plan.decoder,
        )
        self._columns[plan.name] = column.encoded
        return self._columns[plan.name]


def check_arrow(where: str) -> None:
    """Raise `InvalidInputError` naming `where` if pyarrow, an optional extra, is not installed."""
    try:
        import pyarrow  # noqa: F401 - the modules that read its tables import it at their top
    except ImportError as error:
        raise InvalidInputError(
            f"{where}: this needs pyarrow: install it with `pip install 'stockroom-vcs[tables]'`"
        ) from error


def measure_value(value: Any) -> int:
    """Return the number of raw bytes of a sample; an estimate for Python's numbers and text."""
    nbytes = getattr(value, "nbytes", None)
    return int(nbytes) if nbytes is not None else len(value) if isinstance(value, str | bytes) else 8

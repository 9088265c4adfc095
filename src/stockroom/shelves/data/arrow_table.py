"""Plans columns for the fields of an Arrow schema, and reads record batches into them; also data frames.

Owns the metadata of schemas: what Stockroom's exports, pandas and the features of Hugging Face's data sets say there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as arrow
from pyarrow import compute, types

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.arrow_json import is_text
from stockroom.shelves.data.arrow_values import Form, find_form, format_name
from stockroom.shelves.data.table import MAX_NAMES_NBYTES, NO_VALUES, ColumnPlan, Values

DECODER_KEY: Final = b"stockroom.decoder"
"""Key in the metadata of a field of bytes: the decoder of the column."""

ATTRS_KEY: Final = b"stockroom.attrs"
"""Key in a field's metadata: the attrs of the column, as JSON."""

_FEATURES_KEY: Final = b"huggingface"
_MEDIA: Final = frozenset({"Image", "Audio", "Video", "Pdf", "Nifti"})
_LISTS: Final = frozenset({"Sequence", "List", "LargeList"})
_FRAME_BATCH_NBYTES: Final = 8 << 20
_FRAME_BATCH_ROWS: Final = 1 << 16

LeaveOut: TypeAlias = Callable[[str, str, str], object]
"""Called with the name, kind and unit of a part that is not read."""


@dataclass(slots=True)
class _FieldColumn:
    """A column that a field of the schema gives; `part` is the field in a struct that it takes, if it takes one."""

    title: str
    name: str
    form: Form
    attrs: dict[str, Any] = field(default_factory=dict)
    decoder: str | None = None
    part: str | None = None
    is_planned: bool = True


class ArrowTable:
    """The columns for a schema whose fields become columns of `names`, which begin with `prefix`.

    `features` are those of a data set, by field. A field whose values have no lossless form here, or which is null
    throughout, is left out.
    """

    def __init__(
        self,
        schema: Any,
        names: Mapping[str, str],
        features: Mapping[str, Any] | None = None,
        *,
        prefix: str = "",
    ) -> None:
        self._prefix = prefix
        self._names = dict(names)
        self._features = {**_read_features(schema), **(features or {})}
        self._left_out: list[tuple[str, str, str]] = []
        self._columns: list[_FieldColumn] = []
        self._absent: list[ColumnPlan] = []
        self._dictionaries: dict[str, Any] = {}
        self.class_columns: dict[str, list[str]] = {}
        """Columns of class names that attrs cannot hold."""
        for each in schema:
            self._add_field(each)
        self._note_index(schema)

    @property
    def plans(self) -> list[ColumnPlan]:
        """The columns, also those that get no value. Their attrs may grow as batches are read."""
        return [
            ColumnPlan(each.name, each.form.schema, each.attrs, each.decoder)
            for each in self._columns
            if each.is_planned
        ] + self._absent

    @property
    def unchecked(self) -> list[str]:
        """The fields whose values must be seen to know their form: lists that may be ragged or hold nulls."""
        return [each.title for each in self._columns if each.form.is_regular is not None]

    @property
    def left_out(self) -> Sequence[tuple[str, str, str]]:
        """The name, kind and unit of each part that is not read, except columns."""
        return self._left_out

    def check(self, batches: Iterable[Any]) -> None:
        """Choose the forms of the fields that are `unchecked`, by batches of all rows of at least these fields."""
        unsure = {each.title: each for each in self._columns if each.form.is_regular is not None}
        for batch in batches:
            for title, column in list(unsure.items()):
                array = _join(batch.column(title))
                if column.form.is_regular is not None and not column.form.is_regular(array):
                    self._take_text(unsure.pop(title), array.type)
            if not unsure:
                return

    def read(self, batch: Any, leave_out: LeaveOut, *, where: str = "") -> dict[str, Values]:
        """Return the values of a record batch, by column."""
        values: dict[str, Values] = {}
        for column in self._columns:
            array = _join(batch.column(column.title))
            if column.part is not None:
                array = self._take_part(array, column, where)
            values[column.name] = column.form.read(array)
            if types.is_dictionary(array.type):
                self._note_categories(column, array, leave_out)
        return values

    def _add_field(self, each: Any) -> None:
        metadata = each.metadata or {}
        name, feature = self._names[each.name], self._features.get(each.name)
        attrs = {} if name == self._prefix + each.name else {"title": each.name}
        attrs |= _read_object(metadata.get(ATTRS_KEY), f"column {each.name!r}")
        if _is_file(each.type):
            self._add_file(each, name, attrs, feature)
            return
        form = find_form(each)
        if form is None:
            self._leave_out(name, each.type)
            return
        column = _FieldColumn(each.name, name, form, {**form.attrs, **attrs})
        if form.schema is not None and form.schema.dtype == "bytes":
            column.decoder = _find_decoder(metadata, feature)
        self._columns.append(column)
        self._note_feature(column, feature)

    def _leave_out(self, name: str, kind: Any) -> None:
        """Plan a column that gets no value, so that one of the same name does not keep its own."""
        plan = ColumnPlan(name) if types.is_null(kind) else ColumnPlan(name, absence=format_name(kind))
        self._absent.append(plan)

    def _add_file(self, each: Any, name: str, attrs: dict[str, Any], feature: Any) -> None:
        """Plan the columns for a struct of a file's bytes and path, as Hugging Face stores images and sounds."""
        parts = {part.name: part for part in _list_parts(each.type)}
        data, path = find_form(parts["bytes"]), find_form(parts["path"])
        assert data is not None
        assert path is not None
        decoder = _find_decoder(each.metadata or {}, feature)
        if _type_of(feature) in _MEDIA - {"Image"}:
            attrs = {"feature": feature, **attrs}
        self._columns.append(_FieldColumn(each.name, name, data, attrs, decoder, part="bytes"))
        self._columns.append(
            _FieldColumn(each.name, self._free_name(f"{name}-path"), path, part="path", is_planned=False)
        )

    def _free_name(self, name: str) -> str:
        while name in self._names.values() or name in self.class_columns:
            name += "_"
        return name

    def _note_feature(self, column: _FieldColumn, feature: Any) -> None:
        """Keep the class names of numbers in the attrs, or in a column if they are too many."""
        classes = _find_classes(feature)
        if classes is None:
            if _has_classes(feature):
                self._note_attr(column, "feature", feature, "list of class names")
        elif "classes" not in column.attrs:
            if len(json.dumps(classes)) <= MAX_NAMES_NBYTES:
                column.attrs["classes"] = classes
            else:
                name = self._free_name(f"{column.name}-classes")
                column.attrs["classes_column"] = name
                self.class_columns[name] = classes

    def _note_attr(self, column: _FieldColumn, key: str, value: Any, kind: str) -> None:
        if len(json.dumps(value)) <= MAX_NAMES_NBYTES:
            column.attrs[key] = value
        else:
            self._left_out.append((f"column {column.title!r}", kind, "part"))

    def _note_index(self, schema: Any) -> None:
        """Leave out an index of pandas that is no column, unless it only numbers the rows."""
        for index in _list_range_indexes(schema):
            if index.get("start") != 0 or index.get("step") != 1 or index.get("name") is not None:
                text = f"{index.get('name') or 'index'}: from {index.get('start')} by {index.get('step')}"
                self._left_out.append((text, "index of row numbers", "part"))

    def _note_categories(self, column: _FieldColumn, array: Any, leave_out: LeaveOut) -> None:
        """Keep the values of a dictionary in the attrs, in their order, also those that no row has."""
        last = self._dictionaries.get(column.title)
        if last is False or (last is not None and last.equals(array.dictionary)):
            return
        self._dictionaries[column.title] = array.dictionary
        values = array.dictionary.to_pylist()
        if not all(isinstance(value, str | int | float) for value in values):
            return
        merged = list(dict.fromkeys([*column.attrs.get("categories", ()), *values]))
        if len(json.dumps(merged)) <= MAX_NAMES_NBYTES:
            column.attrs |= {"categories": merged} | ({"ordered": True} if array.type.ordered else {})
        else:
            column.attrs.pop("categories", None)
            self._dictionaries[column.title] = False
            leave_out(f"column {column.title!r}", "list of categories", "part")

    def _take_text(self, column: _FieldColumn, kind: Any) -> None:
        """Read a field of lists that are no arrays as text."""
        text = column.form.text
        if text is None:
            self._columns.remove(column)
            self._leave_out(column.name, kind)
        else:
            column.form = replace(text, is_regular=None)
            column.attrs = {**text.attrs, **column.attrs}

    def _take_part(self, array: Any, column: _FieldColumn, where: str) -> Any:
        storage = array.storage if isinstance(array.type, arrow.BaseExtensionType) else array
        parts = dict(zip((part.name for part in _list_parts(array.type)), storage.flatten(), strict=True))
        if _type_of(self._features.get(column.title)) in _MEDIA:
            lost = compute.and_(parts["bytes"].is_null(), parts["path"].is_valid())
            if compute.any(lost).as_py():
                path = parts["path"].filter(lost)[0].as_py()
                kind = _type_of(self._features[column.title])
                raise InvalidInputError(
                    f"{where}: column {column.title!r} has an {kind.lower()} that is only a path, {path!r:.80}; "
                    f"save the data set with embedded {kind.lower()}s"
                )
        return parts[column.part]


def read_frame(
    frame: Any, names: Sequence[str] | None = None, *, prefix: str = ""
) -> tuple[list[ColumnPlan], Iterator[dict[str, Values]]]:
    """Return the columns to create for a table of pandas, Polars or Arrow, and batches of its rows.

    An index of pandas that does more than number the rows is a column, by its name or `index`. Raises `SchemaError`
    naming a column whose values have no lossless form, or a title that occurs twice.
    """
    table = _open_frame(frame)
    titles = table.schema.names
    chosen = list(titles if names is None else names)
    if len(chosen) != len(titles):
        raise SchemaError(f"expected names for {len(titles)} columns ({', '.join(titles[:9])}), found {len(chosen)}")
    twice = [title for title, count in Counter(titles).items() if count > 1]
    if twice:
        raise SchemaError(f"expected unique column titles, found {twice[0]!r} twice")
    named = {title: prefix + name for title, name in zip(titles, chosen, strict=True)}
    columns = ArrowTable(table.schema, named, prefix=prefix)
    columns.check([table] if len(table) else ())
    for plan in columns.plans:
        if plan.absence != NO_VALUES:
            raise SchemaError(f"column {plan.name!r}: values of {plan.absence} cannot be samples; convert or drop them")
    return [*columns.plans, *map(ColumnPlan, columns.class_columns)], _iter_frame(columns, table)


def _iter_frame(columns: ArrowTable, table: Any) -> Iterator[dict[str, Values]]:
    size = max(1, _FRAME_BATCH_NBYTES * len(table) // max(1, table.nbytes))
    for batch in table.to_batches(max_chunksize=min(size, _FRAME_BATCH_ROWS)):
        yield columns.read(batch, lambda *_: None)


def _open_frame(frame: Any) -> Any:
    """Return a data frame as an Arrow table."""
    try:
        if type(frame).__module__.partition(".")[0] == "pandas":
            return _open_pandas(frame)
        return arrow.table(frame)
    except (arrow.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(
            f"expected columns of numbers, dates, text, bytes or lists of them, found others ({error}); convert them"
        ) from error


def _open_pandas(frame: Any) -> Any:
    index = frame.index
    is_numbers = index.nlevels == 1 and index.name is None and index.dtype.kind in "iu"
    keeps = not (is_numbers and np.array_equal(index.to_numpy(), np.arange(len(frame))))
    if not all(isinstance(title, str) for title in frame.columns):
        frame = frame.set_axis([str(title) for title in frame.columns], axis=1)
    table = arrow.Table.from_pandas(frame, preserve_index=keeps)
    names = [_name_index(name, table.schema.names) for name in table.schema.names]
    return table.rename_columns(names)


def _name_index(name: str, taken: Sequence[str]) -> str:
    plain = name.removeprefix("__index_level_").removesuffix("__")
    if plain == name or not plain.isdecimal():
        return name
    fresh = "index" if plain == "0" else f"index{plain}"
    return name if fresh in taken else fresh


def _join(array: Any) -> Any:
    """Return the column of a table as one array, as that of a record batch is."""
    return array.combine_chunks() if isinstance(array, arrow.ChunkedArray) else array


def _list_parts(kind: Any) -> list[Any]:
    storage = kind.storage_type if isinstance(kind, arrow.BaseExtensionType) else kind
    return [storage.field(number) for number in range(storage.num_fields)]


def _is_file(kind: Any) -> bool:
    """Return whether a type is a struct of a file's bytes and path, and of nothing else."""
    storage = kind.storage_type if isinstance(kind, arrow.BaseExtensionType) else kind
    if not types.is_struct(storage) or storage.num_fields != 2:
        return False
    parts = {part.name: part.type for part in _list_parts(kind)}
    is_bytes = "bytes" in parts and (types.is_binary(parts["bytes"]) or types.is_large_binary(parts["bytes"]))
    return is_bytes and "path" in parts and is_text(parts["path"])


def _find_decoder(metadata: Mapping[bytes, bytes], feature: Any) -> str | None:
    decoder = metadata.get(DECODER_KEY)
    if decoder is not None:
        return decoder.decode("ascii", "replace")
    return "image" if _type_of(feature) == "Image" else None


def _type_of(feature: Any) -> str:
    found = feature.get("_type") if isinstance(feature, dict) else None
    return found if isinstance(found, str) else ""


def _find_classes(feature: Any) -> list[str] | None:
    """Return the class names of a feature of labels, or of lists of labels."""
    while _type_of(feature) in _LISTS:
        feature = feature.get("feature")
    names = feature.get("names") if _type_of(feature) == "ClassLabel" else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _has_classes(feature: Any) -> bool:
    if isinstance(feature, dict):
        return _type_of(feature) == "ClassLabel" or any(map(_has_classes, feature.values()))
    return isinstance(feature, list) and any(map(_has_classes, feature))


def _read_features(schema: Any) -> dict[str, Any]:
    """Return the features in a schema's metadata, by field."""
    info = _read_object((schema.metadata or {}).get(_FEATURES_KEY), "the features of the data set").get("info")
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _read_object(data: bytes | None, where: str) -> dict[str, Any]:
    """Return the JSON object in some metadata, or an empty one."""
    if data is None:
        return {}
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where}: expected a JSON object in the metadata ({error})") from error
    return content if isinstance(content, dict) else {}


def _list_range_indexes(schema: Any) -> Iterator[dict[str, Any]]:
    found = _read_object((schema.metadata or {}).get(b"pandas"), "the metadata of pandas").get("index_columns")
    for index in found if isinstance(found, list) else ():
        if isinstance(index, dict) and index.get("kind") == "range":
            yield index

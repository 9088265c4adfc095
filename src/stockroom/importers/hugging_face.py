"""`stock import huggingface DIR`: a Hugging Face data set that `save_to_disk` wrote, read from its Arrow files.

Owns the layout of such a folder. Needs pyarrow, not the library `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.arrow_values import load_arrow, plan_column, read_values
from stockroom.importers.column_names import name_columns
from stockroom.importers.parquet_files import NOT_WHOLE
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

_MAX_JSON_NBYTES: Final = 64 << 20
_Field = TypeVar("_Field", dict[str, Any], list[Any])


class HuggingFaceImporter(Importer):
    """Reads the folders of `Dataset.save_to_disk` and `DatasetDict.save_to_disk`."""

    name = "huggingface"

    def open(self, spec: ImportSpec) -> Sequence[TableSource]:
        """Return the table of each split, or of the one that `spec` names, with columns such as `train-image`."""
        if len(spec.paths) != 1:
            raise InvalidInputError(f"expected one folder of a saved data set, found {len(spec.paths)}")
        folder = (spec.root or Path()) / spec.paths[0]
        if not (folder / "dataset_dict.json").is_file():
            return [_open_split(folder, "")]
        splits = _read_field(folder / "dataset_dict.json", "splits", [])
        if spec.split is not None and spec.split not in splits:
            raise InvalidInputError(
                f"{folder}: expected one of the splits {', '.join(map(str, splits))}, found {spec.split!r}"
            )
        chosen = splits if spec.split is None else [spec.split]
        return [_open_split(_resolve_below(folder, split), f"{split}-") for split in chosen]


def _open_split(folder: Path, prefix: str) -> TableSource:
    files = _list_files(folder)
    features = _read_field(folder / "dataset_info.json", "features", {})
    with _open_stream(files[0]) as stream:
        schema = stream.schema
        names = {title: prefix + name for title, name in name_columns(schema.names, str(folder)).items()}
        plans = [_plan(field, names[field.name], features.get(field.name)) for field in schema]
    return TableSource(
        prefix.removesuffix("-") or folder.name, plans, None, partial(_iter_batches, files, names, features)
    )


def _plan(field: Any, name: str, feature: Any) -> ColumnPlan:
    if not isinstance(feature, dict):
        return plan_column(field, name, {})
    if _is_image(feature):
        return ColumnPlan(name, Schema("bytes", (None,)), {}, "image")
    classes = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return plan_column(field, name, {"classes": classes} if classes and len(str(classes)) < 1 << 15 else {})


def _is_image(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"


def _iter_batches(
    files: Sequence[Path], names: Mapping[str, str], features: Mapping[str, Any]
) -> Iterator[dict[str, Values]]:
    for file in files:
        with _open_stream(file) as stream:
            if not names.keys() >= set(stream.schema.names):
                raise InvalidInputError(
                    f"{file}: expected the columns of {files[0]}, found others; import it separately"
                )
            for whole in stream:
                whole.validate(full=True)  # pyarrow trusts the offsets in a stream, even outside its data
                size = max(1, BATCH_NBYTES * len(whole) // max(1, whole.nbytes))
                for start in range(0, len(whole), size):
                    yield _name_values(whole.slice(start, size), names, features, file)


def _name_values(batch: Any, names: Mapping[str, str], features: Mapping[str, Any], file: Path) -> dict[str, Values]:
    values: dict[str, Values] = {}
    for field, array in zip(batch.schema, batch.columns, strict=True):
        is_image = _is_image(features.get(field.name))
        values[names[field.name]] = _read_images(array, field, file) if is_image else read_values(array, field)
    return values


def _read_images(array: Any, field: Any, file: Path) -> Values:
    """Return the bytes of image files, which are stored beside their former paths."""
    if isinstance(array.type, load_arrow(str(file)).BaseExtensionType):
        array = array.storage
    values = array.to_pylist()
    for value in values:
        if isinstance(value, dict) and value.get("bytes") is None:
            raise InvalidInputError(
                f"{file}: column {field.name!r} has an image that is only a path, {value.get('path')!r:.80}; "
                "save the data set with embedded images"
            )
    return [value["bytes"] if isinstance(value, dict) else value for value in values]


def _list_files(folder: Path) -> list[Path]:
    """Return the Arrow files that the folder's state names, in order."""
    entries = _read_field(folder / "state.json", "_data_files", [])
    files = [_resolve_below(folder, entry.get("filename") if isinstance(entry, dict) else None) for entry in entries]
    if not files:
        raise InvalidInputError(f"{folder}: expected Arrow files, found none named in its state.json")
    return files


def _resolve_below(folder: Path, name: object) -> Path:
    """Return the path of `name` directly in `folder`. Raises `CorruptionError` if `name` points elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\x00" in name:
        raise CorruptionError(f"{folder}: expected a name in this folder, found {name!r:.80}", where=str(folder))
    return folder / name


def _read_field(path: Path, key: str, empty: _Field) -> _Field:
    """Return a list or an object in a JSON file, or `empty` if the file has none."""
    with translate_read_errors(path):
        if path.stat().st_size > _MAX_JSON_NBYTES:
            raise CorruptionError(f"{path}: expected at most {_MAX_JSON_NBYTES} bytes, found more", where=str(path))
        data = path.read_bytes()
    with translate_read_errors(path, "not valid JSON"):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise CorruptionError(f"{path}: expected a JSON object, found {type(content).__name__}", where=str(path))
    value = content.get(key) or empty
    if not isinstance(value, type(empty)):
        raise CorruptionError(f"{path}: {key}: expected a {type(empty).__name__}, found {value!r:.80}", where=str(path))
    return value


@contextmanager
def _open_stream(path: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file, which is mapped into memory."""
    arrow = load_arrow(str(path))
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file")
    with (
        translate_read_errors(path, NOT_WHOLE),
        arrow.memory_map(str(path)) as file,
        arrow.ipc.open_stream(file) as stream,
    ):
        yield stream

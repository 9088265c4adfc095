"""`stock import huggingface DIR`: a Hugging Face data set that `save_to_disk` wrote, read from its Arrow files.

Owns the layout of such a folder. Needs pyarrow, not the library `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.column_names import name_columns
from stockroom.importers.limits import Limits
from stockroom.importers.parquet_files import NOT_WHOLE, make_sources
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import check_arrow

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
            return _open_split(folder, "", spec.limits)
        splits = _read_field(folder / "dataset_dict.json", "splits", [])
        if spec.split is not None and spec.split not in splits:
            raise InvalidInputError(
                f"{folder}: expected one of the splits {', '.join(map(str, splits))}, found {spec.split!r}"
            )
        chosen = splits if spec.split is None else [spec.split]
        return [
            source
            for split in chosen
            for source in _open_split(_resolve_below(folder, split), f"{split}-", spec.limits)
        ]


def _open_split(folder: Path, prefix: str, limits: Limits) -> list[TableSource]:
    check_arrow(str(folder))
    from stockroom.shelves.data.arrow_table import ArrowTable  # needs the extra

    files, name = _list_files(folder), prefix.removesuffix("-") or folder.name
    if not files:
        return [TableSource(name, [], 0, lambda: iter(()), [f"{folder}: has no rows"])]
    features = _read_field(folder / "dataset_info.json", "features", {})
    with _open_stream(files[0]) as stream:
        schema = stream.schema
    names = {title: prefix + name for title, name in name_columns(schema.names, str(folder), limits).items()}
    with translate_read_errors(files[0], NOT_WHOLE):
        table = ArrowTable(schema, names, features, prefix=prefix)
        table.check(_iter_batches(files, schema) if table.unchecked else ())
    return make_sources(table, name, None, partial(_iter_batches, files, schema))


def _iter_batches(files: Sequence[Path], schema: Any) -> Iterator[Any]:
    for file in files:
        with _open_stream(file) as stream:
            if not stream.schema.equals(schema):
                raise InvalidInputError(
                    f"{file}: expected the columns of {files[0]}, found others; import it separately"
                )
            for whole in stream:
                whole.validate(full=True)  # pyarrow trusts the offsets in a stream, even outside its data
                size = max(1, BATCH_NBYTES * len(whole) // max(1, whole.nbytes))
                for start in range(0, len(whole), size):
                    yield whole.slice(start, size)


def _list_files(folder: Path) -> list[Path]:
    """Return the Arrow files that the folder's state names, in order; a data set without rows may have none."""
    entries = _read_field(folder / "state.json", "_data_files", [])
    files = [_resolve_below(folder, entry.get("filename") if isinstance(entry, dict) else None) for entry in entries]
    if not files and "_data_files" not in _read_json(folder / "state.json"):
        raise InvalidInputError(f"{folder}: expected Arrow files, found none named in its state.json")
    return files


def _resolve_below(folder: Path, name: object) -> Path:
    """Return the path of `name` directly in `folder`. Raises `CorruptionError` if `name` points elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\x00" in name:
        raise CorruptionError(f"{folder}: expected a name in this folder, found {name!r:.80}", where=str(folder))
    return folder / name


def _read_field(path: Path, key: str, empty: _Field) -> _Field:
    """Return a list or an object in a JSON file, or `empty` if the file has none."""
    value = _read_json(path).get(key) or empty
    if not isinstance(value, type(empty)):
        raise CorruptionError(f"{path}: {key}: expected a {type(empty).__name__}, found {value!r:.80}", where=str(path))
    return value


def _read_json(path: Path) -> dict[str, Any]:
    with translate_read_errors(path):
        if path.stat().st_size > _MAX_JSON_NBYTES:
            raise CorruptionError(f"{path}: expected at most {_MAX_JSON_NBYTES} bytes, found more", where=str(path))
        data = path.read_bytes()
    with translate_read_errors(path, "not valid JSON"):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise CorruptionError(f"{path}: expected a JSON object, found {type(content).__name__}", where=str(path))
    return content


@contextmanager
def _open_stream(path: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file, which is mapped into memory."""
    import pyarrow as arrow

    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file")
    with (
        translate_read_errors(path, NOT_WHOLE),
        arrow.memory_map(str(path)) as file,
        arrow.ipc.open_stream(file) as stream,
    ):
        yield stream

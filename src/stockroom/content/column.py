"""The record that describes a column: its schema and the root of its tree, as one metadata object."""

from __future__ import annotations

import functools
import math
import re
from typing import Any, Final

import msgspec

from stockroom.content.attrs import check_json
from stockroom.digest import DIGEST_NBYTES, ObjectDigest
from stockroom.errors import InvalidInputError, MalformedRecordError, SchemaError
from stockroom.refs.record import RecordFormat
from stockroom.store.codecs import check_codec
from stockroom.store.dtypes import parse_dtype
from stockroom.store.entry import MAX_SAMPLE_NBYTES, EntryFormat
from stockroom.trees import KeyType, TreeFormat

STR, BYTES = "str", "bytes"
_MAX_AXES = 32
_DECODER = re.compile(r"[a-z0-9_]{1,32}(:[A-Za-z0-9_]{1,32})?")


class ColumnRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A column at one commit. `dtype` is a dtype name, `str` or `bytes`; None in `shape` is an axis of any length.

    `root` is the root node of the tree from keys to entries. `attrs` is the user's small JSON mapping. `decoder` names
    the encoding of the samples of a `bytes` column; None, which is not recorded, means plain bytes.
    """

    dtype: str
    shape: tuple[int | None, ...]
    key_type: str
    codec: str
    root: bytes
    attrs: dict[str, Any]
    decoder: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether samples are str or bytes rather than arrays."""
        return self.dtype in (STR, BYTES)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 1 if self.is_text else parse_dtype(self.dtype).itemsize

    @property
    def entry_format(self) -> EntryFormat:
        """The format of the entries in the tree."""
        return _make_entry_format(self.itemsize, self.shape)

    @property
    def tree_format(self) -> TreeFormat:
        """The format of the column's tree."""
        return TreeFormat(KeyType(self.key_type), self.entry_format.width)

    @property
    def schema(self) -> tuple[object, ...]:
        """The fields that two versions of a column must share for their samples to be comparable."""
        return (self.dtype, self.shape, self.key_type, self.decoder)

    def encode(self) -> bytes:
        """Return the canonical bytes of the object: magic `SRco`, version 1, then the fields as msgpack."""
        return _FORMAT.encode(self)

    def replace_root(self, root: ObjectDigest) -> ColumnRecord:
        """Return the same column with another tree."""
        return msgspec.structs.replace(self, root=root)


_FORMAT: Final = RecordFormat(ColumnRecord, magic=b"SRco", version=1, name="column", max_nbytes=1 << 20)
_make_entry_format: Final = functools.lru_cache(256)(EntryFormat)


def decode_column(data: bytes, *, where: str) -> ColumnRecord:
    """Return the column record in `data`. Raises `MalformedRecordError` naming `where` if `data` is invalid."""
    record = _FORMAT.decode(data, where=where)
    try:
        check_schema(record)
    except InvalidInputError as error:
        raise MalformedRecordError(f"{where}: malformed column record ({error})", where=where) from error
    if len(record.root) != DIGEST_NBYTES:
        raise MalformedRecordError(f"{where}: malformed column record (its root is not a digest)", where=where)
    return record


def check_schema(record: ColumnRecord) -> None:
    """Raise `SchemaError` or `InvalidInputError` if dtype, shape, key type, decoder or codec is unsupported."""
    check_codec(record.codec)
    _check_schema(record.dtype, record.shape, record.key_type, record.decoder)


@functools.lru_cache(1024)  # a walk reads the records of one column at every commit
def _check_schema(dtype: str, shape: tuple[int | None, ...], key_type: str, decoder: str | None) -> None:
    if key_type not in tuple(KeyType):
        raise SchemaError(f"expected keys 'int' or 'str', found {key_type!r}")
    if decoder is not None and (dtype != BYTES or not _DECODER.fullmatch(decoder)):
        raise SchemaError(f"expected a decoder such as 'image' on a bytes column, found {decoder!r} and dtype {dtype}")
    if dtype in (STR, BYTES):
        if shape != (None,):
            raise SchemaError(f"a {dtype} column takes no shape, found {shape}")
        return
    parse_dtype(dtype)
    if len(shape) > _MAX_AXES or any(length is not None and not 0 <= length < 1 << 40 for length in shape):
        raise SchemaError(f"expected a shape of at most {_MAX_AXES} non-negative lengths, found {shape}")
    if parse_dtype(dtype).itemsize * math.prod(length or 1 for length in shape) > MAX_SAMPLE_NBYTES:
        raise SchemaError(f"expected samples of at most 2^60 bytes, found the shape {shape} of {dtype}")


def check_attrs(attrs: object, *, column: str) -> dict[str, Any]:
    """Return `attrs` as plain JSON values. Raises `SchemaError` if it is not a mapping of them or exceeds 64 KiB."""
    return check_json(attrs, where=f"column {column!r}", name="attrs")

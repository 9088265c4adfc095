"""Records and objects, read from sections 4.1 and 5 of docs/format.md alone."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from blake3 import blake3
from numcodecs import zstd
from numpy.lib.stride_tricks import as_strided
from tests.golden.format_msgpack import Cursor, demand, read_msgpack
from tests.golden.format_packs import TORCH_ONLY, measure_element

KINDS = {
    b"SRcm": 1 << 20, b"SRco": 1 << 20, b"SRse": 1 << 20, b"SRva": 1 << 20, b"SRsu": 48 << 20,
    b"SRst": 256, b"SRsm": 256, b"SRmg": 64 << 20, b"SRop": 1 << 20, b"SRrs": 16 << 20, b"SRrm": 64 << 20,
}  # fmt: skip
I64 = range(-(1 << 63), 1 << 63)


def read_at_rest(data: bytes, digest: bytes) -> bytes:
    """4.1: the canonical bytes of an object."""
    encoding, nbytes = struct.unpack("<BI", data[:5])
    demand(encoding <= 1 and nbytes <= 64 << 20, "encoding and length of an object at rest")
    content = bytes(zstd.decompress(data[5:])) if encoding else data[5:]
    demand(len(content) == nbytes, "the length of an object at rest")
    demand(blake3(content).digest() == digest, "an object's digest")
    return content


def read_fields(data: bytes, magic: bytes, version: int = 1) -> Any:
    """5: the fields of a record."""
    demand(data[:4] == magic and data[4] == version, f"magic {magic!r} and version {version}")
    demand(len(data) <= KINDS[magic], f"the limit of {magic!r}")
    return read_msgpack(data[5:])


def name_fields(data: bytes, magic: bytes, names: str, version: int = 1) -> dict[str, Any]:
    """5: the fields of a record that is an array, by name."""
    fields = read_fields(data, magic, version)
    wanted = names.split()
    demand(isinstance(fields, list) and len(fields) == len(wanted), f"{magic!r} has {len(wanted)} fields")
    return dict(zip(wanted, fields, strict=True))


def check_digest(value: Any, *, may_be_nil: bool = False) -> None:
    demand((value is None and may_be_nil) or (isinstance(value, bytes) and len(value) == 32), "a digest of 32 bytes")


def check_user_map(value: Any) -> None:
    """5: keys of maps of the user's own ascend by their bytes."""
    if isinstance(value, dict):
        keys = [key.encode() for key in value]
        demand(keys == sorted(keys), "the keys of a user's map ascend")
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            check_user_map(part)


def read_commit(data: bytes) -> dict[str, Any]:
    """5.1"""
    commit = name_fields(data, b"SRcm", "tree parents author email time_ns offset_minutes message metadata")
    for digest in [commit["tree"], *commit["parents"]]:
        check_digest(digest)
    demand(len(commit["parents"]) <= 256, "at most 256 parents")
    demand(all(isinstance(commit[name], str) for name in ("author", "email", "message")), "texts of a commit")
    demand(commit["time_ns"] in I64 and -1439 <= commit["offset_minutes"] <= 1439, "time and zone of a commit")
    check_user_map(commit["metadata"])
    plain = (str, int, float, bool, type(None))
    demand(all(isinstance(value, plain) for value in commit["metadata"].values()), "values of a commit's metadata")
    return commit


def read_column(data: bytes) -> dict[str, Any]:
    """5.2"""
    column: dict[str, Any] = read_fields(data, b"SRco")
    names = ["dtype", "shape", "key_type", "codec", "root", "attrs"]
    demand(list(column) in (names, [*names, "decoder"]), "the keys of a column, in order")
    check_digest(column["root"])
    demand(column["key_type"] in ("int", "str"), "key type of a column")
    demand(column["codec"] in ("auto", "raw", "lz4", "zstd", "blosc"), "codec of a column")
    if column["dtype"] in ("str", "bytes"):
        demand(column["shape"] == [None], "the shape of text and bytes")
    else:
        measure_element(column["dtype"])
    demand(len(column["shape"]) <= 32, "axes of a column")
    demand(all(n is None or 0 <= n < 1 << 40 for n in column["shape"]), "lengths of a column")
    if "decoder" in column:
        pattern = r"[a-z0-9_]{1,32}(:[A-Za-z0-9_]{1,32})?"
        demand(column["dtype"] == "bytes" and re.fullmatch(pattern, column["decoder"]), "decoder of a column")
    check_json(column["attrs"])
    return column


def check_json(value: Any) -> None:
    check_user_map(value)
    demand(isinstance(value, dict) and len(json.dumps(value)) <= 64 << 10, "at most 64 KiB as JSON")


def read_stage(data: bytes) -> dict[str, Any]:
    """5.3"""
    if data[:4] == b"SRsm":
        stage = name_fields(data, b"SRsm", "base root merging")
        check_digest(stage["merging"])
    else:
        stage = name_fields(data, b"SRst", "base root") | {"merging": None}
    check_digest(stage["base"], may_be_nil=True)
    check_digest(stage["root"])
    return stage


def read_merging(data: bytes) -> dict[str, Any]:
    """5.3: a merge under way."""
    merging = name_fields(data, b"SRmg", "kind theirs parent message open_conflicts")
    demand(merging["kind"] in ("merge", "revert", "cherry-pick"), "kind of a merge")
    check_digest(merging["theirs"])
    check_digest(merging["parent"], may_be_nil=True)
    for conflict in merging["open_conflicts"]:
        path, key, kind, *sides = conflict
        demand(isinstance(path, str) and isinstance(kind, str), "path and kind of a conflict")
        demand(key is None or isinstance(key, int | str), "key of a conflict")
        demand(all(side is None or re.fullmatch("[0-9a-f]*", side) for side in sides), "sides of a conflict")
        demand(len(sides) == 3, "base, ours and theirs of a conflict")
    return merging


def read_operation(key: bytes, data: bytes) -> dict[str, Any]:
    """5.4"""
    operation = name_fields(data, b"SRop", "number time_ns kind ref old new note undoes")
    demand(operation["number"] >= 1 and key == struct.pack(">Q", operation["number"]), "number of an operation")
    demand(operation["time_ns"] in I64, "time of an operation")
    check_digest(operation["old"], may_be_nil=True)
    check_digest(operation["new"], may_be_nil=True)
    demand(operation["ref"].split("/")[0] in ("branch", "tag", "remote", "stage"), "ref of an operation")
    return operation


def read_state(data: bytes) -> dict[str, Any]:
    """5.5"""
    state: dict[str, Any] = read_fields(data, b"SRse")
    demand(list(state) == ["structure", "root", "metadata"], "the keys of a state, in order")
    check_digest(state["structure"])
    check_digest(state["root"])
    check_json(state["metadata"])
    return state


def read_value(data: bytes) -> tuple[list[Any], dict[str, bytes]]:
    """5.6: the structure's node, and the payload of each stored leaf by path."""
    value = read_fields(data, b"SRva")
    demand(list(value) == ["structure", "payloads"], "the keys of a value, in order")
    stored = check_structure(value["structure"])
    demand(len(stored) == len(value["payloads"]), "one payload for each stored leaf")
    demand(sum(map(len, value["payloads"])) <= 16_384, "payloads of a value together")
    payloads = dict(zip(stored, value["payloads"], strict=True))
    for path, payload in payloads.items():
        demand(stored[path] in (None, len(payload)), f"the size of leaf {path!r}")
    return value["structure"], payloads


def read_structure(data: bytes) -> tuple[list[Any], dict[str, int | None]]:
    """5.7: the node, and the size of each stored leaf by path, None where it has any."""
    (node,) = read_fields(data, b"SRsu")
    return node, check_structure(node)


def check_structure(node: list[Any]) -> dict[str, int | None]:
    """5.7: the stored leaves' sizes by path."""
    before: dict[str, list[Any]] = {}
    stored: dict[str, int | None] = {}
    for path, leaf in iter_leaves(node, None, 0, is_note=False):
        tag, *fields = leaf
        if tag == "s":
            (kind,) = fields
            demand(kind in ("bool", "int", "float", "complex", "str", "bytes"), "kind of a scalar")
            stored[path] = {"bool": 1, "float": 8, "complex": 16}.get(kind)
        elif tag == "a":
            stored[path] = _check_array(*fields)
        elif tag == "v":
            base = read_text(fields[5])
            stored[base] = _check_view(path, base, fields, before)
        else:
            demand(
                tag == "=" and before.get(read_text(fields[0]), [""])[0] in ("a", "v"), "a tie leads to a leaf before"
            )
        before[path] = leaf
    return stored


def _check_array(library: str, dtype: str, shape: list[int]) -> int:
    demand(library in ("numpy", "scalar", "torch") and (library == "torch" or dtype not in TORCH_ONLY), "library")
    demand(library != "scalar" or not shape, "a scalar has no axes")
    _check_shape(dtype, shape)
    return measure_element(dtype) * math.prod(shape)


def _check_shape(dtype: str, shape: list[int]) -> None:
    demand(len(shape) <= 64 and all(0 <= n <= 1 << 48 for n in shape), "lengths of a shape")
    demand(measure_element(dtype) * math.prod(n for n in shape if n) <= 1 << 60, "the extent of a shape")


def _check_view(path: str, base: str, fields: list[Any], before: dict[str, list[Any]]) -> int:
    dtype, shape, strides, offset, length, _ = fields
    _check_shape(dtype, shape)
    demand(len(strides) == len(shape) and 0 not in shape and min([offset, *strides]) >= 0, "strides of a view")
    reach = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    demand(reach < length, "a view lies within its memory")
    if path != base:
        first = before.get(base, [""])
        demand(first[0] == "v" and (first[1], first[5], first[6]) == (dtype, length, fields[5]), "one memory")
    return measure_element(dtype) * length


def iter_leaves(node: list[Any], path: str | None, depth: int, *, is_note: bool) -> Iterator[tuple[str, list[Any]]]:
    """5.8: every leaf with its path, in order."""
    tag, *fields = node
    demand(tag in "dltcsav=", f"a node's tag, not {tag!r}")
    if tag == "c":
        demand(is_note or fields[0] is None, "a value that is kept in the structure")
        return
    if tag not in "dlt":
        demand(not is_note, "no leaves among notes")
        yield path or "", node
        return
    demand(depth < 100, "at most 100 containers within each other")
    nodes = fields[2] if tag == "d" else fields[0]
    keys: list[int | str] = list(range(len(nodes)))
    if tag == "d":
        kind, keys, _, notes = fields
        demand(kind in ("dict", "OrderedDict", "Counter") and len(keys) == len(nodes), "kind and keys of a mapping")
        demand(len(set(keys)) == len(keys) and all(isinstance(k, str) or k in I64 for k in keys), "keys")
        if notes is not None:
            demand(not list(iter_leaves(notes, None, depth + 1, is_note=True)), "no leaves among notes")
    for key, child in zip(keys, nodes, strict=True):
        part = write_component(key)
        yield from iter_leaves(child, part if path is None else f"{path}/{part}", depth + 1, is_note=is_note)


def find_cut(leaf: list[Any], nbytes: int) -> tuple[str, list[int]]:
    """7.1: the dtype and shape by which a stored leaf of so many bytes is cut into chunks."""
    tag, *fields = leaf
    if tag == "a":
        return fields[1], fields[2]
    return (fields[0], [fields[4]]) if tag == "v" else ("bytes", [nbytes])


def read_view(leaf: list[Any], memory: bytes) -> bytes:
    """5.7: the elements of a `v` leaf, in C order."""
    _, dtype, shape, strides, offset, length, _ = leaf
    size = measure_element(dtype)
    elements = np.frombuffer(memory, f"V{size}", length)[offset:]
    return as_strided(elements, shape, [stride * size for stride in strides]).tobytes()


def read_text(text: str) -> str:
    """5.7: a key or path as it is meant."""
    if not text.startswith("\0"):
        return text
    meant = bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass")
    demand("\0" + meant.encode("utf-8", "surrogatepass").hex() == text, "hex digits are lower-case")
    demand(meant.startswith("\0") or any("\ud800" <= c <= "\udfff" for c in meant), "no other is written in hex")
    return meant


def write_component(key: int | str) -> str:
    """5.8"""
    if isinstance(key, int):
        return str(key)
    text = read_text(key)
    escaped = text.replace("~", "~0").replace("/", "~1")
    return f"~2{escaped}" if re.fullmatch("-?[0-9]+|", text) else escaped


def read_ref_state(number: int, data: bytes) -> dict[str, Any]:
    """14.1"""
    fields = "number write_id time_ns head branches tags bundles"
    if data[4] == 2:
        state = name_fields(data, b"SRrs", f"{fields} marks", version=2)
        check_digest(state["marks"])
    else:
        state = name_fields(data, b"SRrs", fields)
    demand(state["number"] == number and len(state["write_id"]) == 16 and state["time_ns"] in I64, "number and id")
    check_user_map(state["branches"])
    check_user_map(state["tags"])
    for digest in [*state["branches"].values(), *state["tags"].values()]:
        check_digest(digest)
    demand(state["head"] is None or state["head"] in state["branches"], "head is one of the branches")
    for digest, *sizes in state["bundles"]:
        check_digest(digest)
        demand(len(sizes) == 4 and min(sizes) >= 0, "what a state says of a bundle")
    return state


def read_remote_marks(data: bytes) -> dict[tuple[int, bytes], tuple[int, int]]:
    """14.7: when each kind and digest was marked, and until when it is being removed."""
    table = name_fields(data, b"SRrm", "salt marks")
    demand(len(table["salt"]) == 16, "a salt")
    things = [(kind, digest) for kind, digest, _, _ in table["marks"]]
    demand(things == sorted(set(things)), "marks in order")
    for kind, digest, since_s, until_s in table["marks"]:
        check_digest(digest)
        demand(kind in (1, 2, 3) and since_s >= 0 and until_s >= 0, "a mark")
    return {(kind, digest): (since_s, until_s) for kind, digest, since_s, until_s in table["marks"]}


def read_head(text: bytes) -> tuple[str | None, str | None]:
    """3: branch and commit."""
    demand(len(text) <= 4096, "at most 4,096 bytes")
    match = re.fullmatch(rb"stockroom head 1\nbranch ([^\n]+)\ncommit (-|[0-9a-f]{64})\n", text)
    demand(match, "three lines")
    branch, commit = (part.decode() for part in match.groups())  # type: ignore[union-attr]
    return None if branch == "-" else branch, None if commit == "-" else commit


def read_bundle(data: bytes) -> dict[int, dict[bytes, bytes]]:
    """14.2: payloads by digest, by kind."""
    cursor = Cursor(data)
    magic, version, zero, count, nbytes = cursor.unpack("<8sH6sQQ")
    demand((magic, version, zero, nbytes) == (b"SRBUNDLE", 1, bytes(6), len(data)), "header of a bundle")
    records: dict[int, dict[bytes, bytes]] = {1: {}, 2: {}, 3: {}}
    for _ in range(count):
        kind, zero, size, digest = cursor.unpack("<B3sI32s")
        demand(kind in records and zero == bytes(3) and digest not in records[kind], "head of a record")
        records[kind][digest] = cursor.take(size)
    cursor.finish()
    return records


def read_pack_payload(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """14.2: `zarr.json`, `chunks` and index."""
    cursor = Cursor(payload)
    zarr, zero, chunks, index = cursor.unpack("<I4sQQ")
    demand(zero == bytes(4), "zero of a pack's payload")
    parts = (cursor.take(zarr), cursor.take(chunks), cursor.take(index))
    cursor.finish()
    return parts

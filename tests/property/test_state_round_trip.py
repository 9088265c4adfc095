"""Whatever nested state is saved comes back bit for bit: whole, leaf by leaf, before and after the commit, in parts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tests.kit.states import (
    INT_KEYS,
    KEYS,
    TORCH_DTYPES,
    arrays,
    assert_same,
    assert_tied_as,
    container_type,
    flat_tensors,
    iter_leaves,
    list_parts,
    map_leaves,
    states,
    tensor_bytes,
    tensor_views,
)

from stockroom import InvalidInputError, LeafNotFoundError, StockRoom
from stockroom.shelves.model.state import State

EXAMPLES = int(os.environ.get("STOCKROOM_EXAMPLES", "60"))
quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

NAN_PAYLOAD = torch.tensor([0x7FA00001], dtype=torch.int32).view(torch.float32)
HALF = torch.arange(6.0)


class Folder:
    """A repository that one example after another uses, each for a model of its own name."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        StockRoom.init(self.path).close()
        self.number = 0

    def save(self, state: object) -> str:
        """The name of a model that holds `state`, committed."""
        self.number += 1
        name = f"model {self.number}"
        with StockRoom(self.path) as stock, stock.enable_write():
            stock.model[name] = state
        return name


@pytest.fixture(scope="module")
def folder() -> Iterator[Folder]:
    made = Folder()
    yield made
    with StockRoom(made.path) as stock:
        assert stock.verify().damage == []
    shutil.rmtree(made.path)


# -- everything


@quick
@given(state=states())
@example(state={"payload": NAN_PAYLOAD, "again": NAN_PAYLOAD, "zero": -0.0, "0": 1, 0: 2, "": {}})
@example(state={"a": HALF[::2].expand(4, 3), "b": HALF[1:], "c": HALF.view(2, 3).T, "d": [HALF[:0], HALF]})
def test_a_state_comes_back_as_it_was(folder: Folder, state: Any) -> None:
    folder.number += 1
    name = f"model {folder.number}"
    with StockRoom(folder.path) as stock:
        with stock.enable_write():
            stock.model[name] = state
            staged = stock.model[name].load()
        assert_same(staged, state)
        assert_tied_as(staged, state)
        assert_same(stock.model[name].load(), state)
    with StockRoom(folder.path) as stock:
        loaded = stock.model[name].load()
        assert_same(loaded, state)
        assert_tied_as(loaded, state)


@quick
@given(state=states().filter(lambda state: container_type(state) is not None))
def test_a_state_is_read_leaf_by_leaf(folder: Folder, state: Any) -> None:
    folder.number += 1
    name = f"model {folder.number}"
    with StockRoom(folder.path) as stock:
        with stock.enable_write():
            stock.model[name] = state
            assert_read_lazily(stock.model[name], state)
        assert_read_lazily(stock.model[name], state)


def assert_read_lazily(found: Any, expected: Any) -> None:
    """What is read by its key, and what is read in order, is what was saved."""
    if not isinstance(found, State):
        assert_same(found, expected)
        return
    parts = list_parts(expected)
    assert len(found) == len(parts)
    assert [(type(key), key) for key in found] == [(type(key), key) for key, _ in parts]
    together = dict(found.items())
    for key, part in parts:
        assert key in found
        assert_deeply(found[key], part)
        assert_deeply(together[key], part)


def assert_deeply(found: Any, expected: Any) -> None:
    """Lists and tuples are read whole, the dicts in them are not."""
    if isinstance(expected, list | tuple):
        assert type(found) is container_type(expected)
        assert len(found) == len(expected)
        for part, expected_part in zip(found, expected, strict=True):
            assert_deeply(part, expected_part)
    elif isinstance(expected, Mapping):
        assert isinstance(found, State)
        assert_read_lazily(found, expected)
        assert_same(found.load(), expected)
    else:
        assert_same(found, expected)


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_every_torch_dtype_comes_back_in_every_layout(folder: Folder, dtype: torch.dtype) -> None:
    raw = torch.arange(24 * dtype.itemsize, dtype=torch.uint8)
    flat = (raw & 1 if dtype is torch.bool else raw).view(dtype)
    layouts = {
        "whole": flat,
        "two axes": flat.clone().view(4, 6) if dtype.itemsize < 1 else flat.view(4, 6),
        "turned": flat.view(4, 6).T,
        "every second": flat[::2],
        "spread": flat[:3].expand(5, 3),
        "one": flat[5],
        "none": flat[:0],
    }
    alone = {name: torch.empty(0, dtype=torch.uint8).set_(_copy_memory(layout)) for name, layout in layouts.items()}
    for state in (layouts, {name: _lay_out(alone[name].view(dtype), layout) for name, layout in layouts.items()}):
        name = folder.save(state)
        with StockRoom(folder.path) as stock:
            assert_same(stock.model[name].load(), state)
            assert_same(dict(stock.model[name].items()), state)
            rows = map_leaves(state, lambda leaf: leaf[:2] if leaf.ndim else leaf)
            assert_same(stock.model[name].load(rows=slice(2)), rows)
            arrays = stock.model[name].load(as_numpy=True)
            assert {key: array.tobytes() for key, array in arrays.items()} == {
                key: tensor_bytes(tensor) for key, tensor in state.items()
            }


def _copy_memory(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage().clone()


def _lay_out(flat: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return flat.as_strided(like.shape, like.stride(), like.storage_offset())


def _count_up(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    count = int(np.prod(shape))
    raw = torch.arange(count * dtype.itemsize // 4, dtype=torch.int32).mul_(-0x61C88647)
    return raw.view(torch.uint8).view(dtype).view(shape)


LARGE = {
    "rows": lambda: _count_up(torch.float32, 3000, 1000),
    "rows of odd length": lambda: _count_up(torch.bfloat16, 1500, 1333 * 2),
    "one axis": lambda: _count_up(torch.float8_e5m2, (9 << 20) + 4),
    "one row": lambda: _count_up(torch.float64, 1, 700_001),
    "rows over a chunk": lambda: _count_up(torch.complex128, 3, 300_000),
    "just a chunk": lambda: _count_up(torch.int16, 2 << 20),
    "more than a pack": lambda: _count_up(torch.float16, 17, 3 << 20),
    "turned": lambda: _count_up(torch.float32, 2000, 900).T,
    "overlapping": lambda: _count_up(torch.int64, 1 << 20).as_strided((3, 1 << 19), (1 << 17, 1)),
    "spread": lambda: _count_up(torch.float32, 1).expand(3 << 20),
}


@pytest.mark.parametrize("what", LARGE)
def test_large_tensors_come_back_whole_and_by_row(folder: Folder, what: str) -> None:
    tensor = LARGE[what]()
    state = {"tensor": tensor, "array": tensor.contiguous().view(torch.uint8).numpy()}
    name = folder.save(state)
    with StockRoom(folder.path) as stock:
        model = stock.model[name]
        assert_same(model.load(), state)
        assert_same(model["tensor"], tensor)
        last = len(tensor) - 1
        for rows in (slice(1, 3), slice(None, None, -7), [last, 0, last // 2, 0, -1], slice(last, None)):
            expected = {key: torch.as_tensor(leaf)[_as_positions(rows, len(leaf))] for key, leaf in state.items()}
            loaded = model.load(rows=rows)
            assert_same(loaded["tensor"], expected["tensor"])
            assert_same(torch.from_numpy(loaded["array"]), expected["array"])


def _as_positions(rows: Any, count: int) -> list[int]:
    return list(range(count)[rows]) if isinstance(rows, slice) else [range(count)[row] for row in rows]


# -- parts


def list_paths(state: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every container and leaf within a state, by its path as documented."""
    for key, part in list_parts(state) if container_type(state) is not None else ():
        if isinstance(key, int):
            component = str(key)
        else:
            component = key.replace("~", "~0").replace("/", "~1")
            looks_int = key.removeprefix("-").isascii() and key.removeprefix("-").isdigit()
            component = f"~2{component}" if not key or looks_int else component
        at = f"{path}/{component}" if path else component
        yield at, part
        yield from list_paths(part, at)


def find_named(state: Any, name: object) -> list[str]:
    """The paths that a name names in a state: a key, a path, or a pattern of the paths of leaves."""
    paths = dict(list_paths(state))
    top = [at for (key, _), at in zip(list_parts(state), (at for at in paths if "/" not in at), strict=True)]
    keys = {(type(key), key): at for (key, _), at in zip(list_parts(state), top, strict=True)}
    if (type(name), name) in keys:
        return [keys[type(name), name]]
    if isinstance(name, int) and isinstance(state, list | tuple) and -len(state) <= name < 0:
        return [str(name + len(state))]
    if not isinstance(name, str):
        return []
    if name in paths:
        return [name]
    if not set(name) & set("*?["):
        return []
    return [at for at, part in paths.items() if is_leaf(part) and fnmatchcase(at, name)]


def is_leaf(part: Any) -> bool:
    return container_type(part) is None or not part


def pick(state: Any, chosen: set[str], path: str = "") -> Any:
    """The chosen parts of a state, whole, in the containers around them."""
    kind = container_type(state)
    assert kind is not None
    parts = []
    components = [at for at, _ in list_paths(state, path) if at.count("/") == (path.count("/") + 1 if path else 0)]
    for (key, part), at in zip(list_parts(state), components, strict=True):
        if at in chosen:
            parts.append((key, part))
        elif any(other.startswith(f"{at}/") for other in chosen):
            parts.append((key, pick(part, chosen, at)))
    return kind(parts) if issubclass(kind, dict) else kind(part for _, part in parts)


@quick
@given(data=st.data(), state=states(max_leaves=16).filter(lambda state: container_type(state) and state))
def test_named_parts_are_what_plain_python_would_pick(folder: Folder, data: st.DataObject, state: Any) -> None:
    paths = [path for path, _ in list_paths(state)]
    known = st.sampled_from([*paths, *(key for key, _ in list_parts(state))])
    patterns = st.sampled_from(["*", "*/*", "a*", "?", "[!a]*", *(f"{path[:2]}*" for path in paths)])
    names = data.draw(st.lists(known | known | patterns | KEYS, max_size=4))
    found = [find_named(state, name) for name in names]
    name = folder.save(state)
    with StockRoom(folder.path) as stock:
        if not all(found):
            with pytest.raises(LeafNotFoundError):
                stock.model[name].load(names=names)
            return
        expected = pick(state, {path for some in found for path in some})
        loaded = stock.model[name].load(names=names)
        assert_same(loaded, expected)
        assert_tied_as(loaded, expected)
        if len(names) == 1 and isinstance(names[0], str | int):
            assert_same(stock.model[name].load(names[0]), expected)


ROWS = st.one_of(
    st.slices(6),
    st.lists(st.integers(-6, 6), max_size=6),
    st.lists(st.integers(-6, 6), max_size=6).map(lambda rows: np.array(rows, np.int32)),
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=1, max_size=6).map(lambda rows: np.array(rows, bool)),
)


def take(leaf: Any, rows: Any) -> Any:
    """Rows of one leaf, by Python's own indexing of a range."""
    if not isinstance(leaf, torch.Tensor | np.ndarray) or not leaf.ndim:
        return leaf
    some = list(rows) if not isinstance(rows, slice) else rows
    if isinstance(some, list) and some and isinstance(some[0], bool | np.bool_):
        if len(some) != len(leaf):
            raise IndexError
        some = [row for row, is_wanted in enumerate(some) if is_wanted]
    positions = range(len(leaf))[some] if isinstance(some, slice) else [range(len(leaf))[row] for row in some]
    parts = [leaf[row] for row in positions]
    if isinstance(leaf, np.ndarray):
        return np.stack(parts) if parts else leaf[:0]
    return _Stacked(parts, leaf[:0])


class _Stacked:
    """Rows of a tensor whose dtype torch may be unable to stack."""

    def __init__(self, parts: list[torch.Tensor], nothing: torch.Tensor) -> None:
        self.parts = parts
        self.nothing = nothing

    def check(self, found: torch.Tensor) -> None:
        assert found.dtype == self.nothing.dtype
        assert tuple(found.shape) == (len(self.parts), *self.nothing.shape[1:])
        for row, part in zip(found, self.parts, strict=True):
            assert_same(row, part)


@quick
@given(state=states(), rows=ROWS)
def test_rows_are_what_python_would_pick(folder: Folder, state: Any, rows: Any) -> None:
    name = folder.save(state)
    with StockRoom(folder.path) as stock:
        try:
            expected = [take(leaf, rows) for leaf in iter_leaves(state)]
        except IndexError:
            with pytest.raises(InvalidInputError, match="rows"):
                stock.model[name].load(rows=rows)
            return
        found = list(iter_leaves(stock.model[name].load(rows=rows)))
        assert len(found) == len(expected)
        for leaf, expected_leaf in zip(found, expected, strict=True):
            if isinstance(expected_leaf, _Stacked):
                expected_leaf.check(leaf)
            else:
                assert_same(leaf, expected_leaf)


@quick
@given(state=states())
def test_tensors_read_as_arrays_have_the_same_bytes(folder: Folder, state: Any) -> None:
    name = folder.save(state)
    with StockRoom(folder.path) as stock:
        found = list(iter_leaves(stock.model[name].load(as_numpy=True)))
    for leaf, expected in zip(found, iter_leaves(state), strict=True):
        if not isinstance(expected, torch.Tensor):
            assert_same(leaf, expected)
            continue
        assert isinstance(leaf, np.ndarray)
        assert leaf.shape[: expected.ndim] == tuple(expected.shape)
        assert leaf.tobytes() == tensor_bytes(expected)


# -- laws


@quick
@given(state=states(), others=st.lists(states(max_leaves=4), max_size=2), again=st.booleans())
def test_a_record_depends_on_content_alone(folder: Folder, state: Any, others: list[Any], again: bool) -> None:
    def find_digest(stock: StockRoom, name: str) -> object:
        workspace = stock._pin.workspace
        assert workspace is not None
        return workspace.snapshot.find_digest(f"model/{name}")

    with StockRoom(folder.path, enable_write=True) as stock:
        folder.number += 1
        number = folder.number
        stock.model[f"first {number}"] = state
        for position, other in enumerate(others):
            stock.model[f"other {number} {position}"] = other
        if again:
            stock.model[f"second {number}"] = others
        stock.model[f"second {number}"] = stock.model[f"first {number}"]
        first = find_digest(stock, f"first {number}")
        assert find_digest(stock, f"second {number}") == first
        stock.model[f"third {number}"] = map_leaves(state, lambda leaf: leaf)
        assert find_digest(stock, f"third {number}") == first
        stock.commit(f"Example {number}")
        assert stock._pin.snapshot.find_digest(f"model/first {number}") == first


@quick
@given(entries=st.lists(st.tuples(KEYS, arrays()), max_size=8, unique_by=lambda entry: entry[0]), data=st.data())
def test_leaves_are_stored_alike_whatever_their_order(folder: Folder, entries: Any, data: st.DataObject) -> None:
    turned = data.draw(st.permutations(entries))
    with StockRoom(folder.path) as stock:
        with stock.enable_write():
            stock.model["one"], stock.model["other"] = dict(entries), dict(turned)
        records = [stock._pin.snapshot.find_state(f"model/{name}") for name in ("one", "other")]
        assert list(stock.model["other"]) == [key for key, _ in turned]
    assert records[0].root == records[1].root  # type: ignore[union-attr]
    assert (records[0] == records[1]) == (entries == turned or len(entries) < 2)


@quick
@given(data=st.data())
def test_what_is_loaded_is_nobody_elses(folder: Folder, data: st.DataObject) -> None:
    base = data.draw(flat_tensors(24))
    views = [data.draw(tensor_views(base)) for _ in range(3)]
    copies = [base.clone() if base.dtype.itemsize == 0 else torch.from_numpy(_memory_of(base).copy()) for _ in range(2)]
    assume(all(view.numel() for view in views))
    state = {"views": views, "equal": copies}
    name = folder.save(state)
    with StockRoom(folder.path) as stock:
        model = stock.model[name]
        loaded = [model.load(), model.load(), {"views": model["views"], "equal": model["equal"]}]
        for one in loaded:
            for leaf in iter_leaves(one):
                _memory_of(leaf)[...] ^= 0xFF
        for first, second in zip(loaded[0]["equal"], loaded[1]["equal"], strict=True):
            assert first.data_ptr() != second.data_ptr()
        assert loaded[0]["equal"][0].data_ptr() != loaded[0]["equal"][1].data_ptr()
        assert_same(model.load(), state)


def _memory_of(tensor: torch.Tensor) -> np.ndarray:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()


@quick
@given(keys=st.lists(st.integers(0, 9).map(str) | INT_KEYS | KEYS, unique_by=lambda key: (type(key), key), max_size=12))
def test_no_two_keys_share_a_path(folder: Folder, keys: list[int | str]) -> None:
    state = OrderedDict((key, {"": number, 0: str(number)}) for number, key in enumerate(keys))
    name = folder.save(state)
    with StockRoom(folder.path) as stock:
        model = stock.model[name]
        paths = model.paths()
        assert len(set(paths)) == len(paths) == 2 * len(keys)
        assert paths == [path for path, part in list_paths(state) if is_leaf(part)]
        assert [leaf.path for leaf in model.leaves()] == paths
        for key in keys:
            assert_same(model[key].load(), state[key])

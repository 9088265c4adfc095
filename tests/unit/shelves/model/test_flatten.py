"""Taking a nested state apart: what is refused and how it is named, what is tied, and what a key may be."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, UserDict, defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from stockroom import SchemaError, StockRoom
from stockroom.content.nodes import ArrayLeaf, DictNode, StridedLeaf, TiedLeaf
from stockroom.content.structure import Structure
from stockroom.shelves.model.flatten import FlatState, flatten


def take(state: object) -> FlatState:
    return flatten(state, where="model 'm'")


def forms_of(state: object) -> dict[str, Any]:
    return dict(Structure(take(state).structure).leaves)


def bytes_of(state: object) -> dict[str, bytes]:
    return {source.path: b"".join(piece.tobytes() for piece in source.pieces) for source in take(state).leaves}


def nest(depth: int) -> object:
    state: object = 1
    for _ in range(depth):
        state = [state]
    return state


def within_itself() -> object:
    inner: list[object] = []
    inner.append({"a": inner})
    return inner


class Point(namedtuple("Point", "x y")):
    pass


REFUSED: dict[str, tuple[object, str]] = {
    "an object": ({"a": [object()]}, r"at 'a/0': expected a tensor.*found object"),
    "a function": ({"a": len}, "at 'a'.*found builtin_function"),
    "a set": ({"a": {1}}, "at 'a'.*found set"),
    "a named tuple": ({"a": Point(1, 2)}, "at 'a'.*found Point"),
    "an array of objects": ({"a": np.array([None])}, "at 'a': dtype object cannot be stored"),
    "an array of text": ({"a": np.array(["x"])}, "at 'a': dtype <U1 cannot be stored"),
    "an array of records": ({"a": np.zeros(3, "i4,f4")}, "at 'a': dtype .* cannot be stored"),
    "a masked array": ({"a": np.ma.masked_equal([1, 2], 2)}, "at 'a': a masked array"),
    "a long double": ({"a": np.longdouble(1)}, "at 'a': dtype .* cannot be stored"),
    "sparse": ({"a": {"b": torch.eye(2).to_sparse()}}, r"at 'a/b': expected a dense tensor.*to_dense"),
    "compressed rows": ({"a": torch.eye(2).to_sparse_csr()}, r"at 'a': expected a dense tensor.*to_dense"),
    "quantised": ({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "at 'a': a quantized tensor"),
    "meta": ({"a": torch.empty(2, device="meta")}, "at 'a': a tensor on the meta device"),
    "lazy": (torch.nn.LazyLinear(3).state_dict(), "at 'weight': a lazy module's parameter"),
    "nested tensors": ({"a": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}, "at 'a': expected a dense"),
    "65 axes": ({"a": torch.ones([1] * 65)}, "at 'a': expected at most 64 axes, found 65"),
    "huge and empty": ({"a": torch.empty(1 << 40, 1 << 20, 0)}, r"at 'a': a tensor of shape \(.* is too large"),
    "huge and repeated": (
        {"a": torch.ones(1).expand(1 << 40, 1 << 20)},
        r"at 'a': a tensor of shape \(.* is too large",
    ),
    "a key of None": ({"a": {None: 1}}, "at 'a': expected keys of int .* or str, found None"),
    "a key of bool": ({True: 1}, "^model 'm': expected keys of int .* found True"),
    "a key of bytes": ({b"a": 1}, "expected keys of int .* found b'a'"),
    "a key of tuple": ({(1, 2): 1}, r"expected keys of int .* found \(1, 2\)"),
    "a key of 65 bits": ({1 << 63: 1}, "expected keys of int .* found 9223372036854775808"),
    "a long key": ({"a": {"k" * 1023: 1}}, r"at 'a/kkk.*more than 1024 bytes"),
    "a long key in UTF-8": ({"ä" * 513: 1}, r"more than 1024 bytes"),
    "200 levels": (nest(200), "nested deeper than 100 levels"),
    "101 levels": (nest(101), "nested deeper than 100 levels"),
    "itself": (within_itself(), "at '0/a': nested deeper than 100 levels, or contains itself"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_kept_is_refused_by_its_path(what: str) -> None:
    state, message = REFUSED[what]
    with pytest.raises(SchemaError, match=message) as caught:
        take(state)
    assert str(caught.value).startswith("model 'm'")


@pytest.mark.parametrize("notes", [{"a": object()}, {"a": torch.ones(1)}, {"a": 1 << 70}, {"a": "\ud800"}, {b"a": 1}])
def test_notes_of_a_state_dict_are_scalars(notes: dict[Any, object]) -> None:
    state: Any = OrderedDict(a=1)
    state._metadata = {"": notes}
    with pytest.raises(SchemaError, match=r"model 'm', at '\._metadata'"):
        take(state)


def test_as_many_levels_as_are_allowed_are_kept(stock: StockRoom) -> None:
    state = nest(100)
    with stock.enable_write():
        stock.model["deep"] = state
    assert stock.model["deep"].load() == state


def test_a_container_that_stands_twice_is_not_within_itself() -> None:
    shared = [1]
    assert list(forms_of({"a": shared, "b": shared})) == ["a/0", "b/0"]


class Name(str, enum.Enum):  # noqa: UP042, the form whose str() is not its value
    WEIGHT = "weight"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (np.str_("a"), "a"),
        (Name.WEIGHT, "weight"),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (type("S", (str,), {})("s"), "s"),
    ],
)
def test_keys_of_classes_of_their_own_become_plain_ones(stock: StockRoom, key: Any, expected: object) -> None:
    with stock.enable_write():
        stock.model["m"] = {key: 1}
    (found,) = stock.model["m"].load()
    assert type(found) is type(expected)
    assert found == expected
    assert stock.model["m"][key] == 1


def test_mappings_of_other_classes_become_dicts(stock: StockRoom) -> None:
    state = [
        UserDict(a=1),
        defaultdict(list, b=2),
        OrderedDict(c=3),
        Counter("abca"),
        torch.Size([2, 3]),
        bytearray(b"x"),
    ]
    with stock.enable_write():
        stock.model["m"] = state
    found = stock.model["m"].load()
    assert found == [{"a": 1}, {"b": 2}, OrderedDict(c=3), Counter("abca"), (2, 3), b"x"]
    assert [type(part) for part in found] == [dict, dict, OrderedDict, Counter, tuple, bytes]


# -- what lies in one memory


def test_the_same_tensor_twice_is_stored_once() -> None:
    weight = torch.ones(3, 4)
    state = {"embed": weight, "head": {"weight": weight.detach(), "bias": torch.ones(3, 4)}}
    forms = forms_of(state)
    assert forms["embed"] == ArrayLeaf("torch", "float32", (3, 4))
    assert isinstance(forms["head/weight"], TiedLeaf)
    assert forms["head/weight"].path == "embed"
    assert list(bytes_of(state)) == ["embed", "head/bias"]


def test_parts_of_one_memory_that_do_not_overlap_stand_alone() -> None:
    flat = torch.arange(24.0)
    state = {"a": flat[:6].view(2, 3), "b": flat[6:10], "c": flat[10:]}
    assert set(map(type, forms_of(state).values())) == {ArrayLeaf}
    assert bytes_of(state) == {key: value.numpy().tobytes() for key, value in state.items()}


def test_views_that_overlap_share_the_memory_between_their_ends() -> None:
    flat = torch.arange(24.0)
    state = {"b": flat[4:12], "a": flat[10:20].view(2, 5), "alone": flat[20:]}
    forms = forms_of(state)
    assert forms["b"] == StridedLeaf("float32", (8,), (1,), 0, 16, "b")
    assert forms["a"] == StridedLeaf("float32", (2, 5), (5, 1), 6, 16, "b")
    assert bytes_of(state) == {"b": flat[4:20].numpy().tobytes(), "alone": flat[20:].numpy().tobytes()}


def test_a_tensor_that_repeats_its_elements_stores_each_once() -> None:
    forms = forms_of({"a": torch.arange(3.0).expand(1000, 3)})
    assert forms["a"] == StridedLeaf("float32", (1000, 3), (0, 1), 0, 3, "a")
    assert bytes_of({"a": torch.arange(3.0).expand(1000, 3)}) == {"a": torch.arange(3.0).numpy().tobytes()}


def test_a_turned_tensor_is_stored_in_c_order() -> None:
    tensor = torch.arange(12.0).view(3, 4).T
    assert forms_of({"a": tensor}) == {"a": ArrayLeaf("torch", "float32", (4, 3))}
    assert bytes_of({"a": tensor}) == {"a": tensor.numpy().tobytes()}


def test_a_conjugate_is_not_the_same_tensor() -> None:
    value = torch.complex(torch.arange(4.0), torch.arange(4.0) + 1)
    state = {"value": value, "conjugate": value.conj(), "again": value.conj(), "spread": value.conj().expand(2, 4)}
    stored = bytes_of(state)
    assert stored["value"] == value.numpy().tobytes()
    assert stored["conjugate"] == value.conj().resolve_conj().numpy().tobytes()
    assert list(stored) == ["value", "conjugate"]
    assert forms_of(state)["again"].path == "conjugate"


def test_a_negative_is_not_the_same_tensor() -> None:
    value = torch.complex(torch.arange(4.0), torch.arange(4.0) + 1)
    state = {"imag": value.imag, "negative": value.conj().imag}
    assert state["negative"].is_neg()
    assert bytes_of(state) == {key: part.resolve_neg().numpy().tobytes() for key, part in state.items()}


def test_the_same_array_twice_is_tied_and_a_part_of_it_is_not() -> None:
    array = np.arange(6.0).reshape(2, 3)
    forms = forms_of({"a": array, "b": array[:], "c": array[0], "d": array.T, "e": array.copy()})
    assert {path: type(form) for path, form in forms.items()} == {
        "a": ArrayLeaf, "b": TiedLeaf, "c": ArrayLeaf, "d": ArrayLeaf, "e": ArrayLeaf
    }  # fmt: skip


def test_tensors_made_on_the_way_are_not_taken_for_each_other() -> None:
    class Maker(UserDict[str, Any]):  # every value is made anew, and could lie where the one before did
        def __getitem__(self, key: str) -> Any:
            return torch.full((100,), float(self.data[key]))

    state = Maker({str(number): number for number in range(50)})
    assert bytes_of(state) == {f"~2{n}": torch.full((100,), float(n)).numpy().tobytes() for n in range(50)}


@pytest.mark.parametrize(
    "array",
    [
        np.array(1.5),
        np.array(7, ">i4"),
        np.arange(12).reshape(3, 4)[::-1, ::2],
        np.arange(6, dtype=">f8"),
        np.matrix("1 2"),
    ],
    ids=["no axes", "no axes, big-endian", "backwards", "big-endian", "a matrix"],
)
def test_arrays_in_any_layout_give_their_bytes(array: np.ndarray) -> None:
    expected = np.asarray(array).astype(array.dtype.newbyteorder("<"), order="C").tobytes()
    assert bytes_of({"a": array}) == {"a": expected}


def test_a_large_array_in_another_layout_comes_in_pieces() -> None:
    array = np.asfortranarray(np.arange(3 << 20, dtype=np.uint32).reshape(1024, -1))
    (source,) = take({"a": array}).leaves
    pieces = list(source.pieces)
    assert [len(piece) <= 4 << 20 for piece in pieces] == [True] * 4
    assert b"".join(piece.tobytes() for piece in pieces) == array.tobytes()
    assert list(map(len, source.pieces)) == list(map(len, pieces))  # as often as they are asked for


# -- states within states


def test_a_stored_state_can_be_saved_within_another(stock: StockRoom) -> None:
    weight = torch.ones(40)
    inner: Any = OrderedDict(a=weight, b=weight, c={"d": weight})
    inner._metadata = OrderedDict({"": {"version": 2}})
    with stock.enable_write():
        stock.model["inner"] = inner
        stock.model["outer"] = {"ema": stock.model["inner"], "step": 3}
        stock.model["copy"] = stock.model["inner"]
        stock.model["part"] = stock.model["inner"]["c"]
    ema = stock.model["outer"].load()["ema"]
    assert type(ema) is OrderedDict
    assert ema._metadata == inner._metadata  # type: ignore[attr-defined]
    assert ema["a"].data_ptr() == ema["b"].data_ptr() == ema["c"]["d"].data_ptr()
    assert isinstance(take(stock.model["inner"]).structure, DictNode)
    assert list(stock.model["copy"]) == ["a", "b", "c"]
    assert torch.equal(stock.model["part"]["d"], weight)

"""Paths of leaves, the text of keys, and what a structure says of its leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.content.nodes import (
    TORCH_ONLY,
    ArrayLeaf,
    Constant,
    DictNode,
    ListNode,
    ScalarLeaf,
    StridedLeaf,
    TiedLeaf,
    TupleNode,
    decode_text,
    encode_text,
    format_component,
    join_path,
    list_keys,
    list_nodes,
    measure_element,
    measure_leaf,
    name_storage,
    parse_component,
)
from stockroom.content.structure import Structure, decode_structure, encode_structure
from stockroom.errors import SchemaError

TEXT = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["~", "/", "~0", "~1", "~2", "", "0", "-1", "\0"]
)


@pytest.mark.parametrize(
    ("key", "component"),
    [
        ("weight", "weight"),
        ("fc.weight", "fc.weight"),
        ("a/b", "a~1b"),
        ("~", "~0"),
        ("~1", "~01"),
        ("~2", "~02"),
        ("", "~2"),
        ("0", "~20"),
        ("-12", "~2-12"),
        ("007", "~2007"),
        ("+1", "+1"),
        ("1.5", "1.5"),
        ("--1", "--1"),
        ("１", "１"),  # a digit, but none that an int is written with
        (0, "0"),
        (-12, "-12"),
        (1 << 62, str(1 << 62)),
        ("\ud800", "\ud800"),
    ],
)
def test_a_key_is_one_part_of_a_path(key: int | str, component: str) -> None:
    assert format_component(key) == component
    assert parse_component(component) == str(key)
    assert join_path("", key) == component
    assert join_path("a/b", key) == f"a/b/{component}"


@given(text=TEXT)
def test_any_text_comes_back_from_its_part_of_a_path(text: str) -> None:
    component = format_component(text)
    assert parse_component(component) == text
    assert component
    assert "/" not in component


@given(one=TEXT | st.integers(), other=TEXT | st.integers())
def test_no_two_keys_have_the_same_part_of_a_path(one: int | str, other: int | str) -> None:
    assert (format_component(one) == format_component(other)) == (one == other)


@given(text=TEXT)
def test_any_text_comes_back_from_how_a_structure_holds_it(text: str) -> None:
    held = encode_text(text)
    assert decode_text(held) == text
    held.encode()  # it is UTF-8 as it stands
    assert held == text or held.startswith("\0")


STRUCTURE = DictNode(
    "OrderedDict",
    ("a", 3, encode_text("\ud800"), "~"),
    (
        ArrayLeaf("torch", "bfloat16", (3, 4)),
        ListNode((ScalarLeaf("int"), Constant(None), TupleNode((TiedLeaf("a"), ScalarLeaf("str"))))),
        StridedLeaf("float32", (2, 3), (0, 1), 1, 5, encode_text("\ud800")),
        DictNode("dict", (), (), None),
    ),
    DictNode("dict", ("version",), (Constant(2),), None),
)


def test_leaves_come_in_order_with_their_paths() -> None:
    leaves = Structure(STRUCTURE).leaves
    assert list(leaves) == ["a", "3/0", "3/2/0", "3/2/1", "\ud800"]
    assert leaves["3/2/0"].path == "a"  # type: ignore[union-attr]
    assert leaves["\ud800"].base == "\ud800"  # type: ignore[union-attr]
    assert list(Structure(STRUCTURE).stored) == ["a", "3/0", "3/2/1", "\ud800"]
    assert list_keys(STRUCTURE) == ["a", 3, "\ud800", "~"]
    assert list_keys(STRUCTURE.nodes[1]) == [0, 1, 2]
    assert list_nodes(ScalarLeaf("int")) == ()


def test_a_structure_comes_back_from_its_bytes() -> None:
    decoded = decode_structure(encode_structure(STRUCTURE), where="here")
    assert decoded.top == STRUCTURE
    assert decoded.leaves == Structure(STRUCTURE).leaves


def test_memory_that_leaves_share_is_stored_once() -> None:
    views = ListNode(
        (StridedLeaf("int8", (2,), (1,), 0, 5, "0"), StridedLeaf("int8", (4,), (1,), 1, 5, "0"), TiedLeaf("1"))
    )
    assert list(Structure(views).stored) == ["0"]


@pytest.mark.parametrize(
    ("leaf", "nbytes"),
    [
        (ArrayLeaf("torch", "float32", (3, 4)), 48),
        (ArrayLeaf("torch", "complex32", (3,)), 12),
        (ArrayLeaf("torch", "int4", (3,)), 3),
        (ArrayLeaf("numpy", "datetime64[ns]", ()), 8),
        (ArrayLeaf("numpy", "float8_e4m3", (0, 7)), 0),
        (StridedLeaf("float64", (1000, 2), (0, 1), 0, 2, "a"), 16),
        (TiedLeaf("a"), 0),
        (ScalarLeaf("bool"), 1),
        (ScalarLeaf("float"), 8),
        (ScalarLeaf("complex"), 16),
        (ScalarLeaf("int"), None),
        (ScalarLeaf("str"), None),
        (ScalarLeaf("bytes"), None),
    ],
    ids=repr,
)
def test_a_leaf_tells_how_many_bytes_it_keeps(leaf: ArrayLeaf, nbytes: int | None) -> None:
    assert measure_leaf(leaf) == nbytes


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_dtypes_only_torch_has_are_kept_as_dtypes_columns_have(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert getattr(torch, name).itemsize == measure_element(name)
    assert measure_element(name_storage(name)) in (1, 2)


@pytest.mark.parametrize("name", ["", "float33", "O", "(2", "f4,f4", ":", "\ud800", "U5", "datetime64", "m8[s"])
def test_a_dtype_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="dtype"):
        measure_element(name)

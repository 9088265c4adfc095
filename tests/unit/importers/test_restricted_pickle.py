import contextlib
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.errors import CorruptionError, InvalidInputError, StockroomError
from stockroom.importers.restricted_pickle import load_plain_pickle


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_back_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = {
        "data": np.arange(24, dtype=np.uint8).reshape(2, 12),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "labels": [1, 2, np.int64(3)],
        "names": ["a", b"b", None, 1.5, True],
        "nested": ({"x": (1, [2])},),
    }
    loaded = load_plain_pickle(write(tmp_path / "p", pickle.dumps(value, protocol)))
    assert loaded.keys() == value.keys()
    for key in ("data", "fortran", "big"):
        np.testing.assert_array_equal(loaded[key], value[key])
    assert [int(label) for label in loaded["labels"]] == [1, 2, 3]
    assert loaded["names"] == value["names"]
    assert loaded["nested"] == value["nested"]


def test_what_python_2_wrote_reads_with_its_text_as_bytes(tmp_path: Path) -> None:
    # As cPickle of Python 2 spells {'data': numpy array, 'labels': [6]} in protocol 2: text as BINSTRING.
    python2 = (
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T\x03\x00\x00\x00\x01\x02\xfftbU\x06labels]K\x06au."
    )
    loaded = load_plain_pickle(write(tmp_path / "p", python2))
    np.testing.assert_array_equal(loaded[b"data"], np.array([[1, 2, 255]], np.uint8))
    assert loaded[b"labels"] == [6]


class Runs:
    """Pickles as a call of `function`, which a plain unpickler would make."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.system, ("touch {marker}",), "posix.system"),
        (eval, ("open('{marker}', 'w')",), "builtins.eval|__builtin__.eval"),
        (getattr, ("text", "upper"), "builtins.getattr|__builtin__.getattr"),
        (Path, ("{marker}",), "pathlib"),
        (io.BytesIO, (b"",), "_io.BytesIO"),
        (bytearray, (10**12,), "builtins.bytearray|__builtin__.bytearray"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_by_name_and_not_run(
    tmp_path: Path, function: object, args: tuple, named: str, protocol: int
) -> None:
    marker = tmp_path / "ran"
    filled = [arg.format(marker=marker) if isinstance(arg, str) else arg for arg in args]
    data = pickle.dumps({"data": Runs(function, *filled)}, protocol)
    with pytest.raises(InvalidInputError, match=named) as caught:
        load_plain_pickle(write(tmp_path / "batch", data))
    assert "batch" in str(caught.value)
    assert "nothing was executed" in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "value",
    [np.array([object()]), np.array([("a", 1)], "U1,i4"), np.array(["text"]), {1, 2}, np.ndarray, np.dtype("u1")],
    ids=["objects", "records", "text", "set", "class", "dtype"],
)
def test_values_that_are_not_plain_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InvalidInputError):
        load_plain_pickle(write(tmp_path / "p", pickle.dumps({"data": value}, 2)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",  # bytes longer than any file
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo index that would make a table of 64 GiB
        b"\x80\x02.",
        b"",
        b"not a pickle",
        pickle.dumps({"a": [1, 2, 3]})[:-4],
    ],
    ids=["length", "memo", "empty stack", "empty", "text", "cut"],
)
def test_damage_is_corruption(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorruptionError, match="batch: not a complete pickle"):
        load_plain_pickle(write(tmp_path / "batch", data))


def test_an_array_with_more_shape_than_bytes_is_corruption(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros((7, 3), np.uint8), 2).replace(b"K\x07K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86")
    with pytest.raises(CorruptionError, match="has 21 bytes"):
        load_plain_pickle(write(tmp_path / "p", data))


def test_sharing_within_a_pickle_costs_once(tmp_path: Path) -> None:
    value: list = [1]
    for _ in range(60):
        value = [value, value]
    loaded = load_plain_pickle(write(tmp_path / "p", pickle.dumps(value)))
    assert loaded[0] is loaded[1]


def test_a_pickle_that_contains_itself_is_corruption(tmp_path: Path) -> None:
    value: list = []
    value.append(value)
    with pytest.raises(CorruptionError):
        load_plain_pickle(write(tmp_path / "p", pickle.dumps(value)))


def test_the_admitted_names_cannot_be_changed_by_a_pickle(tmp_path: Path) -> None:
    # BUILD on the name itself: a plain function would have its attributes set.
    hostile = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01aK\x01sb."
    with pytest.raises(CorruptionError):
        load_plain_pickle(write(tmp_path / "p", hostile))
    array = np.arange(3)
    loaded = load_plain_pickle(write(tmp_path / "good", pickle.dumps(array, 2)))
    np.testing.assert_array_equal(loaded, array)


@given(data=st.data())
def test_mutated_pickles_raise_our_errors_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    value = {b"data": np.arange(12, dtype=np.uint8), "labels": [1, 2], "names": ("a", b"b")}
    mutated = bytearray(pickle.dumps(value, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StockroomError):
        load_plain_pickle(write(tmp_path_factory.mktemp("pickle") / "p", bytes(mutated)))

"""By how much tensors differ, against numpy in float64, over every dtype that is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from stockroom import StockRoom
from stockroom.shelves.model.difference import iter_differences, measure_difference
from stockroom.store.dtypes import STORAGE_NAMES, parse_dtype

DTYPES = sorted(STORAGE_NAMES | {"float8_e4m3"})


def random_bits(name: str, count: int, seed: int) -> NDArray:
    dtype = parse_dtype(name)
    rng = np.random.default_rng(seed)
    if name == "bool":
        return rng.integers(0, 2, count).astype(bool)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()


def cut(array: NDArray, step: int) -> Iterator[NDArray]:
    return (array[start : start + step] for start in range(0, len(array), step))


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_moves_as_far_as_numpy_finds(name: str) -> None:
    old, new = random_bits(name, 3000, 1), random_bits(name, 3000, 2)
    new[::3] = old[::3]
    with np.errstate(all="ignore"):
        found = measure_difference(cut(old, 11), cut(new, 700), name)
        kind = np.complex128 if old.dtype.kind == "c" else np.float64
        a, b = old.astype(kind), new.astype(kind)
        finite = np.isfinite(a) & np.isfinite(b)
        distance = np.abs(b[finite] - a[finite])
        norm, differ = np.linalg.norm(distance), old != new
    assert found.count == 3000
    assert (found.nan_old, found.nan_new) == (np.isnan(a).sum(), np.isnan(b).sum())
    assert (found.inf_old, found.inf_new) == (np.isinf(np.abs(a)).sum(), np.isinf(np.abs(b)).sum())
    assert found.changed == (differ & ~(np.isnan(a) & np.isnan(b))).sum() > 0
    if np.isfinite(norm):
        np.testing.assert_allclose(found.norm, norm, rtol=1e-12)
        np.testing.assert_allclose(found.max_abs, distance.max(), rtol=1e-12)
        np.testing.assert_allclose(found.relative_norm, norm / np.linalg.norm(a[finite]), rtol=1e-12)


def test_the_norm_of_the_largest_numbers_stays_finite() -> None:
    old, new = np.zeros(4), np.full(4, 1e200)
    found = measure_difference(cut(old, 3), cut(new, 2), "float64")
    assert (found.norm, found.max_abs, found.relative_norm) == (pytest.approx(2e200), 1e200, None)


def test_integers_beyond_float64_differ_exactly() -> None:
    old, new = np.array([2**60, -(2**63), 5]), np.array([2**60 + 1, 2**63 - 1, 5])
    found = measure_difference(iter([old]), iter([new]), "int64")
    assert (found.changed, found.max_abs) == (2, float(2**64 - 1))
    one = measure_difference(iter([old[:1]]), iter([new[:1]]), "int64")
    assert (one.norm, one.changed) == (1.0, 1)


def test_nan_is_counted_and_poisons_nothing() -> None:
    old = np.array([1.0, np.nan, np.nan, np.inf, np.inf, 2.0])
    new = np.array([2.0, np.nan, 3.0, np.inf, 1.0, np.nan])
    found = measure_difference(iter([old]), iter([new]), "float64")
    assert (found.norm, found.max_abs, found.relative_norm, found.changed) == (1.0, 1.0, 1.0, 4)
    assert (found.nan_old, found.nan_new, found.inf_old, found.inf_new) == (2, 2, 2, 1)


def test_the_sign_of_zero_is_no_difference_in_value() -> None:
    found = measure_difference(iter([np.array([0.0])]), iter([np.array([-0.0])]), "float64")
    assert (found.changed, found.norm, found.relative_norm) == (0, 0.0, 0.0)


def save(stock: StockRoom, **states: object) -> None:
    with stock.enable_write():
        for name, state in states.items():
            stock.model[name] = state


def test_each_leaf_that_differs_is_named_with_how(stock: StockRoom) -> None:
    old = {"same": np.ones(3), "w": np.zeros(4, "f4"), "cast": np.ones(2), "cut": np.ones(2), "gone": 1, "epoch": 3}
    new = {"same": np.ones(3), "w": np.full(4, 0.5, "f4"), "cast": np.ones(2, "f4"), "cut": np.ones(3), "epoch": 4}
    save(stock, a=old, b=new | {"flag": np.True_})
    found = {entry.path: entry for entry in iter_differences(stock.model["a"], stock.model["b"])}
    assert {path: entry.kind for path, entry in found.items()} == {
        "w": "changed",
        "cast": "dtype",
        "cut": "shape",
        "epoch": "changed",
        "flag": "added",
        "gone": "removed",
    }
    assert found["w"].difference.norm == 1.0
    assert found["epoch"].values == (3, 4)


def test_equal_digests_are_never_read(stock: StockRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64))
    save(stock, a={"frozen": weights, "head": np.zeros(100)}, b={"frozen": weights, "head": np.ones(100)})
    old, new = stock.model["a"], stock.model["b"]
    read: list[str] = []
    for state in (old, new):
        monkeypatch.setattr(state, "iter_pieces", lambda path, state=state: read.append(path) or iter([]))
    assert [entry.path for entry in iter_differences(old, new)] == ["head"]
    assert read == ["head", "head"]


def test_a_python_flag_and_a_tensor_of_one_are_of_different_kinds(stock: StockRoom) -> None:
    save(stock, a={"x": True}, b={"x": np.array(True)})
    (entry,) = iter_differences(stock.model["a"], stock.model["b"])
    assert entry.kind == "dtype"


def test_a_view_of_the_same_memory_that_moved_has_changed(stock: StockRoom) -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(6.0)
    save(stock, a={"all": base, "part": base[0:3]}, b={"all": base, "part": base[1:4]}, c={"all": base.clone()})
    (entry,) = iter_differences(stock.model["a"], stock.model["b"])
    assert (entry.path, entry.difference.max_abs, entry.difference.changed) == ("part", 1.0, 3)
    assert [entry.path for entry in iter_differences(stock.model["a"], stock.model["c"])] == ["part"]

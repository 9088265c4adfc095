"""Statistics of tensors against numpy's own, over every dtype that is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from stockroom import InvalidInputError, StockRoom
from stockroom.shelves.model.stats import iter_stats, measure
from stockroom.store.dtypes import EXTENSION_NAMES, STORAGE_NAMES, parse_dtype

DTYPES = sorted(STORAGE_NAMES | {"float8_e4m3"})
FLOATS = sorted({"float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"})


def random_bits(name: str, count: int) -> NDArray:
    """Elements of every bit pattern a dtype has: subnormals, NaN and infinities among them."""
    dtype = parse_dtype(name)
    rng = np.random.default_rng(len(name))
    if name == "bool":
        return rng.integers(0, 2, count).astype(bool)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()


def cut(array: NDArray, step: int) -> Iterator[NDArray]:
    return (array[start : start + step] for start in range(0, len(array), step))


@pytest.mark.parametrize("step", [7, 5000], ids=["pieces", "whole"])
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_has_the_statistics_that_numpy_finds(name: str, step: int) -> None:
    array = random_bits(name, 5000)
    with np.errstate(all="ignore"):
        stats = measure(lambda: cut(array, step), name, bins=13)
        reals = np.abs(array.astype(np.complex128)) if array.dtype.kind == "c" else array.astype(np.float64)
        finite = reals[np.isfinite(reals)]
        mean, std = finite.mean(), finite.std()
    assert (stats.count, stats.nan, stats.inf) == (5000, np.isnan(reals).sum(), np.isinf(reals).sum())
    assert stats.zeros == (reals == 0).sum()
    assert (stats.least, stats.greatest) == (finite.min(), finite.max())
    assert stats.histogram is not None
    assert stats.histogram.counts.sum() == len(finite)
    if np.isfinite(std):
        np.testing.assert_allclose([stats.mean, stats.std], [mean, std], rtol=1e-12)
        counts, edges = np.histogram(finite, 13)
        np.testing.assert_array_equal(stats.histogram.edges, edges)
        np.testing.assert_array_equal(stats.histogram.counts, counts)


@pytest.mark.parametrize("name", FLOATS)
def test_a_mean_far_from_zero_costs_no_precision(name: str) -> None:
    array = (np.random.default_rng(1).normal(size=4096) + 200).astype(parse_dtype(name))
    stats = measure(lambda: cut(array, 100), name)
    exact = [float(value) for value in array]
    mean = math.fsum(exact) / len(exact)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in exact) / len(exact))
    np.testing.assert_allclose([stats.mean, stats.std], [mean, std], rtol=1e-13)


def test_a_large_offset_does_not_drown_the_deviation() -> None:
    array = 1e9 + np.tile([0.0, 1.0], 5000)
    stats = measure(lambda: cut(array, 64), "float64")
    assert (stats.mean, stats.std) == (pytest.approx(1e9 + 0.5, abs=1e-6), pytest.approx(0.5, rel=1e-9))


def test_the_largest_numbers_have_a_mean_and_a_histogram() -> None:
    array = np.tile([1.7e308, -1.7e308, 1.7e308, 0.0], 10)
    stats = measure(lambda: cut(array, 8), "float64", bins=3)
    assert stats.mean == pytest.approx(1.7e308 / 4)
    assert stats.histogram is not None
    assert np.isfinite(stats.histogram.edges).all()
    assert stats.histogram.counts.tolist() == [10, 10, 20]


def test_elements_that_are_all_alike_fall_into_one_bin() -> None:
    for value in (0.0, 3.5, 1e300):
        stats = measure(lambda value=value: iter([np.full(9, value)]), "float64", bins=4)
        assert (stats.mean, stats.std, stats.least, stats.greatest) == (value, 0, value, value)
        assert stats.histogram is not None
        assert sorted(stats.histogram.counts.tolist()) == [0, 0, 0, 9]


def test_nothing_finite_leaves_only_counts() -> None:
    stats = measure(lambda: iter([np.array([np.nan, np.inf, -np.inf, np.nan])]), "float64")
    assert (stats.count, stats.nan, stats.inf, stats.zeros) == (4, 2, 2, 0)
    assert (stats.mean, stats.std, stats.least, stats.greatest, stats.histogram) == (None,) * 5


def test_no_elements_have_no_zeros() -> None:
    for pieces in ([], [np.empty(0, "f4")]):
        stats = measure(partial(iter, pieces), "float32")
        assert (stats.count, stats.zero_fraction, stats.mean, stats.histogram) == (0, 0.0, None, None)


def test_dates_are_measured_by_their_counts() -> None:
    array = np.array(["1970-01-03", "NaT", "1970-01-05"], "datetime64[D]")
    stats = measure(lambda: iter([array]), "datetime64[D]")
    assert (stats.nan, stats.least, stats.greatest, stats.mean) == (1, 2.0, 4.0, 3.0)


def test_a_tensor_of_many_chunks_is_read_piece_by_piece_and_measured_as_a_whole(stock: StockRoom) -> None:
    rng = np.random.default_rng(0)
    large = rng.normal(size=(1300, 1000)).astype("f8")
    large[0, :5] = 0, 0, np.nan, np.inf, -np.inf
    with stock.enable_write():
        stock.model["m"] = {"large": large, "small": large[:3], "epoch": 3, "note": "x"}
    found = {leaf.path: stats for leaf, stats in iter_stats(stock.model["m"])}
    assert list(found) == ["large", "small"]
    assert len(list(stock.model["m"].iter_pieces("large"))) > 1
    finite = large[np.isfinite(large)]
    stats = found["large"]
    assert (stats.count, stats.nan, stats.inf, stats.zeros) == (large.size, 1, 2, 2)
    np.testing.assert_allclose([stats.mean, stats.std], [finite.mean(), finite.std()], rtol=1e-12)
    np.testing.assert_array_equal(stats.histogram.counts, np.histogram(finite, 20)[0])


def test_names_choose_tensors_as_they_do_when_loading(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.model["m"] = {"a": {"w": np.ones(2), "b": np.zeros(2)}, "c": np.ones(1)}
    assert [leaf.path for leaf, _ in iter_stats(stock.model["m"], ["*/w", "c"])] == ["a/w", "c"]
    with pytest.raises(InvalidInputError, match="bins"):
        list(iter_stats(stock.model["m"], bins=0))


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_torch_tensors_of_every_layout_are_measured_without_torch_knowing(stock: StockRoom) -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "plain": base.clone(),
        "transposed": base.T,
        "same memory": base,
        "expanded": torch.ones(1).expand(1000, 1000),
        "half complex": torch.tensor([3 + 4j, 0], dtype=torch.complex32),
        "bfloat16": base.to(torch.bfloat16),
        "bits": torch.zeros(4, dtype=torch.uint8).view(torch.bits8),
    }
    with stock.enable_write():
        stock.model["m"] = state
    found = {leaf.path: stats for leaf, stats in iter_stats(stock.model["m"])}
    for name in ("plain", "transposed", "same memory", "bfloat16"):
        assert (found[name].mean, found[name].zeros, found[name].greatest) == (5.5, 1, 11.0)
    assert (found["expanded"].count, found["expanded"].std) == (1_000_000, 0)
    assert (found["half complex"].greatest, found["half complex"].zeros) == (5.0, 1)
    assert found["bits"] is None


def test_ml_dtypes_names_are_those_tested() -> None:
    assert set(EXTENSION_NAMES) <= set(dir(ml_dtypes)) & set(DTYPES)

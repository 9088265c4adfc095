"""Merging models: leaf by leaf, containers where they stand, ties and shared memory, metadata, averages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3
from tests.kit.forks import collect_conflicts, commit, fork

from stockroom import InvalidInputError, MergeConflictError, StockRoom


def save(state: Any, **metadata: Any) -> Callable[[StockRoom], None]:
    return lambda stock: stock.model.save("net", state, **metadata)


def read(stock: StockRoom) -> Any:
    return stock.model["net"].load()


def plain(state: Any) -> Any:
    """A state with its tensors and arrays as lists."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(plain(value) for value in state)
    return state.tolist() if isinstance(state, torch.Tensor | np.ndarray) else state


def w(value: float, n: int = 20) -> torch.Tensor:
    return torch.full((n,), float(value))


def merge(stock: StockRoom, base: Any, ours: Any, theirs: Any, **options: Any) -> Any:
    """The merged state, as lists."""
    fork(stock, save(base), save(ours), save(theirs))
    stock.merge("dev", **options)
    assert stock.verify().ok
    return plain(read(stock))


def find_keys(stock: StockRoom, base: Any, ours: Any, theirs: Any) -> list[tuple[object, str]]:
    fork(stock, save(base), save(ours), save(theirs))
    found = collect_conflicts(stock)
    assert {path for path, _, _ in found} == {"model/net"}
    return [(key, kind) for _, key, kind in found]


def test_body_and_head_trained_apart_come_together(stock: StockRoom) -> None:
    base = {"body": {"w": w(0), "b": w(0)}, "head": {"w": w(0)}, "epoch": 1}
    ours = {"body": {"w": w(1), "b": w(0)}, "head": {"w": w(0)}, "epoch": 1}
    theirs = {"body": {"w": w(0), "b": w(2)}, "head": {"w": w(3)}, "epoch": 1}
    merged = merge(stock, base, ours, theirs)
    assert merged == plain({"body": {"w": w(1), "b": w(2)}, "head": {"w": w(3)}, "epoch": 1})


def test_leaves_are_added_and_taken_out_on_either_side(stock: StockRoom) -> None:
    base = {"a": w(0), "b": w(0), "c": w(0)}
    merged = merge(stock, base, {"a": w(0), "x": w(1), "c": w(0)}, {"b": w(0), "c": w(0), "y": w(2)})
    assert list(merged) == ["x", "c", "y"]


def test_conflicts_name_the_leaf_and_its_bytes(stock: StockRoom) -> None:
    base = {"a": {"w": w(0)}, "b": w(0), "c": w(0), "n": 1}
    fork(
        stock,
        save(base),
        save({"a": {"w": w(1)}, "c": w(1), "n": 2, "new": w(1)}),
        save({"a": {"w": w(2)}, "b": w(2), "n": 3, "new": w(2)}),
    )
    with pytest.raises(MergeConflictError) as caught:
        stock.merge("dev")
    assert [(conflict.key, conflict.kind) for conflict in caught.value.conflicts] == [
        ("a/w", "both changed"),
        ("b", "deleted by us, changed by them"),
        ("c", "changed by us, deleted by them"),
        ("n", "both changed"),
        ("new", "both added"),
    ]
    first = caught.value.conflicts[0]
    expected = [blake3(w(value).numpy().tobytes()).hexdigest() for value in range(3)]
    assert [first.base, first.ours, first.theirs] == expected
    assert caught.value.conflicts[1].ours is None


@pytest.mark.parametrize(("strategy", "value"), [("ours", 1.0), ("theirs", 2.0)])
def test_a_side_wins_where_both_changed_and_nowhere_else(stock: StockRoom, strategy: str, value: float) -> None:
    base = {"a": w(0), "b": w(0), "c": w(0)}
    merged = merge(stock, base, {"a": w(1), "b": w(5), "c": w(0)}, {"a": w(2), "b": w(0), "c": w(6)}, strategy=strategy)
    assert merged == plain({"a": w(value), "b": w(5), "c": w(6)})


def test_lists_and_tuples_are_merged_by_position_where_their_length_stands(stock: StockRoom) -> None:
    base = {"l": [w(0), w(0), {"k": 1}], "t": (1, w(0))}
    merged = merge(
        stock, base, {"l": [w(1), w(0), {"k": 1}], "t": (2, w(0))}, {"l": [w(0), w(2), {"k": 3}], "t": (1, w(4))}
    )
    assert merged == plain({"l": [w(1), w(2), {"k": 3}], "t": (2, w(4))})


def test_a_list_that_both_made_longer_is_one_conflict(stock: StockRoom) -> None:
    found = find_keys(stock, {"l": [w(0)]}, {"l": [w(0), w(1)]}, {"l": [w(0), w(2)]})
    assert found == [("l", "both changed")]
    stock.merge("dev", strategy="theirs")
    assert plain(read(stock)) == plain({"l": [w(0), w(2)]})


def test_a_list_and_a_tuple_do_not_go_together(stock: StockRoom) -> None:
    assert find_keys(stock, {"l": [w(0)]}, {"l": (w(0),)}, {"l": [w(1)]}) == [("l", "both changed")]


def test_a_container_deleted_here_and_changed_there(stock: StockRoom) -> None:
    found = find_keys(stock, {"a": {"x": w(0), "y": w(0)}, "b": 1}, {"b": 1}, {"a": {"x": w(1), "y": w(0)}, "b": 1})
    assert found == [("a", "deleted by us, changed by them")]
    stock.merge("dev", commit=False)
    assert stock.resolve("model/net", "a", choice="theirs") == 0
    stock.continue_merge()
    assert list(read(stock)) == ["b", "a"]


def test_a_state_that_is_one_tensor_is_in_conflict_as_a_whole(stock: StockRoom) -> None:
    assert find_keys(stock, w(0), w(1), w(2)) == [(None, "both changed")]
    stock.merge("dev", commit=False)
    stock.resolve("model/net", choice="theirs")
    stock.continue_merge()
    assert plain(read(stock)) == plain(w(2))


def test_a_model_deleted_here_and_changed_there(stock: StockRoom) -> None:
    fork(stock, save({"a": w(0)}), lambda writer: writer.model.__delitem__("net"), save({"a": w(1)}))
    assert collect_conflicts(stock) == [("model/net", None, "deleted by us, changed by them")]
    stock.merge("dev", strategy="theirs")
    assert plain(read(stock)) == plain({"a": w(1)})


def test_models_that_both_added_are_merged_leaf_by_leaf(stock: StockRoom) -> None:
    fork(stock, lambda writer: writer.data.create("n", dtype="int8"), save({"a": w(1)}), save({"a": w(1), "b": w(2)}))
    stock.merge("dev")
    assert plain(read(stock)) == plain({"a": w(1), "b": w(2)})


def test_arrays_scalars_and_texts_are_leaves_too(stock: StockRoom) -> None:
    base = {"a": np.arange(3), "t": "x", "f": 0.5, "none": None}
    merged = merge(stock, base, base | {"a": np.arange(4), "none": 1}, base | {"t": "y" * 50, "f": 0.25})
    assert merged == {"a": [0, 1, 2, 3], "t": "y" * 50, "f": 0.25, "none": 1}


# -- ties and shared memory


def tied(value: float, **more: Any) -> dict[str, Any]:
    weight = w(value)
    return {"embed": weight, "head": weight, **more}


def test_ties_stand_where_both_have_them(stock: StockRoom) -> None:
    fork(stock, save(tied(0, b=w(0))), save(tied(1, b=w(0))), save(tied(0, b=w(2))))
    stock.merge("dev")
    merged = read(stock)
    assert merged["head"].data_ptr() == merged["embed"].data_ptr()
    assert plain(merged) == plain(tied(1, b=w(2)))


def test_tied_weights_that_both_trained_are_one_conflict(stock: StockRoom) -> None:
    assert find_keys(stock, tied(0), tied(1), tied(2)) == [("embed", "both changed")]
    stock.merge("dev", strategy="theirs")
    merged = read(stock)
    assert merged["head"].data_ptr() == merged["embed"].data_ptr()
    assert plain(merged) == plain(tied(2))


def test_a_tie_cut_on_one_side_while_the_other_trained_through_it_is_a_conflict(stock: StockRoom) -> None:
    assert find_keys(stock, tied(0), {"embed": w(0), "head": w(5)}, tied(2)) == [("head", "both changed")]


def test_a_tie_cut_on_one_side_alone_is_taken(stock: StockRoom) -> None:
    fork(stock, save(tied(0, b=w(0))), save({"embed": w(1), "head": w(5), "b": w(0)}), save(tied(0, b=w(3))))
    stock.merge("dev")
    assert plain(read(stock)) == plain({"embed": w(1), "head": w(5), "b": w(3)})


def test_a_tie_to_what_the_other_side_took_out_is_a_conflict_of_the_whole(stock: StockRoom) -> None:
    weight = w(0)
    ours = {"embed": weight, "b": w(1), "twin": weight}
    assert find_keys(stock, {"embed": weight, "b": w(1)}, ours, {"b": w(1)}) == [(None, "structure")]
    stock.merge("dev", strategy="ours")
    assert list(read(stock)) == ["embed", "b", "twin"]


def shared(left: float, right: float, **more: Any) -> dict[str, Any]:
    """Two tensors in one memory."""
    memory = torch.cat([w(left), w(right)])
    return {"all": memory.view(2, 20).T, "right": memory[20:], **more}


def test_memory_that_is_shared_goes_with_its_side(stock: StockRoom) -> None:
    fork(stock, save(shared(0, 0, b=w(0))), save(shared(1, 2, b=w(0))), save(shared(0, 0, b=w(3))))
    stock.merge("dev")
    merged = read(stock)
    assert plain(merged) == plain(shared(1, 2, b=w(3)))
    merged["all"][0, 1] = 7
    assert merged["right"][0] == 7


def test_memory_that_is_shared_and_both_changed_is_decided_as_one(stock: StockRoom) -> None:
    found = find_keys(stock, shared(0, 0), shared(1, 1), shared(2, 2))
    assert found == [("all", "both changed"), ("right", "both changed")]
    stock.merge("dev", strategy="theirs")
    assert plain(read(stock)) == plain(shared(2, 2))


def test_memory_of_which_each_side_is_to_give_half_is_refused_as_a_whole(stock: StockRoom) -> None:
    fork(stock, save(shared(0, 0)), save(shared(1, 1)), save(shared(2, 2)))
    with pytest.raises(MergeConflictError) as caught:
        stock.merge("dev", strategy={"model/net:all": "ours", "model/net:right": "theirs"})
    assert [(conflict.key, conflict.kind) for conflict in caught.value.conflicts] == [(None, "structure")]
    stock.merge("dev", commit=False)
    stock.resolve("model/net", "all", choice="ours")
    with pytest.raises(InvalidInputError, match="theirs"):
        stock.resolve("model/net", "right", choice="theirs")
    stock.resolve("model/net", choice="ours")
    stock.continue_merge()
    assert plain(read(stock)) == plain(shared(1, 1))


# -- what stands beside the leaves


def test_metadata_is_merged_by_name(stock: StockRoom) -> None:
    state = {"a": w(0)}
    fork(stock, save(state, epoch=1, acc=0.5), save(state, epoch=2, acc=0.5, by="Ada"), save(state, epoch=1, acc=0.75))
    stock.merge("dev")
    assert dict(stock.model["net"].metadata) == {"epoch": 2, "acc": 0.75, "by": "Ada"}


@pytest.mark.parametrize(("choice", "epoch"), [("ours", 2), ("theirs", 3)])
def test_metadata_in_conflict_is_named_and_resolved(stock: StockRoom, choice: str, epoch: int) -> None:
    state = {"a": w(0)}
    fork(stock, save(state, epoch=1), save(state, epoch=2), save({"a": w(1)}, epoch=3))
    assert collect_conflicts(stock) == [("model/net", "metadata epoch", "metadata")]
    stock.merge("dev", commit=False)
    assert stock.resolve("model/net", choice=choice) == 0
    stock.continue_merge()
    assert stock.model["net"].metadata["epoch"] == epoch
    assert plain(read(stock)) == plain({"a": w(1)})


def with_versions(state: dict[str, Any], versions: dict[str, int]) -> OrderedDict[str, Any]:
    """A state dict as torch makes it: with the versions of its modules beside it."""
    ordered = OrderedDict(state)
    ordered._metadata = OrderedDict((name, {"version": version}) for name, version in versions.items())
    return ordered


def test_versions_of_modules_come_from_both_sides(stock: StockRoom) -> None:
    base = with_versions({"a": w(0)}, {"": 1, "a": 1})
    ours = with_versions({"a": w(0), "b": w(1)}, {"": 1, "a": 1, "b": 2})
    theirs = with_versions({"a": w(0), "c": w(2)}, {"": 1, "a": 1, "c": 3})
    fork(stock, save(base), save(ours), save(theirs))
    stock.merge("dev")
    merged = read(stock)
    assert list(merged) == ["a", "b", "c"]
    assert {name: notes["version"] for name, notes in merged._metadata.items()} == {"": 1, "a": 1, "b": 2, "c": 3}


def test_versions_of_modules_that_do_not_go_together(stock: StockRoom) -> None:
    base, ours, theirs = (with_versions({"a": w(n), "b": w(0)}, {"a": n}) for n in (1, 2, 3))
    ours["a"], theirs["a"], theirs["b"] = w(1), w(1), w(4)
    fork(stock, save(base), save(ours), save(theirs))
    assert collect_conflicts(stock) == [("model/net", None, "structure")]
    stock.merge("dev", strategy="theirs")
    assert read(stock)._metadata["a"]["version"] == 3


# -- averages


def test_average_takes_the_mean_of_what_both_trained(stock: StockRoom) -> None:
    merged = merge(
        stock,
        {"a": w(0), "b": w(0), "c": w(0)},
        {"a": w(1), "b": w(5), "c": w(0)},
        {"a": w(4), "b": w(0), "c": w(6)},
        strategy="average",
    )
    assert merged == plain({"a": w(2.5), "b": w(5), "c": w(6)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_means_are_rounded_once(stock: StockRoom, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    base, ours, theirs = (torch.randn(3000, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))
    fork(stock, save({"a": base}), save({"a": ours}), save({"a": theirs}))
    stock.merge("dev", strategy="average")
    expected = ((ours.double() + theirs.double()) / 2).to(dtype)
    assert torch.equal(read(stock)["a"].view(torch.uint8), expected.view(torch.uint8))


def test_tensors_over_many_chunks_are_averaged(stock: StockRoom) -> None:
    fork(stock, save({"a": w(0, 3_000_000)}), save({"a": w(1, 3_000_000)}), save({"a": w(2, 3_000_000)}))
    stock.merge("dev", strategy="average")
    assert torch.equal(read(stock)["a"], w(1.5, 3_000_000))
    assert stock.verify().ok


def test_what_has_no_mean_is_left_to_the_next_pattern(stock: StockRoom) -> None:
    base = {"a": w(0), "steps": torch.tensor(1)}
    fork(stock, save(base), save({"a": w(1), "steps": torch.tensor(5)}), save({"a": w(2), "steps": torch.tensor(9)}))
    with pytest.raises(MergeConflictError) as caught:
        stock.merge("dev", strategy="average")
    assert [conflict.key for conflict in caught.value.conflicts] == ["steps"]
    stock.merge("dev", strategy={"model/*": "average", "*": "theirs"})
    assert plain(read(stock)) == {"a": w(1.5).tolist(), "steps": 9}


def test_tensors_of_two_shapes_have_no_mean(stock: StockRoom) -> None:
    fork(stock, save({"a": w(0)}), save({"a": w(1, 4)}), save({"a": w(2, 5)}))
    with pytest.raises(MergeConflictError):
        stock.merge("dev", strategy="average")


def test_averaging_by_resolve_keeps_what_else_is_staged(stock: StockRoom) -> None:
    fork(
        stock,
        save({"a": w(0), "b": w(0), "c": w(0)}),
        save({"a": w(1), "b": w(1), "c": w(0)}),
        save({"a": w(3), "b": w(3), "c": w(9)}),
    )
    stock.merge("dev", commit=False)
    assert stock.resolve("model/net", "a", choice="average") == 1
    assert stock.resolve("model/net", "b", choice="theirs") == 0
    stock.continue_merge()
    assert plain(read(stock)) == plain({"a": w(2), "b": w(3), "c": w(9)})
    with pytest.raises(AssertionError):  # nothing is left to merge
        collect_conflicts(stock)


def test_a_merge_that_fails_after_averaging_leaves_nothing(stock: StockRoom) -> None:
    fork(stock, save({"a": w(0), "n": 1}), save({"a": w(1), "n": 2}), save({"a": w(2), "n": 3}))
    before = (stock.commit_id, list(stock.operations()))
    with pytest.raises(MergeConflictError):
        stock.merge("dev", strategy="average")
    assert (stock.commit_id, list(stock.operations())) == before
    commit(stock, save({"a": w(7), "n": 2}))
    assert stock.verify().ok

"""What parts of a repository cost, against sums made by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom

ROW_NBYTES = 1000
random = np.random.default_rng(5)


def make_rows(count: int) -> np.ndarray:
    return random.integers(0, 256, (count, ROW_NBYTES), dtype=np.uint8)


def write(stock: StockRoom, **columns: object) -> None:
    with stock.enable_write("Change"):
        for name, values in columns.items():
            stock.data[name] = values


def test_equal_samples_are_counted_once_and_shared_ones_are_nobodys_own(stock: StockRoom) -> None:
    rows = make_rows(10)
    write(stock, a=np.concatenate([rows, rows[:4]]), b=rows[:6], c=make_rows(3))
    usage = stock.measure_usage()
    a, b, c = (usage.items[f"data/{name}"] for name in "abc")
    assert (a.nbytes, a.found.chunks, a.found.chunk_nbytes) == (14 * ROW_NBYTES, 10, 10 * ROW_NBYTES)
    assert a.saved_by_dedupe_nbytes == 4 * ROW_NBYTES
    assert (b.nbytes, b.found.chunks) == (6 * ROW_NBYTES, 6)
    assert 4 * ROW_NBYTES <= a.own_nbytes < 6 * ROW_NBYTES
    assert b.own_nbytes < ROW_NBYTES  # its record and nodes only
    assert c.own_nbytes == c.found.stored_nbytes
    assert (usage.total.nbytes, usage.total.found.chunks) == (23 * ROW_NBYTES, 13)
    assert usage.total.own_nbytes == usage.total.found.stored_nbytes


def test_small_samples_stand_in_metadata_and_codecs_save_what_they_save(stock: StockRoom) -> None:
    write(
        stock,
        label=np.arange(100),
        smooth=np.zeros((50, ROW_NBYTES), np.uint8) + np.arange(50, dtype=np.uint8)[:, None],
    )
    usage = stock.measure_usage()
    label, smooth = usage.items["data/label"], usage.items["data/smooth"]
    assert (label.nbytes, label.inline_nbytes, label.found.chunks) == (800, 800, 0)
    assert label.found.metadata_nbytes > 0
    assert smooth.saved_by_codecs_nbytes > 40 * ROW_NBYTES
    assert smooth.saved_by_codecs_nbytes + smooth.found.packed_nbytes == smooth.found.chunk_nbytes


def test_chunk_lists_text_values_and_models_are_counted(stock: StockRoom) -> None:
    large = random.integers(0, 256, 9 << 20, dtype=np.uint8)
    with stock.enable_write("All kinds"):
        stock.data["large"] = large[None]
        stock.data["text"] = ["ab", "x" * 100]
        stock.model["net"] = {"w": large[: 5 << 20], "lr": 0.5}
        stock.experiment["lr"] = 0.1
    items = stock.measure_usage().items
    assert items["data/large"].nbytes == items["data/large"].found.chunk_nbytes == 9 << 20
    assert items["data/large"].found.chunks == 3
    assert (items["data/text"].nbytes, items["data/text"].inline_nbytes) == (102, 2)
    assert items["model/net"].nbytes == (5 << 20) + 8
    assert items["experiment/lr"].nbytes == items["experiment/lr"].inline_nbytes == 8


def test_a_branch_costs_what_it_alone_leads_to(stock: StockRoom) -> None:
    #  o---o main
    #   \
    #    o---o dev
    write(stock, a=make_rows(20))
    stock.create_branch("dev")
    write(stock, b=make_rows(5))
    stock.checkout("dev")
    write(stock, c=make_rows(3))
    write(stock, d=make_rows(4))
    usage = stock.measure_usage()
    main, dev = usage.branches["main"], usage.branches["dev"]
    assert (main.commits, main.own.chunks, main.own.chunk_nbytes) == (1, 5, 5 * ROW_NBYTES)
    assert (dev.commits, dev.own.chunks) == (2, 7)
    assert (usage.commits, usage.history.chunks) == (4, 32)
    assert usage.copies_nbytes == (20 + 25 + 23 + 27) * ROW_NBYTES


def test_what_a_tag_keeps_is_no_branchs_own(stock: StockRoom) -> None:
    write(stock, a=make_rows(2))
    stock.create_tag("v1")
    assert stock.measure_usage().branches["main"].own.stored_nbytes == 0


def test_a_commit_adds_what_none_before_it_had(stock: StockRoom) -> None:
    rows = make_rows(10)
    write(stock, a=rows)
    write(stock, b=np.concatenate([rows[:5], make_rows(2)]))
    with stock.enable_write("Back"):
        del stock.data["b"]
    added = stock.measure_commits()
    assert list(added) == [commit.id for commit in stock.log()][::-1]
    assert [tally.chunks for tally in added.values()] == [10, 2, 0]
    assert all(tally.metadata_nbytes > 0 for tally in list(added.values())[:2])


def test_nothing_costs_nothing(stock: StockRoom) -> None:
    usage = stock.measure_usage()
    assert (usage.items, usage.branches, usage.commits, usage.total.nbytes) == ({}, {}, 0, 0)


@pytest.mark.parametrize("metadata_only", [False, True])
def test_a_clone_gives_the_same_figures_without_the_samples(
    stock: StockRoom, tmp_path: Path, metadata_only: bool
) -> None:
    write(stock, a=make_rows(30), b=["x" * 50, "y" * 90])
    stock.add_remote("origin", str(tmp_path / "remote"))
    stock.push()
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", metadata_only) as clone:
        usage, original = clone.measure_usage(), stock.measure_usage()
        assert usage.items == original.items
        assert usage.history == original.history
    shutil.rmtree(tmp_path / "remote")

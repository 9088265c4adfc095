"""What a push sends is all that is new, and nothing that the remote has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.digest import CommitId
from stockroom.remotes.push_plan import PushContents, plan_push
from stockroom.repository.repository import Repository


@pytest.fixture
def stock(tmp_path: Path) -> StockRoom:
    stock = StockRoom.init(tmp_path)
    with stock.enable_write("First"):
        stock.data["image"] = np.random.default_rng(1).integers(0, 256, (5000, 100), dtype=np.uint8)
        stock.data["label"] = np.arange(5000)
        stock.data["large"] = np.arange(3_000_000, dtype=np.int64).reshape(2, -1)
    return stock


def plan(stock: StockRoom, *known: str) -> PushContents:
    assert stock.commit_id is not None
    tips = [CommitId(bytes.fromhex(stock.commit_id))]
    return plan_push(stock._repository, tips, [CommitId(bytes.fromhex(commit)) for commit in known])


def test_a_first_push_sends_everything_there_is(stock: StockRoom) -> None:
    contents = plan(stock)
    repository: Repository = stock._repository
    assert len(contents.commits) == 1
    assert set(contents.packs) == set(repository.tensors.catalog.read_packs().values())
    assert set(contents.objects) < set(repository.objects.iter_digests())  # but for those replaced while staging
    for column in stock.data:
        for value in (stock.data[column].root,):
            assert bytes.fromhex(value) in contents.objects
    assert plan(stock, stock.commit_id or "").commits == []


def test_a_change_sends_the_way_to_it_and_its_own_pack(stock: StockRoom) -> None:
    first = stock.commit_id or ""
    with stock.enable_write("Second"):
        stock.data["image"][17] = np.zeros(100, np.uint8)
    with stock.enable_write("Third"):
        stock.data["label"][3] = 99
        stock.data["copy"] = {"a": stock.data["image"][5]}
    contents = plan(stock, first)
    assert len(contents.commits) == 2
    assert contents.commits[-1].hex() == stock.commit_id
    assert len(contents.objects) < 16
    assert len(contents.packs) == 2  # the new one, and the old one that the copy refers to
    assert len(plan(stock, first, *[commit.id for commit in stock.log()][1:2]).commits) == 1


def test_a_deleted_column_and_an_old_tip_need_nothing_more(stock: StockRoom) -> None:
    first = stock.commit_id or ""
    with stock.enable_write("Delete"):
        del stock.data["large"]
    contents = plan(stock, first)
    assert contents.packs == {}
    assert len(contents.objects) <= 2


def test_history_is_sent_parents_first(stock: StockRoom) -> None:
    for number in range(20):
        with stock.enable_write(f"{number}"):
            stock.data["label"][number] = -number - 1
    contents = plan(stock)
    order = [commit.hex() for commit in contents.commits]
    assert order == [commit.id for commit in stock.log()][::-1]
    assert len(set(contents.objects)) == len(contents.objects)


def test_an_old_commit_behind_what_the_remote_has_needs_nothing(stock: StockRoom) -> None:
    for number in range(10):
        with stock.enable_write(f"{number}"):
            stock.data["label"][number] = -number - 1
    tip = CommitId(bytes.fromhex(stock.commit_id or ""))
    old = stock._repository.resolve("HEAD~5")
    assert plan_push(stock._repository, [old], [tip]).commits == []
    assert len(plan_push(stock._repository, [tip], [old]).commits) == 5
    stock.checkout("HEAD~5")
    stock.checkout("side", create=True)
    with stock.enable_write("Aside"):
        stock.data["label"][77] = 1
    aside = CommitId(bytes.fromhex(stock.commit_id or ""))
    assert plan_push(stock._repository, [aside], [tip]).commits == [aside]

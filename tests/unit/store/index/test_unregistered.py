"""Packs on disk that the catalog does not know are found again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.kit.limits import files_left

from stockroom.errors import UnreadableError
from stockroom.store.index.unregistered import list_unregistered
from stockroom.store.tensor_store import TensorStore


@pytest.mark.parametrize("lost", [("catalog", "index"), ("catalog",), ("index",)])
def test_without_catalog_or_index_everything_is_found_again(store, put, rows, tmp_path, lost):
    many = np.random.default_rng(0).integers(0, 256, (3000, 40)).astype(np.uint8)
    digests, ragged = put(many), put([row[:i].tobytes() for i, row in enumerate(rows, 1)], codec="zstd")
    store.close()
    for name in lost:
        shutil.rmtree(tmp_path / "store" / name)
    again = TensorStore(tmp_path / "store")
    assert (again.gather(again.locate(digests, 40), 40) == many).all()
    assert [len(data) for data in again.read_many(again.locate(ragged))] == list(range(1, 301))
    assert again.recover() == 0
    again.close()


def test_a_pack_put_back_by_hand_is_found_when_it_is_needed(store, put, rows, only_pack, tmp_path):
    digests = put(rows)
    whole = only_pack()
    away = tmp_path / "away"
    whole.rename(away)
    store.index.unregister(list(store.catalog.read_packs()))
    assert not store.contains(digests).any()
    away.rename(whole)
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()


def test_a_pack_whose_name_is_not_its_digest_is_never_taken_in(store, put, rows, only_pack):
    put(rows)
    pack = only_pack()
    pack.rename(pack.with_name("ab" * 32))
    (pack.parent / ("cd" * 32)).mkdir()
    (pack.parent / "notes.txt").write_text("a stranger's file")
    assert list_unregistered(store.packs_directory, ()) == []


def test_a_pack_that_cannot_be_read_now_is_not_taken_for_missing(store, put, rows, only_pack):
    digests = put(rows)
    pack = only_pack()
    store.index.unregister(list(store.catalog.read_packs()))
    for left in (0, 1):
        with files_left(left), pytest.raises(UnreadableError):
            list_unregistered(store.packs_directory, ())
    assert [digest.hex() for digest, _ in list_unregistered(store.packs_directory, ())] == [pack.name]
    assert (store.gather(store.locate(digests, 1000), 1000) == rows).all()


def test_tables_are_not_rebuilt_without_a_pack_that_cannot_be_read_now(store, put, rows):
    digests = [put(rows[:100]), put(rows[100:], codec="zstd")]
    store.cache.forget()
    with files_left(1), pytest.raises(UnreadableError):
        store.index.rebuild()
    store.index.rebuild()
    assert (store.gather(store.locate(np.concatenate(digests), 1000), 1000) == rows).all()


def test_a_lost_table_is_not_replaced_by_one_without_a_pack_that_cannot_be_read_now(store, put, tmp_path):
    many = np.random.default_rng(0).integers(0, 256, (3000, 40)).astype(np.uint8)
    digests = put(many)
    store.close()
    for table in (tmp_path / "store/index").iterdir():
        table.unlink()
    again = TensorStore(tmp_path / "store")
    assert again.catalog.read_packs()
    with files_left(1), pytest.raises(UnreadableError):
        again.locate(digests)
    assert (again.gather(again.locate(digests, 40), 40) == many).all()
    again.close()

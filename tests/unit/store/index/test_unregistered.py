"""Packs on disk that the catalog does not know are found again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

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

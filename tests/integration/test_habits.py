"""What people try first, coming from git, dicts, numpy and torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from stockroom import ConflictError, SchemaError, StockRoom


@pytest.fixture
def labels(stock):
    with stock.enable_write("labels"):
        stock.data["label"] = np.arange(10)
        stock.data["caption"] = [f"number {n}" for n in range(300)]
    return stock.data["label"]


def test_a_new_branch_takes_what_is_staged_along(stock, labels):
    main = stock.commit_id
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["label"][0] = 7
        writer.checkout("rescue", create=True)
        assert list(writer.status().changes) == ["data/label"]
        writer.commit("on a branch of its own")
    with StockRoom(stock.path) as reader:
        assert reader.branch == "rescue"
        assert reader.data["label"][0] == 7
        assert reader.branches["main"] == main


def test_what_is_staged_on_a_detached_head_can_be_committed_on_a_new_branch(stock, labels):
    with stock.enable_write("more"):
        stock.data["label"][1] = 5
    stock.checkout("HEAD~1")
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["label"][0] = 7
        with pytest.raises(ConflictError, match="checkout -b"):
            writer.commit("nowhere to go")
        writer.checkout("rescue", create=True)
        writer.commit("saved")
        assert writer.data["label"][1] == 1


def test_another_init_leaves_the_author_alone(stock):
    StockRoom.init(stock.path, name="Mallory", email="m@example.org").close()
    with stock.enable_write("mine"):
        stock.data["x"] = [1]
    assert next(stock.log()).author == "Ada Lovelace"


def test_staged_changes_outlive_a_program_that_ends_without_closing(stock, labels):
    program = (
        "import sys; from stockroom import StockRoom\n"
        "stock = StockRoom(sys.argv[1], enable_write=True); stock.data['label'][0] = 7"
    )
    subprocess.run([sys.executable, "-c", program, str(stock.path)], check=True)
    assert list(stock.status().changes) == ["data/label"]


def test_a_column_becomes_the_array_of_its_samples(labels):
    np.testing.assert_array_equal(np.asarray(labels), np.arange(10))
    assert np.asarray(labels, np.float32).dtype == np.float32


def test_a_column_of_text_does_not_become_an_array_of_its_keys(stock, labels):
    with pytest.raises(TypeError, match="take"):
        np.asarray(stock.data["caption"])


def test_masks_and_index_tensors_choose_samples(labels):
    np.testing.assert_array_equal(labels[np.arange(10) % 2 == 0], [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(labels[torch.tensor([3, 1])], [3, 1])
    np.testing.assert_array_equal(labels[torch.arange(10) > 7], [8, 9])
    with pytest.raises(SchemaError, match="mask of 10"):
        labels[np.array([True])]


def test_values_and_items_go_over_all_samples_in_key_order(stock, labels):
    assert [int(value) for value in labels.values()] == list(range(10))
    assert list(stock.data["caption"].items()) == [(n, f"number {n}") for n in range(300)]
    assert len(stock.data["caption"].values()) == 300


def test_setting_a_slice_names_the_way_to_set_many(stock, labels):
    with stock.enable_write(), pytest.raises(SchemaError, match="update"):
        stock.data["label"][0:2] = [1, 2]


def test_a_stage_left_behind_by_a_move_of_head_is_found_again(stock, labels):
    first = stock.commit_id
    with stock.enable_write("second"):
        stock.data["label"][1] = 5
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["label"][0] = 7
    here = (stock.path / "head.stock").read_text()
    (stock.path / "head.stock").write_text(f"stockroom head 1\nbranch -\ncommit {first}\n")  # as git would
    with StockRoom(stock.path) as elsewhere:
        assert list(elsewhere.status().changes["data/label"].changed) == [0]
        with pytest.raises(ConflictError, match="are based on"):
            elsewhere.checkout("HEAD")
        elsewhere.checkout("main")
    assert (stock.path / "head.stock").read_text() == here
    with StockRoom(stock.path, enable_write=True) as writer:
        assert writer.data["label"][0] == 7

"""Data sets in DataLoader workers and process pools, however the processes are started."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from operator import itemgetter

import numpy as np
import pytest

from stockroom import SampleNotFoundError, SchemaError, StockRoom, make_torch_dataset

torch = pytest.importorskip("torch")

COUNT = 300


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A repository of 300 images, each filled from its number, with labels and names."""
    folder = tmp_path_factory.mktemp("workers")
    with StockRoom.init(folder) as stock, stock.enable_write("samples") as writer:
        numbers = np.arange(COUNT)
        writer.data["image"] = np.broadcast_to(numbers[:, None, None], (COUNT, 8, 8)).astype(np.int32)
        writer.data["label"] = numbers
        writer.data["name"] = [f"number {number}" for number in numbers]
        writer.data["scan"] = [np.full(1 + number % 90, number, np.float32) for number in numbers]
        writer.data["named"] = {f"key {number:03}": np.full(20, number) for number in numbers}
    return folder


@pytest.fixture
def dataset(path):
    with StockRoom(path) as stock:
        columns = {name: stock.data[name] for name in ("image", "label", "name")}
        yield make_torch_dataset(columns)


def check_every_sample_once(batches):
    seen = []
    for batch in batches:
        for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
            assert (image == label).all()
            assert image.shape == (8, 8)
            assert name == f"number {label}"
            seen.append(int(label))
    assert sorted(seen) == list(range(COUNT))


@pytest.mark.parametrize("parent_has_read", [False, True])
@pytest.mark.parametrize("context", [None, "fork", "spawn", "forkserver"])
def test_every_sample_comes_right_exactly_once(dataset, context, parent_has_read):
    if parent_has_read:
        assert int(dataset[7]["label"]) == 7
        dataset.__getitems__(list(range(COUNT)))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=32,
        shuffle=True,
        num_workers=2 if context else 0,
        multiprocessing_context=context,
        persistent_workers=context is not None,
    )
    for _ in range(2):  # persistent workers serve both epochs
        check_every_sample_once(loader)
    assert int(dataset[8]["label"]) == 8


def test_samples_of_many_shapes_come_through_workers(path):
    with StockRoom(path) as stock:
        dataset = make_torch_dataset([stock.data["scan"], stock.data["label"]])
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
        count = 0
        for scan, label in loader:
            assert scan.tolist() == [label] * (1 + int(label) % 90)
            count += 1
        assert count == COUNT


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_sample_comes_right_through_a_process_pool(dataset, method):
    assert int(dataset[3]["label"]) == 3
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        batches = pool.map(dataset.__getitems__, [range(start, start + 50) for start in range(0, COUNT, 50)])
        labels = [int(sample["label"]) for batch in batches for sample in batch]
    assert labels == list(range(COUNT))


def test_many_forked_children_read_at_once_what_their_parent_has_open(dataset):
    dataset.__getitems__(list(range(COUNT)))
    children = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                check_every_sample_once(
                    [{key: [sample[key] for sample in dataset.__getitems__(range(COUNT))] for key in dataset[0]}]
                )
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    check_every_sample_once([{key: [dataset[i][key] for i in range(COUNT)] for key in dataset[0]}])
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6


def test_a_pickled_data_set_reads_on_at_its_commit(path, tmp_path):
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write() as writer:
            writer.data["x"] = [1, 2]
        pickled = pickle.dumps(make_torch_dataset([stock.data["x"]]))
        with stock.enable_write() as writer:
            writer.data["x"] = [3, 4]
    loaded = pickle.loads(pickled)
    assert [int(sample[0]) for sample in (loaded[0], loaded[1])] == [1, 2]
    assert len(pickle.loads(pickle.dumps(loaded))) == 2


def test_a_data_set_of_two_million_samples_pickles_below_4_kib(tmp_path):
    count = 2_000_000
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write() as writer:
            writer.data["label"] = np.arange(count)
        label = stock.data["label"]
        for keys in (None, range(count - 1, -1, -20)):
            dataset = make_torch_dataset([label], keys)
            pickled = pickle.dumps(dataset)
            assert len(pickled) < 4096
            again = pickle.loads(pickled)
            assert len(again) == len(dataset)
            assert int(again[1234][0]) == int(dataset[1234][0])


def test_handles_columns_and_data_sets_that_write_refuse_to_pickle(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = [1]
        for unsendable in (writer, writer.data["x"], make_torch_dataset([writer.data["x"]])):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(unsendable)
        writer.commit("x")
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(make_torch_dataset([writer.data["x"]]))
    with StockRoom(stock.path) as reader, pytest.raises(TypeError, match="pickle"):
        pickle.dumps(reader)


def test_a_sequence_of_columns_gives_tuples_and_a_mapping_gives_dicts(path):
    with StockRoom(path) as stock:
        image, label = stock.data["image"], stock.data["label"]
        pair = make_torch_dataset([image, label])[5]
        assert isinstance(pair, tuple)
        assert torch.equal(pair[0], torch.full((8, 8), 5, dtype=torch.int32))
        assert set(make_torch_dataset({"picture": image, "class": label})[5]) == {"picture", "class"}
        assert int(make_torch_dataset(label)[5][0]) == 5
        doubled = make_torch_dataset([label], transform=itemgetter(0))
        assert [int(sample) for sample in doubled.__getitems__([3, 3, 1])] == [3, 3, 1]


def test_chosen_keys_come_in_the_order_given(path):
    with StockRoom(path) as stock:
        by_number = make_torch_dataset([stock.data["label"]], keys=[7, 3, 7, 250])
        assert [int(by_number[i][0]) for i in range(4)] == [7, 3, 7, 250]
        by_name = make_torch_dataset([stock.data["named"]], keys=["key 007", "key 003"])
        again = pickle.loads(pickle.dumps(by_name))
        assert [int(again[i][0][0]) for i in range(2)] == [7, 3]
        assert int(by_number[-1][0]) == 250
        with pytest.raises(IndexError):
            by_number[4]
        with pytest.raises(SampleNotFoundError, match="300"):
            make_torch_dataset([stock.data["label"]], keys=[1, 300])


def test_columns_with_different_keys_are_refused_before_the_first_batch(stock):
    with stock.enable_write() as writer:
        writer.data["x"] = [1, 2, 3]
        writer.data["y"] = [1, 2]
        writer.data["z"] = {"a": 1, "b": 2}
    x, y, z = (stock.data[name] for name in "xyz")
    with pytest.raises(SchemaError, match="2 is in only one"):
        make_torch_dataset([x, y])
    with pytest.raises(SchemaError, match="str keys"):
        make_torch_dataset([x, z])
    assert len(make_torch_dataset([x, y], keys=[0, 1])) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "bool", "float16", "int16"])
def test_torch_tensors_come_back_as_they_were_given(stock, dtype):
    values = torch.arange(120).reshape(3, 40).to(getattr(torch, dtype))
    with stock.enable_write() as writer:
        writer.data["x"] = values
        writer.data["grad"] = [torch.ones(50, requires_grad=True) * 2, torch.ones(100, requires_grad=True)[::2]]
        writer.data["turned"] = [torch.arange(200.0).reshape(10, 20).T]
    dataset = make_torch_dataset([stock.data["x"]])
    for number, given in enumerate(values):
        (back,) = dataset[number]
        assert (back.dtype, back.shape) == (given.dtype, given.shape)
        assert torch.equal(back.view(torch.uint8), given.view(torch.uint8))
    assert stock.data["grad"][1].tolist() == [1.0] * 50
    assert np.array_equal(stock.data["turned"][0], np.arange(200.0).reshape(10, 20).T)

"""Models on a clone that has the metadata only: what is looked at costs nothing, what is read is all that comes."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit.servers import BUCKET, Proxy
from tests.kit.states import assert_same
from torch import nn

from stockroom import AbsentDataError, StockRoom
from stockroom.remotes.push import push
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.testing.transports import CountingTransport

LAYERS = 24
LAYER_NBYTES = 4 * (400 * 400 + 400)


class Net(nn.Module):
    """Layers of 0.6 MB, one embedding of several chunks, and a weight that two names share."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(8_000, 400)  # 12.8 MB
        self.layers = nn.ModuleList(nn.Linear(400, 400) for _ in range(LAYERS))
        self.head = nn.Linear(400, 8_000, bias=False)
        self.head.weight = self.embedding.weight


def make_run(seed: int = 0) -> dict[str, Any]:
    """A net and what an optimiser would keep of it, with some that is inline and some that shrinks when encoded."""
    state = Net(seed).state_dict()
    return {
        "model": state,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "counts": torch.zeros(400, 400, dtype=torch.int64)}}},
        "epoch": 3,
        "arrays": {"counts": np.arange(50)},
    }


def measure_nbytes(state: dict[str, torch.Tensor]) -> int:
    return sum({value.data_ptr(): value.nbytes for value in state.values()}.values())


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a repository with one model was pushed to; tests copy nothing of it, and move it only and back."""
    path = tmp_path_factory.mktemp("models")
    with StockRoom.init(path / "source") as source:
        with source.enable_write("Model"):
            source.model.save("net", make_run(), epoch=3)
            source.data["label"] = np.arange(10)
        source.add_remote("origin", str(path / "remote"))
        source.push()
    return path / "remote"


@pytest.fixture
def clone(remote: Path, tmp_path: Path) -> Iterator[StockRoom]:
    with StockRoom.clone(str(remote), tmp_path / "clone", metadata_only=True) as opened:
        assert opened.measure_presence().present_nbytes == 0
        yield opened


@pytest.fixture
def away(clone: StockRoom, remote: Path) -> Iterator[None]:
    """The remote is out of reach from here on."""
    hidden = remote.rename(remote.with_name("hidden"))
    yield
    hidden.rename(remote)


@pytest.mark.usefixtures("away")
def test_all_that_is_known_of_a_model_is_known_without_its_bytes(clone: StockRoom) -> None:
    expected = make_run()
    state = clone.model["net"]
    assert list(clone.model) == ["net"]
    assert list(state) == list(expected)
    assert list(state["model"]) == list(expected["model"])
    assert state["epoch"] == 3  # what is inline is there
    assert state["optimizer"]["state"][0]["step"] == 3.0
    assert state.metadata == {"epoch": 3}
    assert state.nbytes > measure_nbytes(expected["model"])
    assert state["model"].nbytes == measure_nbytes(expected["model"])
    assert len(state.paths()) == len(list(state.leaves())) == 1 + 2 * LAYERS + 1 + 2 + 1 + 1
    leaves = {leaf.path: leaf for leaf in state.leaves()}
    assert leaves["model/head.weight"].tied_to == "model/embedding.weight"
    assert leaves["model/layers.3.weight"].shape == (400, 400)
    assert len(leaves["model/layers.3.weight"].digest) == 64
    assert state.present() == 0.0
    assert dict(clone.diff("HEAD", "HEAD")) == {}
    assert clone.verify().ok
    with clone.enable_write("Renamed"):
        clone.model["copied"] = {"epoch": 4}
        del clone.model["net"]
    assert list(clone.diff("HEAD~1", "HEAD")["model/net"].removed) == sorted(state.paths())
    assert clone.measure_presence().present_nbytes < 100
    with pytest.raises(AbsentDataError, match="remote 'origin' does not have it"):
        state["model"]["layers.3.weight"]


def test_one_layer_brings_that_layer(clone: StockRoom) -> None:
    expected = make_run()["model"]
    state = clone.model["net"]["model"]
    assert_same(state["layers.7.weight"], expected["layers.7.weight"])
    assert clone.measure_presence().present_nbytes <= 1.1 * LAYER_NBYTES
    layer = OrderedDict((name, value) for name, value in expected.items() if name.startswith("layers.8."))
    assert_same(state.load(names="layers.8.*"), layer)
    assert clone.measure_presence().present_nbytes <= 2.1 * LAYER_NBYTES
    state.prefetch(["layers.9.weight", "layers.9.bias"])
    assert clone.measure_presence().present_nbytes <= 3.1 * LAYER_NBYTES
    with StockRoom(clone.path, lazy=False) as reader:
        assert_same(reader.model["net"]["model"]["layers.9.weight"], expected["layers.9.weight"])
        with pytest.raises(AbsentDataError, match="lazy=False"):
            reader.model["net"]["model"]["layers.10.weight"]


def test_rows_of_a_large_tensor_bring_the_chunks_that_hold_them(clone: StockRoom) -> None:
    expected = make_run()["model"]["embedding.weight"]
    loaded = clone.model["net"]["model"].load(names="embedding.weight", rows=[7_990, 7_991])
    assert_same(loaded["embedding.weight"], expected[[7_990, 7_991]])
    assert clone.measure_presence().present_nbytes <= 1.1 * (4 << 20)


def test_what_shrinks_when_encoded_comes_too(clone: StockRoom) -> None:
    counts = clone.model["net"]["optimizer"]["state"][0]["counts"]
    assert_same(counts, torch.zeros(400, 400, dtype=torch.int64))
    assert 0 < clone.measure_presence().present_nbytes < counts.nbytes / 10


def test_what_was_loaded_lazily_is_the_callers_own(clone: StockRoom) -> None:
    expected = make_run()
    clone.model["net"].load()["model"]["embedding.weight"].fill_(7)
    clone.model["net"]["model"]["layers.0.weight"].fill_(7)
    assert_same(clone.model["net"].load(), expected)
    assert clone.verify().ok
    presence = clone.measure_presence()
    assert presence.whole_packs == presence.packs
    clone.drop()
    assert_same(clone.model["net"].load(), expected)


def test_what_is_mapped_stays_when_its_pack_is_dropped(clone: StockRoom) -> None:
    expected = make_run()["model"]
    loaded, one = clone.model["net"]["model"].load(), clone.model["net"]["model"]["layers.1.weight"]
    assert clone.drop().packs > 0
    assert clone.measure_presence().present_nbytes < 1000
    assert_same(loaded, expected)
    assert_same(one, expected["layers.1.weight"])


def test_a_state_is_read_on_while_others_drop_its_packs_and_bring_them_again(clone: StockRoom) -> None:
    expected = make_run()["model"]
    clone.prefetch()
    state = clone.model["net"]["model"]
    for again in (True, False, True):
        assert_same(OrderedDict((name, state[name]) for name in state), expected)  # many reads: places are kept
        assert_same(state.load(), expected)
        with StockRoom(clone.path) as other:
            assert other.drop().nbytes > 20_000_000
            if again:
                other.prefetch()
    assert_same(state.load(names="layers.7.weight")["layers.7.weight"], expected["layers.7.weight"])
    assert clone.verify().ok


def test_tensors_that_are_known_are_not_stored_again(clone: StockRoom, tmp_path: Path) -> None:
    run = make_run()
    trained = run["model"] | {"layers.23.weight": run["model"]["layers.23.weight"] + 1}
    before = clone.measure_presence()
    with clone.enable_write("Train the last layer"):
        clone.model.save("net", run | {"model": trained, "epoch": 4})
        clone.model["again"] = run["model"]
    after = clone.measure_presence()
    assert before.present_nbytes == 0
    assert after.present_nbytes <= 1.05 * 4 * 400 * 400 + 1000
    transport = CountingTransport(open_transport(RemoteSettings(clone.remotes["origin"])))
    push(clone._repository, "origin", resolve_push(clone._repository, None), transport=transport)
    assert transport.sent_nbytes <= 1.1 * 4 * 400 * 400 + (64 << 10)
    with StockRoom.clone(clone.remotes["origin"], tmp_path / "whole") as whole:
        assert_same(whole.model["net"]["model"].load(), trained)
        assert_same(whole.model["again"].load(), run["model"])
        assert whole.verify().ok


# -- requests, counted between a clone and a real server


@pytest.fixture
def far_clone(proxy: Proxy, tmp_path: Path) -> Path:
    """A clone without bytes, whose remote is behind the proxy."""
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with StockRoom.init(tmp_path / "source") as source:
        with source.enable_write("Model"):
            source.model["net"] = make_run()
        source.add_remote("origin", url, endpoint_url=proxy.url)
        source.push()
    path = tmp_path / "clone"
    StockRoom.clone(url, path, metadata_only=True, endpoint_url=proxy.url).close()
    proxy.requests.clear()
    return path


def test_looking_at_a_model_sends_no_request(far_clone: Path, proxy: Proxy) -> None:
    with StockRoom(far_clone) as stock:
        state = stock.model["net"]
        assert len(list(state.leaves())) == len(state.paths())
        assert state["epoch"] == 3
        assert list(state["model"])
        assert state.nbytes
    assert proxy.requests == []


def test_a_layer_takes_a_request_for_each_of_its_tensors_at_most(far_clone: Path, proxy: Proxy) -> None:
    with StockRoom(far_clone) as stock:
        stock.model["net"]["model"].load(names="layers.7.*")
    assert proxy.count("GET .*/packs/") <= 2
    assert sum_ranges(proxy) <= 1.2 * LAYER_NBYTES


def test_a_module_that_takes_a_model_in_leaf_by_leaf_sends_few_requests(far_clone: Path, proxy: Proxy) -> None:
    net = Net(seed=1)
    with StockRoom(far_clone) as stock:
        assert str(net.load_state_dict(stock.model["net"]["model"])) == "<All keys matched successfully>"
        assert_same(net.state_dict(), make_run()["model"])
    assert proxy.count("GET .*/packs/") <= 12  # of 50 tensors, read ahead of once they are seen to come in order
    assert sum_ranges(proxy) <= 1.05 * measure_nbytes(net.state_dict())


def test_a_whole_model_takes_few_requests(far_clone: Path, proxy: Proxy) -> None:
    with StockRoom(far_clone) as stock:
        assert_same(stock.model["net"].load(), make_run())
        before = len(proxy.requests)
        assert before <= 8
        assert_same(stock.model["net"].load(), make_run())
        assert len(proxy.requests) == before
        assert stock.model["net"].present() == 1.0


def sum_ranges(proxy: Proxy) -> int:
    spans = [span.removeprefix("bytes=").split("-") for _, path, span in proxy.requests if "/packs/" in path and span]
    return sum(int(stop) - int(start) + 1 for start, stop in spans)


def test_a_lazy_state_refuses_to_be_pickled(clone: StockRoom) -> None:
    with pytest.raises(TypeError, match=r"call `.load\(\)` first"):
        pickle.dumps(clone.model["net"])

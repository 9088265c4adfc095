"""Models: saving and loading them whole, in part and again, beside safetensors files of the same tensors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import torch
from blake3 import blake3
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from materials import Materials
from row import BYTES, SECONDS, Row, compare_rates
from stockroom import StockRoom
from storage import measure_content, measure_disk
from writing import FreshRepository

Weights: TypeAlias = dict[str, torch.Tensor]

TENSORS = 320
EPOCHS = 10
FROZEN = 0.9
ROUNDS = 5
READS = 200
PAGE_NBYTES = 4096


def first_save(materials: Materials) -> Iterator[Row]:
    """400 MB in 320 tensors, half fp32 and half bf16, into a fresh repository, beside `save_file` and fsync."""
    weights = _make_weights(materials)
    with FreshRepository(materials.folder) as fresh:
        pair = materials.stopwatch.compare(
            lambda _: _save_file(fresh.folder / "weights.safetensors", weights),
            lambda _: _save_model(fresh.stock, weights),
            rounds=ROUNDS,
            after=fresh.renew,
        )
        _save_model(fresh.stock, weights)
        _check(fresh.stock, weights)
    yield compare_rates(f"first save of {_describe(weights)}", pair, at_least_ratio=0.6)


def save_again(materials: Materials) -> Iterator[Row]:
    """The same saved again with 1 of 320 tensors changed, beside safetensors saving all; and beside hashing all."""
    weights = _make_weights(materials)
    changed = weights[_name(TENSORS // 2)]
    grown: list[int] = []
    with FreshRepository(materials.folder) as fresh:
        _save_model(fresh.stock, weights)

        def save(_: int) -> None:
            _save_model(fresh.stock, weights)

        def prepare(result: object) -> None:
            if result is None:
                grown.append(measure_content(fresh.folder))
                changed.add_(1.0)

        changed.add_(1.0)
        grown.append(measure_content(fresh.folder))
        pair = materials.stopwatch.compare(
            lambda _: _save_file(materials.folder / "again.safetensors", weights), save, rounds=ROUNDS, after=prepare
        )
        beside_hashing = materials.stopwatch.compare(lambda _: _hash(weights), save, rounds=ROUNDS, after=prepare)
        _save_model(fresh.stock, weights)
        _check(fresh.stock, weights)
    nbytes = changed.nbytes
    most = max(after - before for before, after in itertools.pairwise(grown))
    yield compare_rates(f"save again, 1 of {TENSORS} changed", pair, at_least_ratio=10)
    hashing_s, saving_s = beside_hashing.limit.median_s, beside_hashing.product.median_s
    yield Row("the same, beside hashing all of it", SECONDS, saving_s, limit=hashing_s, rounds=ROUNDS)
    yield Row(f"... new bytes for {nbytes / 2**20:.3g} MiB changed", BYTES, most, at_most=1.05 * nbytes + (64 << 10))


def load_whole(materials: Materials) -> Iterator[Row]:
    """All tensors loaded and every page of them touched, beside `load_file`."""
    weights = _make_weights(materials)
    path, stock = _save_both(materials, weights, "whole")
    with stock:
        pair = materials.stopwatch.compare(
            lambda _: _touch(load_file(path)), lambda _: _touch(stock.model["weights"].load()), rounds=2 * ROUNDS
        )
        _check(stock, weights)
    yield compare_rates(f"load {_describe(weights)}, touched once", pair, at_least_ratio=0.8)


def load_one_tensor(materials: Materials) -> Iterator[Row]:
    """One tensor by name, touched once, beside `safe_open(...).get_tensor`: both open, and both opened each time."""
    weights = _make_weights(materials)
    path, stock = _save_both(materials, weights, "one")
    names = [_name(int(n)) for n in materials.random.integers(0, TENSORS, READS)]
    with stock, safe_open(path, "pt") as file:
        state = stock.model["weights"]
        pair = materials.stopwatch.compare(
            lambda n: _touch({"": file.get_tensor(names[n % READS])}),
            lambda n: _touch({"": state[names[n % READS]]}),
            rounds=READS,
        )
        opened = materials.stopwatch.compare(
            lambda n: _open_one(path, names[n % READS]),
            lambda n: _touch({"": stock.model["weights"][names[n % READS]]}),
            rounds=READS,
        )
        assert all(torch.equal(state[name], weights[name]) for name in names)
    nbytes = weights[_name(0)].nbytes
    yield compare_rates(f"load one of {TENSORS} tensors by name ({nbytes / 2**20:.3g} MiB)", pair, at_least_ratio=0.3)
    yield compare_rates("... taking the model from the shelf, or opening the file, first", opened, at_least_ratio=0.3)


def frozen_backbone(materials: Materials) -> Iterator[Row]:
    """Disk of 10 epochs of a fine-tune with 90 % of the weights frozen, beside 10 safetensors files."""
    weights = _make_weights(materials)
    trained = [weights[_name(number)] for number in range(int(TENSORS * FROZEN), TENSORS)]
    limit = 0
    with FreshRepository(materials.folder) as fresh:
        for epoch in range(EPOCHS):
            for tensor in trained:
                tensor.add_(torch.randn_like(tensor), alpha=0.01)
            path = materials.folder / "epoch.safetensors"
            _save_file(path, weights)
            limit += path.stat().st_blocks * 512
            _save_model(fresh.stock, weights, f"Epoch {epoch}")
        assert len(list(fresh.stock.log())) == EPOCHS
        _check(fresh.stock, weights)
        product = measure_disk(fresh.folder)
    yield Row(f"disk of {EPOCHS} epochs, {FROZEN:.0%} frozen", BYTES, product, limit=limit, at_most=0.2 * limit)


def _make_weights(materials: Materials) -> Weights:
    """About 400 MB: every other tensor float32, the others bfloat16, of twice as many elements."""
    generator = torch.Generator().manual_seed(20_260_701)
    rows = materials.sizes.model_rows
    return {
        _name(number): torch.randn(rows * (1 + number % 2), 512, generator=generator).to(
            torch.bfloat16 if number % 2 else torch.float32
        )
        for number in range(TENSORS)
    }


def _name(number: int) -> str:
    return f"encoder.layer.{number // 16}.part{number % 16}.weight"


def _describe(weights: Weights) -> str:
    return f"{sum(tensor.nbytes for tensor in weights.values()) / 1e6:.0f} MB in {len(weights)} tensors"


def _save_both(materials: Materials, weights: Weights, name: str) -> tuple[Path, StockRoom]:
    path = materials.folder / f"{name}.safetensors"
    _save_file(path, weights)
    stock = StockRoom.init(materials.folder / f"model-{name}", name="Bench", email="bench@example.org")
    _save_model(stock, weights)
    return path, stock


def _save_file(path: Path, weights: Weights) -> str:
    save_file(weights, path)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return "saved"


def _hash(weights: Weights) -> list[bytes]:
    """A digest of each tensor, by all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda each: blake3(each.view(torch.uint8).numpy()).digest(), weights.values()))


def _save_model(stock: StockRoom, weights: Weights, message: str = "Save the weights") -> None:
    with stock.enable_write(message):
        stock.model["weights"] = weights


def _open_one(path: Path, name: str) -> int:
    with safe_open(path, "pt") as file:
        return _touch({"": file.get_tensor(name)})


def _touch(weights: Weights) -> int:
    """Read a byte of every page."""
    return sum(int(tensor.view(-1).view(torch.uint8)[::PAGE_NBYTES].max()) for tensor in weights.values())


def _check(stock: StockRoom, weights: Weights) -> None:
    loaded = stock.model["weights"].load()
    assert list(loaded) == list(weights)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())

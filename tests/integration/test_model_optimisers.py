"""Training that was saved and that new objects go on with is the training that was never interrupted, bit for bit.

Every state is read both ways: lazily, handed to `load_state_dict` as it is, and whole, by `.load()`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit.packs import measure_packs
from tests.kit.states import assert_same, assert_tied_as
from torch import nn
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stockroom import StockRoom

STEPS = 7

MakeOptimiser = Callable[[nn.Module], torch.optim.Optimizer]


def make_model() -> nn.Module:
    """A small net with a normalisation, whose running statistics and counter are no parameters, and a tied weight."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 16))
    model[4].weight = model[3].weight
    return model


def split_parameters(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups with options of their own."""
    first, rest = list(model[0].parameters()), [*model[3].parameters(), model[4].bias]
    return [{"params": first, "lr": 0.02}, {"params": rest, "weight_decay": 0.0}]


OPTIMISERS: dict[str, MakeOptimiser] = {
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "AdamW, amsgrad, two groups": lambda model: torch.optim.AdamW(split_parameters(model), lr=0.01, amsgrad=True),
    "Adam, rate as a tensor": lambda model: torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01), foreach=False),
    "SGD, momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True),
    "SGD, plain": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    "RMSprop, centred": lambda model: torch.optim.RMSprop(model.parameters(), lr=0.01, centered=True, momentum=0.1),
    "Adagrad": lambda model: torch.optim.Adagrad(model.parameters(), lr=0.01),
    "NAdam": lambda model: torch.optim.NAdam(model.parameters(), lr=0.01),
    "Adafactor": lambda model: torch.optim.Adafactor(model.parameters(), lr=0.01),
    "Rprop": lambda model: torch.optim.Rprop(model.parameters(), lr=0.01),
    "LBFGS": lambda model: torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, history_size=3),
    "LBFGS, line search": lambda model: torch.optim.LBFGS(
        model.parameters(), max_iter=4, line_search_fn="strong_wolfe"
    ),
}

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "StepLR": lambda optimiser: schedules.StepLR(optimiser, step_size=3),
    "MultiStepLR": lambda optimiser: schedules.MultiStepLR(optimiser, [2, 5, 9], gamma=0.3),
    "OneCycleLR": lambda optimiser: schedules.OneCycleLR(optimiser, max_lr=0.1, total_steps=40),
    "CyclicLR": lambda optimiser: schedules.CyclicLR(optimiser, 0.001, 0.1, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda optimiser: schedules.CosineAnnealingWarmRestarts(optimiser, T_0=3, T_mult=2),
    "LambdaLR": lambda optimiser: schedules.LambdaLR(optimiser, lambda epoch: 1 / (1 + epoch)),
    "LambdaLR, an object": lambda optimiser: schedules.LambdaLR(optimiser, Decay(0.9)),
    "ReduceLROnPlateau": lambda optimiser: schedules.ReduceLROnPlateau(optimiser, patience=1, factor=0.5),
    "SequentialLR": lambda optimiser: schedules.SequentialLR(
        optimiser,
        [schedules.ConstantLR(optimiser, total_iters=2), schedules.ExponentialLR(optimiser, gamma=0.9)],
        milestones=[4],
    ),
    "ChainedScheduler": lambda optimiser: schedules.ChainedScheduler(
        [schedules.ConstantLR(optimiser, total_iters=4), schedules.ExponentialLR(optimiser, gamma=0.9)], optimiser
    ),
}


class Decay:
    """A schedule with a state of its own, which LambdaLR keeps as the object's attributes."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, epoch: int) -> float:
        return self.factor**epoch


@dataclass
class Training:
    """All that a training run has, and how it goes on."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Any = None
    average: AveragedModel | None = None
    scaler: torch.amp.GradScaler | None = None
    step: int = 0

    def run(self, steps: int = STEPS) -> list[float]:
        """Train on data that follow from the number of the step; the losses."""
        losses = []
        for self.step in range(self.step + 1, self.step + 1 + steps):  # noqa: B020
            generator = torch.Generator().manual_seed(self.step)
            batch = torch.randn(8, 12, generator=generator)

            def closure(batch: torch.Tensor = batch) -> torch.Tensor:
                self.optimiser.zero_grad()
                loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                return loss

            loss = self._take_step(closure)
            losses.append(float(loss.detach()))
            if self.average is not None:
                self.average.update_parameters(self.model)
            if isinstance(self.schedule, schedules.ReduceLROnPlateau):
                self.schedule.step(1 / (1 + self.step // 3))
            elif self.schedule is not None:
                self.schedule.step()
        return losses

    def _take_step(self, closure: Callable[[], torch.Tensor]) -> torch.Tensor:
        if self.scaler is None:
            loss = self.optimiser.step(closure)
            assert loss is not None
            return torch.as_tensor(loss)
        loss = closure()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss

    def parts(self) -> dict[str, Any]:
        named = {
            "model": self.model,
            "optimizer": self.optimiser,
            "scheduler": self.schedule,
            "average": self.average,
            "scaler": self.scaler,
        }
        return {name: part for name, part in named.items() if part is not None}

    def state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts().items()} | {"step": self.step}

    def load(self, saved: Any, *, lazily: bool) -> None:
        """Take a saved state in, each part as it is handed out or whole."""
        self.step = saved["step"]
        for name, part in self.parts().items():
            state = saved[name]
            is_lazy = lazily and name in ("model", "optimizer", "average")
            part.load_state_dict(state if is_lazy else state.load())


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    StockRoom.init(tmp_path / "repo").close()
    yield tmp_path / "repo"
    with StockRoom(tmp_path / "repo") as stock:
        assert stock.verify().damage == []


def check_resumed(path: Path, make: Callable[[], Training]) -> Training:
    """Train, save, go on; then let new objects go on from what was saved. All ends the same, bit for bit."""
    uninterrupted = make()
    uninterrupted.run()
    before = copy.deepcopy(uninterrupted.state())
    with StockRoom(path) as stock, stock.enable_write():
        stock.model["run"] = uninterrupted.state()
    with StockRoom(path) as stock:
        assert_same(stock.model["run"].load(), before)
    losses = uninterrupted.run()
    assert all(map(math.isfinite, losses))
    for lazily in (True, False):
        resumed = make()
        with StockRoom(path) as stock:
            resumed.load(stock.model["run"], lazily=lazily)
        assert_same(resumed.state(), before)
        assert resumed.run() == losses
        assert_same(resumed.state(), uninterrupted.state())
        assert_tied_as(resumed.model.state_dict(), uninterrupted.model.state_dict())
    with StockRoom(path) as stock:
        assert_same(stock.model["run"].load(), before)  # whatever was trained since
    return uninterrupted


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_goes_on_as_if_it_had_never_stopped(path: Path, name: str) -> None:
    def make() -> Training:
        model = make_model()
        return Training(model, OPTIMISERS[name](model))

    trained = check_resumed(path, make)
    if trained.optimiser.state_dict()["state"]:
        with StockRoom(path) as stock:
            state = stock.model["run"]["optimizer"]["state"]
            assert list(state) == list(trained.optimiser.state_dict()["state"])
            assert all(type(key) is int for key in state)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_as_if_it_had_never_stopped(path: Path, name: str) -> None:
    def make() -> Training:
        model = make_model()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
        return Training(model, optimiser, schedule=SCHEDULES[name](optimiser))

    check_resumed(path, make)


def test_an_average_of_the_weights_goes_on(path: Path) -> None:
    def make() -> Training:
        model = make_model()
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        return Training(model, torch.optim.Adam(model.parameters(), lr=0.01), average=average)

    trained = check_resumed(path, make)
    assert trained.average is not None
    assert int(trained.average.n_averaged) == 2 * STEPS


@pytest.mark.parametrize("enabled", [True, False])
def test_a_scaler_of_gradients_goes_on(path: Path, enabled: bool) -> None:
    def make() -> Training:
        model = make_model()
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3, enabled=enabled)
        return Training(model, torch.optim.SGD(model.parameters(), lr=0.01), scaler=scaler)

    trained = check_resumed(path, make)
    assert trained.scaler is not None
    assert bool(trained.scaler.state_dict()) == enabled
    assert trained.scaler.get_scale() == (256.0 * 2**4 if enabled else 1.0)  # grown every third of 14 steps


def test_states_of_random_generators_go_on(path: Path) -> None:
    torch.manual_seed(5)
    generator, numpy_generator = torch.Generator().manual_seed(3), np.random.default_rng(3)
    torch.rand(3, generator=generator)
    with StockRoom(path) as stock, stock.enable_write():
        stock.model["rng"] = {
            "torch": torch.get_rng_state(),
            "generator": generator.get_state(),
            "numpy": numpy_generator.bit_generator.state,
        }
    expected = torch.rand(3), torch.rand(3, generator=generator), numpy_generator.random(3)
    with StockRoom(path) as stock:
        saved = stock.model["rng"].load()
    torch.set_rng_state(saved["torch"])
    resumed, resumed_numpy = torch.Generator(), np.random.default_rng()
    resumed.set_state(saved["generator"])
    resumed_numpy.bit_generator.state = saved["numpy"]
    assert_same([torch.rand(3), torch.rand(3, generator=resumed), resumed_numpy.random(3)], list(expected))


def test_a_module_takes_a_lazy_state_in_whatever_its_versions_say(path: Path) -> None:
    model = make_model()
    with StockRoom(path) as stock:
        with stock.enable_write():
            stock.model["m"] = model.state_dict()
        lazy = stock.model["m"]
        assert lazy._metadata == model.state_dict()._metadata  # BatchNorm's version decides what may be missing
        other = make_model()
        nn.init.zeros_(other[0].weight)
        assert str(other.load_state_dict(lazy)) == "<All keys matched successfully>"
        assert_same(other.state_dict(), model.state_dict())
        assert other.load_state_dict(lazy, assign=True).missing_keys == []
        other.requires_grad_(False)[0].weight.add_(1)
        assert_same(lazy.load(), model.state_dict())
        with pytest.raises(RuntimeError, match="size mismatch"):
            nn.Sequential(nn.Linear(12, 3)).load_state_dict(lazy, strict=False)


# -- what saving costs


def count_chunks(stock: StockRoom, name: str) -> set[bytes]:
    return {digest.tobytes() for digest in stock.model[name].list_chunks()}


def test_a_frozen_backbone_costs_nothing(path: Path) -> None:
    torch.manual_seed(0)
    backbone, head = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 1000)), nn.Linear(1000, 10)
    model = nn.Sequential(backbone.requires_grad_(False), head)
    optimiser = torch.optim.Adam(head.parameters())
    head_nbytes = sum(parameter.nbytes for parameter in head.parameters())
    sizes, chunks = [], []
    with StockRoom(path) as stock:
        for _ in range(4):
            loss = model(torch.randn(4, 1000)).square().mean()
            loss.backward()
            optimiser.step()
            with stock.enable_write():
                stock.model["run"] = {"model": model.state_dict(), "optimizer": optimiser.state_dict()}
            sizes.append(measure_packs(path, "c.*"))
            chunks.append(count_chunks(stock, "run"))
        assert stock.model["run"].nbytes > 8_000_000
    assert sizes[0] >= 8_000_000
    for before, after in itertools.pairwise(sizes):
        assert 0 < after - before <= 1.05 * 3 * head_nbytes + (64 << 10)  # the head's weights, and Adam's two means
    for before, after in itertools.pairwise(chunks):
        assert len(after - before) == 6  # weight and bias of the head, and two means of each


def test_one_row_that_changed_stores_one_chunk(path: Path) -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(40_000, 256, sparse=True)  # 40 MB: ten chunks
    with StockRoom(path) as stock:
        with stock.enable_write():
            stock.model["m"] = embedding.state_dict()
        before, size = count_chunks(stock, "m"), measure_packs(path, "c.*")
        assert len(before) == 10
        for row in (7, 4095, 39_999):
            optimiser = torch.optim.SparseAdam(embedding.parameters(), lr=0.1)
            embedding(torch.tensor([row])).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
            with stock.enable_write():
                stock.model["m"] = embedding.state_dict()
            after, grown = count_chunks(stock, "m"), measure_packs(path, "c.*")
            assert len(after - before) == len(before - after) == 1
            assert grown - size <= 1.05 * (4 << 20) + (64 << 10)
            before, size = after, grown
        assert_same(stock.model["m"].load(), embedding.state_dict())


def test_the_same_weights_under_other_names_cost_nothing(path: Path) -> None:
    model = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 1000))
    with StockRoom(path) as stock:
        with stock.enable_write():
            stock.model["a"] = model.state_dict()
        size = measure_packs(path, "c.*")
        with stock.enable_write():
            stock.model["b"] = {"wrapped": {f"module.{name}": value for name, value in model.state_dict().items()}}
            stock.model["c"] = [value.clone() for value in model.state_dict().values()]
            stock.model["d"] = {name: value.numpy().copy() for name, value in model.state_dict().items()}
            stock.data["weight"] = model[0].weight.detach().numpy()[None]
        assert measure_packs(path, "c.*") == size
        assert (
            count_chunks(stock, "a") == count_chunks(stock, "b") == count_chunks(stock, "c") == count_chunks(stock, "d")
        )
        assert_same(stock.model["d"].load(), {name: value.numpy() for name, value in model.state_dict().items()} | {})

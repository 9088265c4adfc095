"""Models between machines: what is brought, what is given up again, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stockroom import InvalidInputError, LeafNotFoundError, StockRoom

LAYERS = 8
LAYER_NBYTES = 1 << 20


def make_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {f"layer.{i}.weight": random.random(LAYER_NBYTES // 8) for i in range(LAYERS)}


@pytest.fixture
def clone(tmp_path: Path) -> StockRoom:
    """A clone of metadata of a repository with one model of 8 MiB, an artifact of 1 MiB and a column."""
    with StockRoom.init(tmp_path / "origin", "Ada", "ada@example.org") as origin:
        with origin.enable_write("Save"):
            origin.model["net"] = make_weights()
            origin.experiment.artifact("report.bin", np.random.default_rng(8).bytes(LAYER_NBYTES))
            origin.data["image"] = np.random.default_rng(9).integers(0, 255, (100, 3000), dtype=np.uint8)
        origin.add_remote("origin", str(tmp_path / "remote"))
        origin.push()
    return StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", metadata_only=True)


def test_prefetching_some_leaves_of_a_model_brings_them_and_little_else(clone: StockRoom) -> None:
    with clone:
        report = clone.prefetch("model/net", ["layer.2.*", "layer.5.weight"])
        assert (report.samples, report.nbytes) == (2, 2 * LAYER_NBYTES)
        assert clone.measure_presence().present_nbytes < 3 * LAYER_NBYTES
        assert 0.2 < clone.model["net"].present() < 0.3
    with StockRoom(clone.path, lazy=False) as offline:
        loaded = offline.model["net"].load(names=["layer.5.weight"])
        assert np.array_equal(loaded["layer.5.weight"], make_weights()["layer.5.weight"])


def test_prefetching_everything_brings_models_artifacts_and_columns(clone: StockRoom) -> None:
    with clone:
        assert clone.prefetch(dry_run=True).nbytes > (LAYERS + 1) * LAYER_NBYTES
        clone.prefetch()
        presence = clone.measure_presence()
        assert presence.present_nbytes == presence.nbytes


def test_a_model_that_is_dropped_comes_again_when_it_is_read(clone: StockRoom) -> None:
    with clone:
        clone.prefetch("model/net")
        assert clone.drop("model/net").nbytes >= LAYERS * LAYER_NBYTES
        assert clone.model["net"].present() == 0
        assert np.array_equal(clone.model["net"]["layer.0.weight"], make_weights()["layer.0.weight"])


def test_an_artifact_is_prefetched_by_its_path(clone: StockRoom) -> None:
    with clone:
        assert clone.prefetch("artifact/report.bin").nbytes == LAYER_NBYTES
        assert len(clone.experiment.artifacts["report.bin"].read()) == LAYER_NBYTES


def test_a_choice_within_a_model_that_makes_no_sense_is_refused(clone: StockRoom) -> None:
    with clone:
        with pytest.raises(LeafNotFoundError, match=r"layer\.0\.weight"):
            clone.prefetch("model/net", ["layer.0.wight"])
        with pytest.raises(InvalidInputError, match="names"):
            clone.prefetch("model/net", where="label == 3")
        with pytest.raises(InvalidInputError, match="artifact"):
            clone.prefetch("artifact/report.bin", ["a"])

"""Work at sizes that other benchmarks do not have: very many packs, commits, columns, values, and 10^8 samples.

All times are CPU seconds. `python benchmarks/run.py --scale` runs these; each takes minutes and some GB of disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import scale_commits
import scale_history
import scale_index
import scale_packs
import scale_wide
from materials import QUICK, Materials
from row import BYTES, COUNT, SECONDS, Row

MAX_GROWTH: Final = 12
"""How much longer a repack of ten times the packs may take."""


@dataclass(frozen=True, slots=True)
class ScaleSizes:
    """The counts that each benchmark of scale uses."""

    packs: int
    very_many_packs: int
    checked_packs: int
    commits: int
    repacked: tuple[int, int]
    indexed: Sequence[int]
    pushed_labels: Sequence[int]
    samples: Sequence[int]


FULL_SCALE: Final = ScaleSizes(
    packs=1600,
    very_many_packs=10_000,
    checked_packs=1300,
    commits=10_000,
    repacked=(1000, 10_000),
    indexed=(scale_index.SMALL, scale_index.LARGE),
    pushed_labels=scale_history.LABELS,
    samples=(scale_history.SMALL, scale_history.LARGE),
)
QUICK_SCALE: Final = ScaleSizes(
    packs=160,
    very_many_packs=300,
    checked_packs=130,
    commits=200,
    repacked=(30, 300),
    indexed=(100_000, 1_000_000),
    pushed_labels=(50_000, 200_000),
    samples=(20_000, 200_000),
)


def many_packs(materials: Materials) -> Iterator[Row]:
    """Batches, a first batch and fsck of columns of very many packs, and encoded samples read one by one."""
    sizes = _choose(materials)
    folder = _make_folder(materials, "many-packs")
    yield from scale_packs.scale_packs(
        folder, packs=sizes.packs, very_many=sizes.very_many_packs, checked=sizes.checked_packs
    )
    shutil.rmtree(folder)


def many_commits(materials: Materials) -> Iterator[Row]:
    """10,000 commits of one image and one label, by one process and by two sessions side by side."""
    folder, count = _make_folder(materials, "many-commits"), _choose(materials).commits
    for name, commit in (
        ("one process", scale_commits.commit_one_by_one),
        ("two sessions", scale_commits.commit_side_by_side),
    ):
        path = folder / name.replace(" ", "-")
        yield from _describe(f"{count:,} commits of one sample, {name}", path, count, commit(path, count))
    packs, cpu_s = scale_commits.push_all(folder / "one-process", folder / "remote")
    yield Row(f"push of {count:,} commits: packs on the remote", COUNT, packs, at_most=100)
    yield Row(f"push of {count:,} commits: cpu", SECONDS, cpu_s)
    shutil.rmtree(folder)


def _describe(work: str, path: Path, count: int, commit_s: float) -> Iterator[Row]:
    cost = scale_commits.measure_commits(path, count, commit_s)
    yield Row(f"{work}: cpu of one", SECONDS, cost.commit_s)
    yield Row(f"{work}: files", COUNT, cost.files, at_most=300)
    yield Row(f"{work}: disk of packs beside the samples' bytes", COUNT, cost.packs_nbytes, at_most=1.6)
    yield Row(f"{work}: disk of metadata for each commit", BYTES, cost.metadata_nbytes / count)
    yield Row(f"{work}: cpu of the first batch", SECONDS, cost.batch_s, at_most=0.1)
    yield Row(f"{work}: cpu of gc", SECONDS, cost.gc_s, at_most=3)
    yield Row(f"{work}: cpu of fsck", SECONDS, cost.fsck_s, at_most=10)


def repack_of_many(materials: Materials) -> Iterator[Row]:
    """A repack of 1,000 and of 10,000 packs of one sample."""
    folder = _make_folder(materials, "repacked")
    few, many = _choose(materials).repacked
    first_s = scale_commits.repack_small_packs(folder / "few", few)
    yield Row(f"repack of {few:,} packs: cpu", SECONDS, first_s)
    cpu_s = scale_commits.repack_small_packs(folder / "many", many)
    yield Row(f"repack of {many:,} packs: cpu", SECONDS, cpu_s, limit=first_s, at_most=min(15, MAX_GROWTH * first_s))
    shutil.rmtree(folder)


def wide(materials: Materials) -> Iterator[Row]:
    """4,000 columns of one CSV file, 10,000 values, 200 models of 300 tensors: a statement each, in one block."""
    folder = _make_folder(materials, "wide")
    yield from scale_wide.scale_wide(folder)
    shutil.rmtree(folder)


def push_of_changed_labels(materials: Materials) -> Iterator[Row]:
    """A push after all labels of a column have changed, of 1,000,000 and of 4,000,000."""
    folder = _make_folder(materials, "pushed")
    yield from scale_history.scale_push(folder, sizes=_choose(materials).pushed_labels)
    shutil.rmtree(folder)


def index_of_many_chunks(materials: Materials) -> Iterator[Row]:
    """Memory and time of the location index of 2,000,000 and of 10^8 chunks."""
    folder = _make_folder(materials, "index")
    yield from scale_index.scale_index(folder, sizes=_choose(materials).indexed)
    shutil.rmtree(folder)


def work_in_many_samples(materials: Materials) -> Iterator[Row]:
    """Commit, checkout, opening, diff and merge in 2,000,000 and in 10^8 samples."""
    folder = _make_folder(materials, "samples")
    yield from scale_history.scale_history(folder, sizes=_choose(materials).samples)
    shutil.rmtree(folder)


def _choose(materials: Materials) -> ScaleSizes:
    return QUICK_SCALE if materials.sizes is QUICK else FULL_SCALE


def _make_folder(materials: Materials, name: str) -> Path:
    folder = materials.folder / name
    folder.mkdir()
    return folder

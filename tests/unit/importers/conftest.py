"""Real images written in CIFAR's file formats, as their authors' archives lay them out."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

FINE_NAMES = [f"fine {number}" for number in range(100)]
COARSE_NAMES = [f"coarse_{number}" for number in range(20)]


@dataclass(frozen=True)
class Cifar:
    """Samples of one split: images (n, 3, 32, 32) uint8, labels (n,), coarse labels (n,)."""

    images: np.ndarray
    labels: np.ndarray
    coarse: np.ndarray

    def records(self, start: int, stop: int, *, coarse: bool) -> bytes:
        heads = [self.coarse, self.labels] if coarse else [self.labels]
        columns = [head[start:stop, None].astype(np.uint8) for head in heads]
        return np.hstack([*columns, self.images[start:stop].reshape(stop - start, -1)]).tobytes()


@pytest.fixture(scope="session")
def cifar(fashion_images: np.ndarray, fashion_labels: np.ndarray) -> dict[str, Cifar]:
    """60 training and 12 test samples: real images padded to 32 x 32, a plane each for light, shadow, edges."""
    padded = np.pad(fashion_images[:72], ((0, 0), (2, 2), (2, 2)))
    planes = np.stack([padded, 255 - padded, np.roll(padded, 1, axis=2)], axis=1)
    labels = fashion_labels[:72].astype(np.int64)
    return {
        "train": Cifar(planes[:60], labels[:60], labels[:60] % 3),
        "test": Cifar(planes[60:], labels[60:], labels[60:] % 3),
    }


def write_python2_like(path: Path, members: dict[str, object]) -> None:
    """As Python 2 wrote them: protocol 2, keys and names as bytes."""
    encoded = {key.encode(): value for key, value in members.items()}
    path.write_bytes(pickle.dumps(encoded, 2))


def write_python3(path: Path, members: dict[str, object]) -> None:
    path.write_bytes(pickle.dumps(members))


@pytest.fixture
def cifar10_python(tmp_path: Path, cifar: dict[str, Cifar]) -> Path:
    """A root with CIFAR-10's python files below it as Python 2 wrote them, 12 samples a batch."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    splits = {f"data_batch_{n + 1}": ("train", n * 12) for n in range(5)} | {"test_batch": ("test", 0)}
    for name, (split, start) in splits.items():
        rows = slice(start, start + 12)
        images = cifar[split].images[rows].reshape(12, -1)
        members = {"batch_label": b"a batch", "labels": cifar[split].labels[rows].tolist(), "data": images}
        write_python2_like(folder / name, members)
    write_python2_like(folder / "batches.meta", {"label_names": [f"name {n}" for n in range(10)], "num_vis": 3072})
    return tmp_path


@pytest.fixture
def cifar10_binary(tmp_path: Path, cifar: dict[str, Cifar]) -> Path:
    """A root with CIFAR-10's binary files below it."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for n in range(5):
        records = cifar["train"].records(n * 12, n * 12 + 12, coarse=False)
        (folder / f"data_batch_{n + 1}.bin").write_bytes(records)
    (folder / "test_batch.bin").write_bytes(cifar["test"].records(0, 12, coarse=False))
    return tmp_path


@pytest.fixture
def cifar100_python(tmp_path: Path, cifar: dict[str, Cifar]) -> Path:
    """A root with CIFAR-100's python files below it as Python 3 writes them."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for split, samples in cifar.items():
        members = {
            "filenames": [b"a.png"] * len(samples.images),
            "data": samples.images.reshape(len(samples.images), -1),
            "fine_labels": samples.labels.tolist(),
            "coarse_labels": samples.coarse.tolist(),
        }
        write_python3(folder / split, members)
    write_python3(folder / "meta", {"fine_label_names": FINE_NAMES, "coarse_label_names": COARSE_NAMES})
    return tmp_path


@pytest.fixture
def cifar100_binary(tmp_path: Path, cifar: dict[str, Cifar]) -> Path:
    """A root with CIFAR-100's binary files and class names below it."""
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for split, samples in cifar.items():
        (folder / f"{split}.bin").write_bytes(samples.records(0, len(samples.images), coarse=True))
    (folder / "fine_label_names.txt").write_text("\n".join(FINE_NAMES) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE_NAMES) + "\n")
    return tmp_path

"""The files of each of torchvision's data sets, and where they are.

Owns the names of files and folders, torchvision's and those that archives unpack to. Reads no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from stockroom.errors import InvalidInputError
from stockroom.importers.torchvision.cifar import CIFAR10, CIFAR100, CifarFormat


class FileKind(Enum):
    """How the files of a layout are read."""

    IDX = "idx"
    CIFAR_BINARY = "cifar binary"
    CIFAR_PYTHON = "cifar python"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way the data set comes as files, in `folder` below the root or in the root itself.

    `splits` maps train and test to their files: image file and label file for IDX, batches for CIFAR. `classes` maps a
    label to the file that names its classes, which may be missing.
    """

    kind: FileKind
    folder: str
    splits: Mapping[str, tuple[str, ...]]
    suffixes: tuple[str, ...] = ("",)
    classes: Mapping[str, str] | None = None

    def file_names(self) -> list[str]:
        """Return every file the layout needs, without suffix."""
        return [name for names in self.splits.values() for name in names]


@dataclass(frozen=True, slots=True)
class VisionSet:
    """A data set: its name, torchvision's class, and its layouts in order of preference.

    `labels` maps the name of a label column to the file format's key for it. `class_names` are those of the plain label
    if no file has them.
    """

    name: str
    torchvision_class: str
    layouts: tuple[Layout, ...]
    labels: Mapping[str, str]
    class_names: tuple[str, ...] = ()
    cifar: CifarFormat | None = None


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """A layout that is complete on disk: `splits` are its files, `classes` those that exist."""

    layout: Layout
    splits: Mapping[str, tuple[Path, ...]]
    classes: Mapping[str, Path]


_IDX_SPLITS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))


def _idx_set(name: str, torchvision_class: str, class_names: tuple[str, ...]) -> VisionSet:
    layout = Layout(FileKind.IDX, f"{torchvision_class}/raw", _IDX_SPLITS, suffixes=("", ".gz"))
    return VisionSet(name, torchvision_class, (layout,), {"label": "labels"}, class_names)


_MNIST_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_CIFAR10_PYTHON = Layout(
    FileKind.CIFAR_PYTHON,
    "cifar-10-batches-py",
    {"train": _CIFAR10_TRAIN, "test": ("test_batch",)},
    classes={"label": "batches.meta"},
)
_CIFAR10_BINARY = Layout(
    FileKind.CIFAR_BINARY,
    "cifar-10-batches-bin",
    {"train": tuple(f"{name}.bin" for name in _CIFAR10_TRAIN), "test": ("test_batch.bin",)},
    classes={"label": "batches.meta.txt"},
)
_CIFAR100_PYTHON = Layout(
    FileKind.CIFAR_PYTHON,
    "cifar-100-python",
    {"train": ("train",), "test": ("test",)},
    classes={"label": "meta", "coarse-label": "meta"},
)
_CIFAR100_BINARY = Layout(
    FileKind.CIFAR_BINARY,
    "cifar-100-binary",
    {"train": ("train.bin",), "test": ("test.bin",)},
    classes={"label": "fine_label_names.txt", "coarse-label": "coarse_label_names.txt"},
)

VISION_SETS: Mapping[str, VisionSet] = {
    known.name: known
    for known in (
        _idx_set("mnist", "MNIST", _MNIST_CLASSES),
        _idx_set("fashion_mnist", "FashionMNIST", _FASHION_CLASSES),
        VisionSet(
            "cifar10", "CIFAR10", (_CIFAR10_PYTHON, _CIFAR10_BINARY), {"label": "labels"}, _CIFAR10_CLASSES, CIFAR10
        ),
        VisionSet(
            "cifar100",
            "CIFAR100",
            (_CIFAR100_PYTHON, _CIFAR100_BINARY),
            {"label": "fine_labels", "coarse-label": "coarse_labels"},
            cifar=CIFAR100,
        ),
    )
}


def find_files(dataset: VisionSet, root: Path) -> FoundFiles | None:
    """Return the first layout of `dataset` that is complete under `root`, or None."""
    for layout, folder in _iter_candidates(dataset, root):
        paths = {name: _find_file(folder, name, layout.suffixes) for name in layout.file_names()}
        present = {name: path for name, path in paths.items() if path}
        if len(present) == len(paths):
            return FoundFiles(
                layout,
                {split: tuple(present[name] for name in names) for split, names in layout.splits.items()},
                {label: folder / name for label, name in (layout.classes or {}).items() if (folder / name).is_file()},
            )
    return None


def missing_files_error(dataset: VisionSet, root: Path) -> InvalidInputError:
    """Return the error for when `find_files` finds nothing. It lists the files looked for, and where."""
    missing = []
    for layout, folder in _iter_candidates(dataset, root):
        absent = [name for name in layout.file_names() if not _find_file(folder, name, layout.suffixes)]
        gz = " (or .gz)" if ".gz" in layout.suffixes else ""
        missing.append(f"{folder} lacks {', '.join(absent)}{gz}")
    return InvalidInputError(
        f"torchvision.{dataset.name}: expected its files in one folder: {'; '.join(missing)}. "
        "Name the folder with --root, or download them with --download"
    )


def _iter_candidates(dataset: VisionSet, root: Path) -> Iterator[tuple[Layout, Path]]:
    for layout in dataset.layouts:
        yield layout, root / layout.folder
        yield layout, root


def _find_file(folder: Path, name: str, suffixes: tuple[str, ...]) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for suffix in suffixes)
    return next((path for path in candidates if path.is_file()), None)

"""`stock import torchvision.<data set>`: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from their own files.

Any other data set goes to `torchvision.classes`. Owns the names of the columns, such as `cifar10-train-image`, and
their content. Our own readers read the files; torchvision only downloads them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.idx import IdxHeader, iter_idx, read_idx_header
from stockroom.importers.limits import Limits
from stockroom.importers.source import Batch, ColumnSource, Importer, ImportSpec, Source
from stockroom.importers.torchvision.cifar import (
    IMAGE_SHAPE,
    CifarFormat,
    count_cifar_binary,
    iter_cifar_binary,
    iter_cifar_python,
    read_cifar_classes,
)
from stockroom.importers.torchvision.classes import CLASSES, open_class
from stockroom.importers.torchvision.files import (
    VISION_SETS,
    FileKind,
    FoundFiles,
    VisionSet,
    find_files,
    missing_files_error,
)

_UINT8 = np.dtype(np.uint8)
_INT64 = np.dtype(np.int64)


class VisionImporter(Importer):
    """Reads torchvision's data sets from torchvision's own folders, or directly from `root`."""

    name = "torchvision"

    def sources(self) -> Sequence[str]:
        """Return `torchvision.mnist` and the other data sets."""
        return [f"{self.name}.{dataset}" for dataset in (*VISION_SETS, *CLASSES)]

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """Return image and label columns of both splits. Downloads missing files first if that is allowed."""
        if spec.paths:
            raise InvalidInputError(
                f"{spec.source}: expected the folder of its files as --root, found a path: {spec.paths[0]}"
            )
        name = spec.source.partition(".")[2]
        if name not in VISION_SETS:
            return open_class(name, spec)
        dataset = VISION_SETS[name]
        root = spec.root or Path()
        found = find_files(dataset, root)
        if found is None and spec.download:
            _download(dataset, root)
            found = find_files(dataset, root)
        if found is None:
            raise missing_files_error(dataset, root)
        columns = _describe_columns(dataset, found, spec.limits)
        return [each for each in columns if spec.split is None or each.name.startswith(f"{name}-{spec.split}-")]


def _download(dataset: VisionSet, root: Path) -> None:
    """Have torchvision download the files to `root`."""
    try:
        datasets = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise InvalidInputError(
            f"--download needs torchvision, which cannot be imported ({error}); install "
            f"'stockroom-vcs[torch]' and the torchvision that matches your torch, or put "
            f"{', '.join(dataset.layouts[0].file_names())} into {root / dataset.layouts[0].folder} yourself"
        ) from error
    for train in (True, False):
        try:
            getattr(datasets, dataset.torchvision_class)(str(root), train=train, download=True)
        except Exception as error:  # third-party code
            raise InvalidInputError(
                f"torchvision.{dataset.name}: the download into {root} failed: {error}; try again"
            ) from error


def _describe_columns(dataset: VisionSet, found: FoundFiles, limits: Limits) -> list[ColumnSource]:
    classes = _read_classes(dataset, found, limits)
    columns: list[ColumnSource] = []
    for split, paths in found.splits.items():
        prefix = f"{dataset.name}-{split}"
        if dataset.cifar is None:
            columns += _describe_idx_split(prefix, paths, classes=classes)
        else:
            layout = dataset.cifar if found.layout.kind is FileKind.CIFAR_BINARY else None
            columns += _describe_cifar_split(
                prefix, paths, layout, labels=dataset.labels, classes=classes, limits=limits
            )
    return columns


def _describe_idx_split(
    prefix: str, paths: tuple[Path, ...], *, classes: Mapping[str, list[str]]
) -> Iterator[ColumnSource]:
    image_path, label_path = paths
    images = _read_header(image_path, axes=3)
    labels = _read_header(label_path, axes=1)
    count = images.shape[0]
    if labels.shape[0] != count:
        raise CorruptionError(
            f"{label_path}: expected a label for each of {count} images, found {labels.shape[0]}", where=str(label_path)
        )
    yield ColumnSource(f"{prefix}-image", _UINT8, images.shape[1:], count, partial(iter_idx, image_path))
    yield _label_column(f"{prefix}-label", count, partial(_iter_idx_labels, label_path), classes.get("label"))


def _read_header(path: Path, *, axes: int) -> IdxHeader:
    header = read_idx_header(path)
    if header.dtype != _UINT8 or len(header.shape) != axes:
        raise InvalidInputError(
            f"{path}: expected uint8 with {axes} axes, found {header.dtype.name} of shape {header.shape}"
        )
    return header


def _iter_idx_labels(path: Path) -> Iterator[Batch]:
    return (batch.astype(np.int64) for batch in iter_idx(path))


def _describe_cifar_split(
    prefix: str,
    paths: tuple[Path, ...],
    layout: CifarFormat | None,
    *,
    labels: Mapping[str, str],
    classes: Mapping[str, list[str]],
    limits: Limits,
) -> Iterator[ColumnSource]:
    """Yield the columns of a split's files: binary ones of `layout`, or python ones, whose count shows at the end."""

    def iter_field(field: str) -> Iterator[Batch]:
        for path in paths:
            if layout:
                yield from iter_cifar_binary(path, layout, field=field)
            else:
                yield from iter_cifar_python(path, field=field, limits=limits)

    count = sum(count_cifar_binary(path, layout) for path in paths) if layout else None
    yield ColumnSource(f"{prefix}-image", _UINT8, IMAGE_SHAPE, count, partial(iter_field, "data"))
    for label, key in labels.items():
        yield _label_column(f"{prefix}-{label}", count, partial(iter_field, key), classes.get(label))


def _label_column(
    name: str, count: int | None, batches: Callable[[], Iterator[Batch]], classes: list[str] | None
) -> ColumnSource:
    attrs = {"classes": classes} if classes else {}
    return ColumnSource(name, _INT64, (), count, batches, attrs)


def _read_classes(dataset: VisionSet, found: FoundFiles, limits: Limits) -> dict[str, list[str]]:
    """Return the class names by label column, from the data set's own files if they exist."""
    classes = {"label": list(dataset.class_names)} if dataset.class_names else {}
    for label, path in found.classes.items():
        key = dataset.labels[label].removesuffix("s") + "_names"
        classes[label] = read_cifar_classes(path, key, limits)
    return classes

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers import source
from stockroom.importers.source import ColumnSource, Importer, ImportSpec
from stockroom.importers.vision import VisionImporter


def open_columns(name: str, root: Path, **options: object) -> dict[str, ColumnSource]:
    columns = VisionImporter().open(ImportSpec(f"torchvision.{name}", root=root, **options))
    return {column.name: column for column in columns}


def read(column: ColumnSource) -> np.ndarray:
    values = np.concatenate(list(column.batches()))
    assert values.dtype == column.dtype
    assert values.shape[1:] == column.shape
    assert column.count in (None, len(values))
    return values


def test_four_data_sets_are_read_by_our_own_readers() -> None:
    importer = VisionImporter()
    assert isinstance(importer, Importer)
    assert importer.sources()[:4] == [
        "torchvision.mnist",
        "torchvision.fashion_mnist",
        "torchvision.cifar10",
        "torchvision.cifar100",
    ]


def test_fashion_mnist_gives_images_and_int64_labels_of_both_splits(
    fashion_mnist: Path, fashion_images: np.ndarray, fashion_labels: np.ndarray
) -> None:
    columns = open_columns("fashion_mnist", fashion_mnist)

    assert list(columns) == [
        "fashion_mnist-train-image",
        "fashion_mnist-train-label",
        "fashion_mnist-test-image",
        "fashion_mnist-test-label",
    ]
    np.testing.assert_array_equal(read(columns["fashion_mnist-test-image"]), fashion_images)
    labels = columns["fashion_mnist-test-label"]
    assert labels.dtype == np.int64
    assert labels.shape == ()
    assert labels.attrs["classes"][9] == "Ankle boot"
    np.testing.assert_array_equal(read(labels), fashion_labels)
    assert columns["fashion_mnist-train-image"].count == 60_000


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")])
def test_idx_files_are_found_in_torchvisions_folders(
    tmp_path: Path, fashion_mnist: Path, name: str, folder: str
) -> None:
    (tmp_path / folder).parent.mkdir(parents=True)
    (tmp_path / folder).symlink_to(fashion_mnist)
    assert open_columns(name, tmp_path)[f"{name}-test-label"].count == 10_000


def test_cifar10_python_files_read_back(cifar10_python: Path, cifar: dict) -> None:
    columns = open_columns("cifar10", cifar10_python)
    assert list(columns) == [f"cifar10-{split}-{kind}" for split in ("train", "test") for kind in ("image", "label")]
    for split in ("train", "test"):
        np.testing.assert_array_equal(read(columns[f"cifar10-{split}-image"]), cifar[split].images)
        np.testing.assert_array_equal(read(columns[f"cifar10-{split}-label"]), cifar[split].labels)
    assert columns["cifar10-train-label"].attrs["classes"][3] == "name 3"


def test_cifar10_binary_files_read_back(cifar10_binary: Path, cifar: dict) -> None:
    columns = open_columns("cifar10", cifar10_binary)
    for split in ("train", "test"):
        np.testing.assert_array_equal(read(columns[f"cifar10-{split}-image"]), cifar[split].images)
        np.testing.assert_array_equal(read(columns[f"cifar10-{split}-label"]), cifar[split].labels)
    assert columns["cifar10-train-image"].count == 60
    assert columns["cifar10-train-label"].attrs["classes"][0] == "airplane"


@pytest.mark.parametrize("form", ["cifar100_python", "cifar100_binary"])
def test_cifar100_has_fine_and_coarse_labels(form: str, request: pytest.FixtureRequest, cifar: dict) -> None:
    columns = open_columns("cifar100", request.getfixturevalue(form))
    assert list(columns) == [
        f"cifar100-{split}-{kind}" for split in ("train", "test") for kind in ("image", "label", "coarse-label")
    ]
    for split in ("train", "test"):
        np.testing.assert_array_equal(read(columns[f"cifar100-{split}-image"]), cifar[split].images)
        np.testing.assert_array_equal(read(columns[f"cifar100-{split}-label"]), cifar[split].labels)
        np.testing.assert_array_equal(read(columns[f"cifar100-{split}-coarse-label"]), cifar[split].coarse)
    assert columns["cifar100-test-coarse-label"].attrs["classes"][19] == "coarse_19"
    assert columns["cifar100-test-label"].attrs["classes"][99] == "fine 99"


def test_files_straight_in_the_root_are_found(cifar10_binary: Path) -> None:
    assert open_columns("cifar10", cifar10_binary / "cifar-10-batches-bin")["cifar10-test-image"].count == 12


@pytest.mark.parametrize("form", ["cifar10_python", "cifar10_binary"])
def test_cifar_batches_are_bounded(
    form: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cifar: dict
) -> None:
    monkeypatch.setattr(source, "BATCH_NBYTES", 5 * 3072)
    image = open_columns("cifar10", request.getfixturevalue(form))["cifar10-train-image"]
    assert max(len(batch) for batch in image.batches()) <= 5
    np.testing.assert_array_equal(read(image), cifar["train"].images)


def test_missing_files_are_listed_with_the_folders_searched(tmp_path: Path, fashion_mnist: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        open_columns("fashion_mnist", tmp_path)
    message = str(caught.value)
    assert f"{tmp_path}/FashionMNIST/raw lacks train-images-idx3-ubyte" in message
    assert f"{tmp_path} lacks" in message
    assert "--root" in message

    shutil.copy(fashion_mnist / "t10k-labels-idx1-ubyte.gz", tmp_path)
    with pytest.raises(InvalidInputError, match=rf"{tmp_path} lacks [^;]*t10k-images-idx3-ubyte \(or .gz\)"):
        open_columns("fashion_mnist", tmp_path)


def test_download_without_torchvision_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(InvalidInputError, match=r"install 'stockroom-vcs\[torch\]'.*cifar-10-batches-py"):
        open_columns("cifar10", tmp_path, download=True)


def test_download_is_not_asked_for_what_is_there(cifar10_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert open_columns("cifar10", cifar10_binary, download=True)


def test_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--root"):
        VisionImporter().open(ImportSpec("torchvision.mnist", paths=(tmp_path / "x",)))


def test_counts_of_images_and_labels_must_agree(tmp_path: Path, fashion_mnist: Path) -> None:
    for path in fashion_mnist.iterdir():
        shutil.copy(path, tmp_path)
    shutil.copy(tmp_path / "t10k-labels-idx1-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz")
    with pytest.raises(CorruptionError, match="label for each of 60000 images, found 10000"):
        open_columns("mnist", tmp_path)


def test_a_torn_binary_file_is_corruption(cifar10_binary: Path) -> None:
    torn = cifar10_binary / "cifar-10-batches-bin" / "data_batch_3.bin"
    torn.write_bytes(torn.read_bytes()[:-7])
    with pytest.raises(CorruptionError, match=r"data_batch_3.bin: expected complete records of 3073 bytes"):
        open_columns("cifar10", cifar10_binary)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "expected a member 'labels', found data"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}, r"expected uint8 of shape \(n, 3072\)"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]}, r"expected uint8 of shape \(n, 3072\)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, r"expected 2 integers, found int64 of shape \(1,\)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": ["a", "b"]}, "labels: not a list of integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1.5, 2]}, "labels: not a list of integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [2**70, 2]}, "labels: not a list of integers"),
        ({"data": 3, "labels": [1, 2]}, "expected an array or a list of integers, found int"),
        ([1, 2], "expected a pickled dict"),
        ({(1,): 2}, "keyed by name"),
    ],
)
def test_a_python_file_of_another_make_is_named(cifar10_python: Path, members: object, problem: str) -> None:
    batch = cifar10_python / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(pickle.dumps(members))
    label = open_columns("cifar10", cifar10_python)["cifar10-train-label"]
    with pytest.raises((InvalidInputError, CorruptionError), match=rf"data_batch_1: .*{problem}|{problem}") as caught:
        list(label.batches())
    assert "data_batch_1" in str(caught.value)

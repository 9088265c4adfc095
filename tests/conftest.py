"""Fixtures every test may use: real images, and a fresh repository."""

from __future__ import annotations

import atexit
import gzip
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from tests.kit.servers import start_s3

import real_data

if TYPE_CHECKING:
    from stockroom import StockRoom


# Hosts that tests name are not the user's: the list of them is a new one for each process of the suite.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="stockroom-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

# A shell that runs the suite in the background makes it ignore interrupts, and so would the programs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The suite runs the same examples every time, so that what fails fails for the change it is run for; the search goes on
# in `nox -s explore`. Machines are busy: no example is judged by the clock. Hypothesis keeps nothing in the clone.
home = os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(real_data.cache_folder() / "hypothesis"))
manners: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("stockroom", **manners, derandomize=True)
settings.register_profile(
    "explore",
    **manners,
    derandomize=False,
    print_blob=True,
    database=DirectoryBasedExampleDatabase(Path(home, "examples")),
)
settings.load_profile("stockroom")


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder with Fashion-MNIST's four IDX files; the test is skipped where they cannot be had."""
    try:
        return real_data.fashion_mnist()
    except real_data.MaterialUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def openclipart() -> Path:
    """The folder with openclipart's PNG files, in folders by subject; the test is skipped where they cannot be had."""
    try:
        return real_data.openclipart()
    except real_data.MaterialUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def fashion_images(fashion_mnist: Path) -> np.ndarray:
    """The 10,000 test images, (10000, 28, 28) uint8, read here without any of our readers."""
    raw = gzip.decompress((fashion_mnist / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)


@pytest.fixture(scope="session")
def fashion_labels(fashion_mnist: Path) -> np.ndarray:
    """The 10,000 test labels, (10000,) uint8, read here without any of our readers."""
    raw = gzip.decompress((fashion_mnist / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=8)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 server with an empty bucket; the environment has no credentials for it."""
    with start_s3() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def s3(s3_server: str) -> Iterator[str]:
    """The endpoint of an S3 server with an empty bucket; the environment has the credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield s3_server


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[StockRoom]:
    """A fresh repository in `tmp_path/repo`, opened for reading; write in `with stock.enable_write():`."""
    from stockroom import StockRoom

    with StockRoom.init(tmp_path / "repo", name="Ada Lovelace", email="ada@example.org") as opened:
        yield opened

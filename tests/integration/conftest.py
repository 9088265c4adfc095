"""Remotes of every kind, and a file system that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.servers import BUCKET, Proxy


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, Any]:
    """What names a new remote in a folder."""
    return {"url": str(tmp_path / "remote")}


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What names a new remote: `url`, and further keywords."""
    if request.param == "folder":
        return {"url": str(tmp_path / "remote")}
    return {"url": f"s3://{BUCKET}/{tmp_path.name}", "endpoint_url": request.getfixturevalue("s3")}


@pytest.fixture
def proxy(s3: str) -> Iterator[Proxy]:
    """A proxy in front of the S3 server."""
    with Proxy(s3) as running:
        yield running


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`mount_disk("8m")`: the folder of a new file system of that size; the test is skipped where none can be."""
    folder = tmp_path / "small"

    def mount(size: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("a small file system can only be mounted by root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", folder], check=True)

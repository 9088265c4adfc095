"""The kind of file system of a folder, and the kinds on which LMDB's files must not be written.

LMDB shares one memory map among all processes that have it open. No file system keeps such maps in step between
machines, and the locks of many reach only one machine: two writers would silently overwrite each other's pages.
Reading is safe while no machine writes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from stockroom.errors import ReadOnlyError

ALLOWED_BY: Final = "STOCKROOM_NETWORK_FS"
"""The environment variable that, set to `allow`, permits network file systems."""

NETWORK: Final = frozenset(
    ["nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs",
     "glusterfs", "orangefs", "pvfs2", "coda", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse",
     "fuse.goofys", "fuse.mount-s3", "fuse.blobfuse", "fuse.blobfuse2", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse",
     "fuse.juicefs"]
)  # fmt: skip
"""Kinds of network file systems, as Linux calls them."""


def is_network(kind: str | None) -> bool:
    """Whether `kind` is a file system that other machines may write to, and that the user has not allowed."""
    return kind in NETWORK and os.environ.get(ALLOWED_BY) != "allow"


def check_local(path: Path, kind: str | None) -> None:
    """Raise `ReadOnlyError`, with the way out, if `kind` is a file system that other machines may write to."""
    if is_network(kind):
        raise ReadOnlyError(
            f"{path}: expected a local disk, found a network file system ({kind}), where a second machine that writes "
            "would silently damage the repository; only reads work here: write on a local disk and `stock push` to a "
            f"remote, which may be on this file system, or set {ALLOWED_BY}=allow if only this machine opens it"
        )


def find_file_system(path: Path) -> str | None:
    """Return the kind of file system of `path`, which need not exist yet; None if the system does not say."""
    for existing in (path, *path.parents):
        try:
            return _find_of_device(existing.stat().st_dev)
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


@lru_cache(64)
def _find_of_device(device: int) -> str | None:
    try:
        table = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:  # not Linux
        return None
    return parse_mounts(table).get(f"{os.major(device)}:{os.minor(device)}")


def parse_mounts(table: str) -> dict[str, str]:
    """Parse the text of `mountinfo` (proc_pid_mountinfo(5)) into device, as major:minor -> kind of file system."""
    found = {}
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 2:
            found[fields[2]] = kinds[0]
    return found

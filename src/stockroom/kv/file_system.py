"""What kind of file system a folder lies on, and which kinds LMDB's files must not be on.

LMDB shares one memory map among all processes that have it open. Between machines no file system keeps such maps in
step, and the locks of many reach no further than one machine: two writers would overwrite each other's pages unseen.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from stockroom.errors import StockroomError

ALLOWED_BY: Final = "STOCKROOM_NETWORK_FS"
"""The environment variable that lets them be used all the same, by being `allow`."""

NETWORK: Final = frozenset(
    ["nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs",
     "glusterfs", "orangefs", "pvfs2", "coda", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse",
     "fuse.goofys", "fuse.mount-s3", "fuse.blobfuse", "fuse.blobfuse2", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse",
     "fuse.juicefs"]
)  # fmt: skip
"""As Linux calls them."""


def check_local(path: Path, kind: str | None) -> None:
    """Raise `StockroomError`, with the way out, if `kind` is a file system that other machines may write to."""
    if kind in NETWORK and os.environ.get(ALLOWED_BY) != "allow":
        raise StockroomError(
            f"{path}: expected a local disk, found a network file system ({kind}), where a second machine would damage "
            "it unseen: keep the repository on a local disk and share it by `stock push` to a remote, which may be on "
            f"this one; or, if only this machine ever opens it, set {ALLOWED_BY}=allow"
        )


def find_file_system(path: Path) -> str | None:
    """The kind of file system that `path`, which need not exist yet, lies on; None where the system does not say."""
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
    """Device, as major:minor -> kind of file system, from the text of `mountinfo` (proc_pid_mountinfo(5))."""
    found = {}
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 2:
            found[fields[2]] = kinds[0]
    return found

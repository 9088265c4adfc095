"""Network file systems: told from others, refused with the way out, and allowed to those who know."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockroom.errors import ReadOnlyError
from stockroom.kv import Environment
from stockroom.kv.file_system import find_file_system, parse_mounts

MOUNTS = """\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
36 22 0:32 / /home rw shared:7 master:1 - nfs4 server:/home rw,vers=4.2
40 22 0:44 /sub /mnt/with\\040space rw - fuse.sshfs me@host: rw,user_id=1000
41 22 0:45 / /mnt/share rw,nosuid - cifs //server/share rw
nonsense
"""


def test_the_table_of_mounts_tells_the_kind_of_each_device() -> None:
    assert parse_mounts(MOUNTS) == {"8:2": "ext4", "0:32": "nfs4", "0:44": "fuse.sshfs", "0:45": "cifs"}


def test_the_kind_of_a_folder_that_is_not_there_yet_is_its_parents(tmp_path: Path) -> None:
    assert find_file_system(tmp_path / "not" / "yet") == find_file_system(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux says")
def test_proc_is_known_for_what_it_is() -> None:
    assert find_file_system(Path("/proc/self")) == "proc"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre"])
def test_a_network_file_system_is_refused_with_the_way_out_and_nothing_is_made(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ReadOnlyError, match=rf"network file system \({kind}\).*stock push.*STOCKROOM_NETWORK_FS=allow"):
        Environment.open(tmp_path / "env", databases=["things"], file_system=kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuse.bindfs", "9p", "some new one"])
def test_any_other_is_used(tmp_path: Path, kind: str) -> None:
    with Environment.open(tmp_path / "env", databases=["things"], file_system=kind) as env:
        env.update(lambda txn: txn.put("things", b"a", b"1"))


def test_who_knows_that_no_other_machine_opens_it_may_use_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKROOM_NETWORK_FS", "allow")
    with Environment.open(tmp_path / "env", databases=["things"], file_system="nfs4") as env:
        env.update(lambda txn: txn.put("things", b"a", b"1"))
    monkeypatch.setenv("STOCKROOM_NETWORK_FS", "yes")
    with (
        Environment.open(tmp_path / "env", databases=["things"], file_system="nfs4") as env,
        pytest.raises(ReadOnlyError, match="network file system"),
    ):
        env.update(lambda txn: txn.put("things", b"a", b"2"))


def test_what_is_on_a_network_file_system_is_read_and_writing_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with Environment.open(tmp_path, databases=["things"]) as env:
        env.update(lambda txn: txn.put("things", b"a", b"1"))
    before = list(tmp_path.iterdir())
    with Environment.open(tmp_path, databases=["things", "others"], file_system="nfs4") as env:
        assert env.readonly
        assert env.view(lambda txn: (txn.get("things", b"a"), txn.count("others"))) == (b"1", 0)
        with pytest.raises(ReadOnlyError, match=r"only reads work here.*stock push.*STOCKROOM_NETWORK_FS=allow"):
            env.update(lambda txn: txn.put("things", b"a", b"2"))
    assert list(tmp_path.iterdir()) == before

"""The words of push, fetch, pull and remote mean what they mean to git: real git runs beside, on its own history."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.cli.run import run
from stockroom.remotes.ref_state_log import get_newest_state
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings

GIT_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
Refs = dict[str, str]


class Sides:
    """Two clones, a and b, and their remote, by git and by Stockroom. Commits are compared by their messages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: dict[str, str] = {}
        for side in ("git", "stock"):
            (root / side).mkdir()
        self._git("", "init", "-q", "--bare", "-b", "main", "remote")
        self._git("", "init", "-q", "-b", "main", "a")
        StockRoom.init(root / "stock/a").close()
        self.both("a", "remote add origin ../remote")
        self.commit("a", "A")
        self.commit("a", "B")
        self.both("a", "push -u origin main")
        self._git("", "clone", "-q", "remote", "b")
        StockRoom.clone(str(root / "stock/remote"), root / "stock/b").close()

    def commit(self, where: str, message: str) -> None:
        """Commit in a clone on both sides."""
        self.names[self._git_commit(where, message)] = message
        with StockRoom(self.root / "stock" / where) as stock, stock.enable_write(message):
            stock.data["change"] = np.frombuffer(message.encode(), np.uint8)
        with StockRoom(self.root / "stock" / where) as stock:
            self.names[stock.commit_id or ""] = message

    def both(self, where: str, words: str) -> bool:
        """Run a command on both sides and return whether it succeeded, which must be the same."""
        git = self._git(where, *words.split())
        code = run(["-C", str(self.root / "stock" / where), *words.split()])
        assert (git.returncode == 0) == (code == 0), (words, git.stderr, code)
        if "rejected" in git.stderr:
            assert code == 14
        return code == 0

    def compare(self) -> None:
        """Check that the refs of all repositories are the same on both sides."""
        assert self._read_stock_remote() == self._read_git("remote", {"heads": "branch", "tags": "tag"})
        for where in ("a", "b"):
            with StockRoom(self.root / "stock" / where) as stock:
                seen = {f"remote/{name}": at for name, at in stock.remote_branches.items()}
                found = {f"branch/{n}": at for n, at in stock.branches.items()} | seen
                found |= {f"tag/{name}": at for name, at in stock.tags.items()}
            expected = self._read_git(where, {"heads": "branch", "tags": "tag", "remotes": "remote"})
            assert {ref: self.names[at] for ref, at in found.items()} == expected

    def _read_stock_remote(self) -> Refs:
        state = get_newest_state(open_transport(RemoteSettings(str(self.root / "stock/remote"))))
        found = {f"branch/{n}": at for n, at in state.branches.items()} | {
            f"tag/{n}": at for n, at in state.tags.items()
        }
        return {ref: self.names[at.hex()] for ref, at in found.items()}

    def _read_git(self, where: str, kinds: dict[str, str]) -> Refs:
        lines = self._git(where, "for-each-ref", "--format=%(refname) %(objectname)").stdout.splitlines()
        found = {}
        for line in lines:
            ref, at = line.split()
            _, kind, name = ref.split("/", 2)
            if not name.endswith("/HEAD"):
                found[f"{kinds[kind]}/{name}"] = self.names[at]
        return found

    def _git_commit(self, where: str, message: str) -> str:
        self._git(where, "commit", "-q", "--allow-empty", "-m", message)
        return self._git(where, "rev-parse", "HEAD").stdout.strip()

    def _git(self, where: str, *words: str) -> subprocess.CompletedProcess[str]:
        folder = self.root / "git" / where
        return subprocess.run(
            ["git", *words], cwd=folder, env=GIT_ENVIRONMENT, capture_output=True, text=True, check=False
        )


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def test_refs_are_pushed_renamed_and_deleted_as_by_git(sides: Sides) -> None:
    for words in ("branch dev HEAD~1", "tag v1", "tag v2 HEAD~1"):
        assert sides.both("a", words)
    for words, succeeds in {
        "push origin :nope": False,
        "push origin nope": False,
        "push --all origin": True,
        "push origin v1": True,
        "push --tags": True,
        "push origin HEAD:other": True,
        "push origin main:renamed dev:second": True,
        "push origin HEAD~1:refs/heads/old": True,
        "push origin HEAD~1": False,
        "push origin main:refs/tags/release": True,
        "push origin :other": True,
        "push origin :v1": True,
        "push --delete origin renamed v2": True,
        "push origin --delete gone": False,
        "push --all origin dev": False,
        "push origin main:bad..name": False,
        "push origin main:": False,
    }.items():
        assert sides.both("a", words) is succeeds, words
        sides.compare()


def test_what_would_lose_commits_is_rejected_or_forced_as_by_git(sides: Sides) -> None:
    #       C' b
    #      /
    # A - B - C a
    sides.commit("a", "C")
    sides.commit("b", "C'")
    for where, words, succeeds in [
        ("a", "push", True),
        ("b", "push", False),
        ("b", "push --force-with-lease", False),
        ("b", "push --force-with-lease=main:HEAD~1 origin main", False),
        ("b", "fetch", True),
        ("b", "push --force-with-lease=main:origin/main~1 origin main", False),
        ("b", "push --force-with-lease=main origin main", True),
        ("a", "push origin main", False),
        ("a", "push origin +main", True),
        ("a", "tag v1", True),
        ("a", "push origin v1", True),
        ("b", "fetch", True),
        ("a", "tag -d v1", True),
        ("a", "tag v1 HEAD~1", True),
        ("a", "push origin v1", False),
        ("a", "push -f origin v1", True),
        ("b", "fetch --tags", False),
        ("b", "fetch --tags --force", True),
        ("a", "push origin --delete v1", True),
        ("b", "fetch --prune --prune-tags", True),
    ]:
        assert sides.both(where, words) is succeeds, words
        sides.compare()


def test_upstreams_and_names_of_remotes_are_followed_as_by_git(sides: Sides) -> None:
    sides.both("a", "branch dev HEAD~1")
    sides.both("a", "push origin dev")
    sides.commit("a", "C")
    for where, words, succeeds in [
        ("a", "push", True),
        ("b", "fetch origin dev", True),
        ("b", "fetch origin nope", False),
        ("b", "pull origin dev", True),
        ("b", "pull", True),
        ("b", "remote rename origin upstream", True),
        ("b", "remote rename origin again", False),
        ("b", "remote get-url upstream", True),
        ("b", "remote get-url origin", False),
        ("b", "pull", True),
        ("b", "push", True),
        ("b", "fetch --all", True),
        ("a", "push origin --delete dev", True),
        ("b", "fetch -p upstream", True),
        ("a", "push -u origin HEAD:trunk", True),
        ("a", "push", False),
        ("a", "branch -m work", True),
        ("a", "push", False),
        ("b", "fetch upstream", True),
        ("b", "remote remove upstream", True),
    ]:
        assert sides.both(where, words) is succeeds, words
        sides.compare()
    with StockRoom(sides.root / "stock/a") as stock:
        assert stock.find_upstream() == "origin/trunk"

"""The upstream of a branch: the branch of a remote that `push`, `pull` and `status` compare it with, as in git.

`stock push -u` sets it, and so does a clone for the branch that it checks out. It is kept in the repository's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from stockroom.refs import Ref
from stockroom.repository.config import Settings, change_settings, read_settings
from stockroom.repository.paths import RepositoryPaths
from stockroom.repository.repository import Repository

DEFAULT_REMOTE: Final = "origin"


class Upstream(NamedTuple):
    """A branch of a remote."""

    remote: str
    branch: str

    @property
    def ref(self) -> Ref:
        """The remote-tracking branch."""
        return Ref("remote", f"{self.remote}/{self.branch}")


def find_upstream(repository: Repository, branch: str | None) -> Upstream | None:
    """Return the upstream of a branch, or None (also for the None of a detached HEAD).

    A branch without one has that of the same name on `origin`, or on the only remote where one was seen. Contacts no
    remote; the remote-tracking branch of the result need not exist: `repository.refs.find_ref(found.ref)`.
    """
    if branch is None:
        return None
    remote, _, name = read_settings(repository.paths.config).upstreams.get(branch, "").partition("/")
    if remote and name:
        return Upstream(remote, name)
    implied = Upstream(DEFAULT_REMOTE, branch)
    if repository.refs.find_ref(implied.ref) is not None:
        return implied
    seen = [name.partition("/") for name in repository.refs.remotes()]
    remotes = [remote for remote, _, name in seen if name == branch]
    return Upstream(remotes[0], branch) if len(remotes) == 1 else None


def set_upstreams(paths: RepositoryPaths, upstreams: Mapping[str, Upstream]) -> None:
    """Set the upstreams of branches."""
    added = {branch: f"{upstream.remote}/{upstream.branch}" for branch, upstream in upstreams.items()}
    if not added.items() <= read_settings(paths.config).upstreams.items():
        change_settings(paths.config, lambda known: replace(known, upstreams=known.upstreams | added))


def move_upstream(paths: RepositoryPaths, old: str, new: str | None) -> None:
    """Let the branch `new` have the upstream of the branch `old`, which was renamed, or, for None, deleted."""

    def move(settings: Settings) -> Settings:
        upstreams = dict(settings.upstreams)
        moved = upstreams.pop(old, None)
        return replace(settings, upstreams=upstreams if new is None or moved is None else upstreams | {new: moved})

    if old in read_settings(paths.config).upstreams:
        change_settings(paths.config, move)


def rename_upstreams(paths: RepositoryPaths, old: str, new: str | None) -> None:
    """Let the upstreams on the remote `old` be on `new`; None removes them."""

    def rename(settings: Settings) -> Settings:
        kept = {branch: at.partition("/") for branch, at in settings.upstreams.items()}
        named = {branch: (new if remote == old else remote, name) for branch, (remote, _, name) in kept.items()}
        return replace(settings, upstreams={b: f"{remote}/{name}" for b, (remote, name) in named.items() if remote})

    if any(at.partition("/")[0] == old for at in read_settings(paths.config).upstreams.values()):
        change_settings(paths.config, rename)

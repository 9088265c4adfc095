"""What a handle does with remotes: naming them, moving history, bringing bytes here and giving them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

from stockroom.errors import InvalidInputError, RepositoryNotFoundError
from stockroom.repository.head import HEAD_NAME, REMOTE_NAME

if TYPE_CHECKING:
    from stockroom.content.merge.strategy import Strategy
    from stockroom.remotes.fetch import FetchReport
    from stockroom.remotes.progress import OnProgress
    from stockroom.remotes.pull import PullReport
    from stockroom.remotes.push import PushReport
    from stockroom.remotes.transport.url import RemoteSettings
    from stockroom.repository.head import Head
    from stockroom.repository.repository import Repository
    from stockroom.repository.writing.session import WriteSession
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.model.shelf import ModelShelf
    from stockroom.shelves.pin import Access


@dataclass(frozen=True, slots=True)
class Presence:
    """How much of the packs is on this machine."""

    packs: int
    whole_packs: int
    nbytes: int
    present_nbytes: int


@dataclass(frozen=True, slots=True)
class PrefetchReport:
    """What was brought here, or, for a dry run, would be: of the samples and leaves asked for, what was absent.

    `read_nbytes` in `requests` are what that takes: small gaps between samples are read through.
    """

    samples: int
    nbytes: int
    read_nbytes: int
    requests: int
    left_out: int


@dataclass(frozen=True, slots=True)
class DropReport:
    """What was given up, or, for a dry run, would be; `kept` packs stayed because no remote was seen to hold them."""

    packs: int
    nbytes: int
    kept: int


class _Handle(Protocol):
    _access: Access
    _repository: Repository

    @property
    def data(self) -> DataShelf: ...
    @property
    def model(self) -> ModelShelf: ...
    def _moving(self) -> AbstractContextManager[WriteSession]: ...
    def _pin_to(self, head: Head) -> None: ...
    def _bring_head(self, remote: str, on_progress: OnProgress | None) -> None: ...
    def fetch(self, remote: str = ..., *, prune: bool = ..., on_progress: OnProgress | None = ...) -> FetchReport: ...
    def refresh(self) -> None: ...


class RemoteActions:
    """The part of `StockRoom` that is about remotes."""

    @classmethod
    def clone(
        cls,
        url: str,
        path: str | Path,
        metadata_only: bool = False,
        ref: str | None = None,
        *,
        depth: int | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """The handle of a new repository in `path`, cloned from a remote.

        Args:
            url: a folder, or a URL of s3, gs, az, https or http.
            path: a new or empty folder; or one with a clone that was cut off, which goes on.
            metadata_only: leave samples where they are until they are read.
            ref: the branch or tag to check out; None is the remote's own choice.
            depth: keep only so many commits of it.
        """
        from stockroom.remotes.clone import CloneOptions, clone
        from stockroom.remotes.transport.url import parse_remote_settings

        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        options = CloneOptions(metadata_only=metadata_only, ref=ref, depth=depth)
        stock = cls(clone(settings, Path(path), options, on_progress=on_progress).root)  # type: ignore[call-arg]
        if metadata_only:
            stock._repository.tensors.fetcher.start()  # type: ignore[attr-defined]  # what is read next is not here
        return stock

    @classmethod
    def clone_here(
        cls,
        path: str | Path = ".",
        url: str | None = None,
        metadata_only: bool = False,
        *,
        depth: int | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """The handle of a work tree of git that has a `head.stock`, after its data has been cloned into it.

        Args:
            path: a folder in the work tree. Its `head.stock` stays as git has it.
            url: where from; None reads it from `remote.stock`.
            metadata_only, depth: as for `clone`.

        Raises `RefNotFoundError` where the remote does not have the commit in `head.stock`.
        """
        from stockroom.remotes.clone import CloneOptions, clone_here

        root = find_head(Path(path))
        settings = choose_remote(root, url, endpoint_url=endpoint_url, region=region)
        options = CloneOptions(metadata_only=metadata_only, depth=depth)
        stock = cls(clone_here(settings, root, options, on_progress=on_progress).root)  # type: ignore[call-arg]
        if metadata_only:
            stock._repository.tensors.fetcher.start()  # type: ignore[attr-defined]
        return stock

    @property
    def remotes(self: _Handle) -> Mapping[str, str]:
        """Names of remotes and their URLs; read-only."""
        from stockroom.remotes.settings import read_remotes

        self._access.check_open()
        found = read_remotes(self._repository.paths)
        return MappingProxyType({name: settings.url for name, settings in found.items()})

    def add_remote(
        self: _Handle, name: str, url: str, *, endpoint_url: str | None = None, region: str | None = None
    ) -> None:
        """Name a remote: a folder, or a URL of s3, gs, az, https or http. Contacts nobody.

        Inside a work tree of git, `remote.stock` says where `origin` is; git is meant to track it.

        Credentials never belong here: they come from the environment or the provider's own files.
        """
        from stockroom.remotes.settings import add_remote
        from stockroom.remotes.transport.url import parse_remote_settings

        self._access.check_open()
        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        add_remote(self._repository.paths, name, settings)
        _publish(self, name)

    def set_remote(
        self: _Handle, name: str, url: str, *, endpoint_url: str | None = None, region: str | None = None
    ) -> None:
        """Change where a remote is; `RemoteNotFoundError` if there is none of that name."""
        from stockroom.remotes.settings import set_remote
        from stockroom.remotes.transport.url import parse_remote_settings

        self._access.check_open()
        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        set_remote(self._repository.paths, name, settings)
        _publish(self, name)

    def remove_remote(self: _Handle, name: str) -> None:
        """Forget a remote. What lies there stays."""
        from stockroom.refs import Ref, RefChange, RefMove
        from stockroom.remotes.settings import remove_remote
        from stockroom.remotes.tracking import Tracking

        self._access.check_open()
        refs = self._repository.refs
        remove_remote(self._repository.paths, name)
        _publish(self, name)
        Tracking(self._repository.paths, name).forget()
        mine = {ref: at for ref, at in refs.remotes().items() if ref.startswith(f"{name}/")}
        if mine:
            moves = tuple(RefMove(ref=Ref("remote", ref), old=at, new=None) for ref, at in mine.items())
            refs.apply(RefChange(kind="remove-remote", moves=moves))

    @property
    def remote_branches(self: _Handle) -> Mapping[str, str]:
        """Names such as `origin/main` and the full hex ids of their commits, as last seen; read-only."""
        self._access.check_open()
        return MappingProxyType({name: at.hex() for name, at in self._repository.refs.remotes().items()})

    def push(
        self: _Handle,
        remote: str = "origin",
        ref: str | None = None,
        force: bool = False,
        *,
        tags: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PushReport:
        """Bring a branch (None: the one checked out) or tag to a remote, with all that it leads to.

        `:NAME` as `ref` deletes a branch there; `tags` brings all tags too. Only what is missing is sent, so a push
        that was cut off goes on when it is run again.

        Raises `RefChangedError` if the remote's branch has commits that this one does not follow, unless `force`.
        """
        from stockroom.remotes.push import push
        from stockroom.remotes.ref_updates import resolve_push
        from stockroom.remotes.settings import get_remote

        self._access.check_open()
        get_remote(self._repository.paths, remote)
        wanted = resolve_push(self._repository, ref, tags=tags)
        return push(self._repository, remote, wanted, force=force, on_progress=on_progress)

    def fetch(
        self: _Handle, remote: str = "origin", *, prune: bool = False, on_progress: OnProgress | None = None
    ) -> FetchReport:
        """Take in a remote's new history, as `origin/main` and the like; samples stay there until they are read."""
        from stockroom.remotes.fetch import fetch

        self._access.check_open()
        return fetch(self._repository, remote, prune=prune, on_progress=on_progress)

    def pull(
        self: _Handle,
        remote: str = "origin",
        *,
        strategy: Strategy = None,
        ff_only: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PullReport:
        """Fetch, then bring the branch that is checked out along: by fast-forward, or, if both moved on, by a merge.

        `strategy` decides conflicts, as in `merge`; with `ff_only` no commit is made. Raises `MergeConflictError`,
        after which nothing but what was fetched is new, and `ConflictError` if changes are staged.
        """
        from stockroom.remotes.pull import pull
        from stockroom.shelves.stock.merges import make_options

        self._access.check_open()
        self._bring_head(remote, on_progress)
        with self._moving() as session:
            options = make_options(session, None, strategy, fast_forward="only" if ff_only else "if possible")
            report = pull(self._repository, session, remote, options, on_progress=on_progress)
            self._pin_to(session.head)
            return report

    def _bring_head(self: _Handle, remote: str, on_progress: OnProgress | None) -> None:
        """Fetch, if HEAD is on a commit that is not here, as after `git pull`."""
        head = self._repository.read_head()
        if head.commit is not None and not self._repository.refs.has_commit(head.commit):
            self.fetch(remote, on_progress=on_progress)
            self.refresh()

    def measure_presence(self: _Handle) -> Presence:
        """How much of this repository's packs is on this machine; contacts nobody."""
        self._access.check_open()
        counts = list(self._repository.tensors.iter_sizes())
        whole = sum(1 for nbytes, present in counts if present == nbytes)
        return Presence(len(counts), whole, sum(n for n, _ in counts), sum(present for _, present in counts))

    def prefetch(
        self: _Handle,
        path: str | None = None,
        keys: Sequence[Any] | slice | None = None,
        where: str | None = None,
        *,
        max_nbytes: int | None = None,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PrefetchReport:
        """Bring samples and models of the commit that this handle is pinned to here before they are read.

        Args:
            path: a column, as `data/image` or `image`, or `model/resnet`, `artifact/plot.png`; None brings everything.
            keys: which samples: keys, or a slice of positions in key order. Of a model: names of leaves, as `load`
                takes them.
            where: a condition on other columns of the same keys, as `label == 3`.
            max_nbytes: bring no more than that.
            dry_run: only say what it would cost.
        """
        from stockroom.remotes.prefetch import bring, plan_prefetch
        from stockroom.shelves.stock.selection import choose

        self._access.check_open()
        chosen = choose(self, path, keys, where)
        plan = plan_prefetch(self._repository.tensors, chosen.digests, max_nbytes=max_nbytes)
        if not dry_run:
            bring(self._repository, plan, on_progress)
        return PrefetchReport(chosen.count, plan.nbytes, plan.read_nbytes, plan.requests, plan.left_out)

    def drop(
        self: _Handle, path: str | None = None, *, keep_nbytes: int | None = None, dry_run: bool = False
    ) -> DropReport:
        """Give back disk: of the packs of one column or model, or of all, down to `keep_nbytes` in all.

        Only what a remote holds at this moment is dropped; it comes again when it is read.
        """
        from stockroom.remotes.drop import drop, plan_drop
        from stockroom.shelves.stock.selection import choose

        self._access.check_open()
        candidates = None
        if path is not None:
            candidates = self._repository.tensors.find_packs(choose(self, path, None, None).digests)
        plan = plan_drop(self._repository, candidates, keep_nbytes=keep_nbytes)
        if not dry_run:
            drop(self._repository, plan)
        return DropReport(len(plan.packs), plan.nbytes, plan.kept)


def find_head(start: Path) -> Path:
    """The folder, `start` or one above it, that holds a `head.stock`; `RepositoryNotFoundError` if none does."""
    resolved = start.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / HEAD_NAME).is_file():
            return folder
    raise RepositoryNotFoundError(
        f"no {HEAD_NAME} in {resolved} or any folder above it: `stock clone URL` clones into a new folder"
    )


def choose_remote(root: Path, url: str | None, *, endpoint_url: str | None, region: str | None) -> RemoteSettings:
    """The remote given, or the one that `remote.stock` names."""
    from stockroom.remotes.format.remote_file import read_remote_file
    from stockroom.remotes.transport.url import parse_remote_settings

    if url is not None:
        return parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
    found = read_remote_file(root)
    if found is None:
        raise InvalidInputError(
            f"{root} has no {REMOTE_NAME} that says where its data is: give the URL, `stock clone --here URL`"
        )
    return replace(found, endpoint_url=endpoint_url or found.endpoint_url, region=region or found.region)


def _publish(handle: _Handle, name: str) -> None:
    from stockroom.remotes.format.remote_file import ORIGIN, publish_origin

    if name == ORIGIN:
        publish_origin(handle._repository.paths)

"""A handle's methods for remotes: naming them, moving history, fetching and dropping packs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockroom.errors import AuthenticationError, InvalidInputError, RepositoryNotFoundError, StockroomError
from stockroom.repository.head import HEAD_NAME, REMOTE_NAME
from stockroom.shelves.stock.handle import Handle

if TYPE_CHECKING:
    from stockroom.remotes.collisions import LeftOutRef
    from stockroom.remotes.fetch import FetchReport
    from stockroom.remotes.progress import OnProgress
    from stockroom.remotes.push import PushReport
    from stockroom.remotes.transport.url import RemoteSettings
    from stockroom.shelves.report import DropReport, PrefetchReport, Presence


class RemoteActions(Handle):
    """The methods of both kinds of handles that concern remotes."""

    @property
    def remotes(self) -> Mapping[str, str]:
        """Names of remotes and their URLs; read-only."""
        from stockroom.remotes.settings import read_remotes

        found = read_remotes(self._repository.paths)
        return MappingProxyType({name: settings.url for name, settings in found.items()})

    def get_remote_url(self, name: str) -> str:
        """Return the URL of a remote; raises `RemoteNotFoundError` if there is none of that name."""
        from stockroom.remotes.settings import get_remote

        return get_remote(self._repository.paths, name).url

    def add_remote(
        self, name: str, url: str | Path, *, endpoint_url: str | None = None, region: str | None = None
    ) -> None:
        """Add a remote: a folder, or a URL of s3, gs, az, https or http. Does not contact it.

        Inside a git work tree, the URL of `origin` is also written to `remote.stock`, for git to track. Do not put
        credentials in the URL; they come from the environment or the provider's own files.
        """
        from stockroom.remotes.settings import add_remote
        from stockroom.remotes.transport.url import parse_remote_settings

        self._pin.check_open()
        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        add_remote(self._repository.paths, name, settings)
        _publish(self, name)

    def set_remote(
        self, name: str, url: str | Path, *, endpoint_url: str | None = None, region: str | None = None
    ) -> None:
        """Change the URL of a remote; raises `RemoteNotFoundError` if there is none of that name.

        With another URL it is another remote: knowledge of the old one is forgotten.
        """
        from stockroom.remotes.settings import get_remote, set_remote
        from stockroom.remotes.tracking import Tracking
        from stockroom.remotes.transport.url import parse_remote_settings

        self._pin.check_open()
        before = get_remote(self._repository.paths, name)
        parsed = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        settings = replace(parsed, branches=before.branches)
        set_remote(self._repository.paths, name, settings)
        if settings.url != before.url:
            Tracking(self._repository.paths, name).forget()
        _publish(self, name)

    def trust_remote(self, name: str) -> str | None:
        """Name the host of a remote as one to contact and to give your credentials. Return it; None for a folder.

        `add_remote` and `clone` name the host of the URL they are given. A remote that came with a folder, or with
        git, is contacted only after this. The list of hosts is yours; it is in no repository.
        """
        from stockroom.remotes.settings import get_remote
        from stockroom.remotes.transport.url import find_origin
        from stockroom.remotes.trust import name_host

        settings = get_remote(self._repository.paths, name)
        name_host(settings)
        return find_origin(settings)

    def rename_remote(self, old: str, new: str) -> None:
        """Rename a remote, with its remote-tracking branches and the upstreams of branches here."""
        from stockroom.refs import Ref, RefChange, RefMove
        from stockroom.remotes.settings import rename_remote
        from stockroom.remotes.tracking import Tracking
        from stockroom.repository.upstream import rename_upstreams

        refs, paths = self._repository.refs, self._repository.paths

        def rename_rest() -> None:
            mine = {ref: at for ref, at in refs.remotes().items() if ref.startswith(f"{old}/")}
            gone = [RefMove(ref=Ref("remote", ref), old=at, new=None) for ref, at in mine.items()]
            made = {Ref("remote", new + ref.removeprefix(old)): at for ref, at in mine.items()}
            moves = [RefMove(ref=ref, old=refs.find_ref(ref), new=at) for ref, at in made.items()]
            if mine:
                refs.apply(RefChange(kind="rename-remote", moves=(*gone, *moves)))
            Tracking(paths, old).rename(new)
            rename_upstreams(paths, old, new)

        rename_remote(paths, old, new, meanwhile=rename_rest)
        _publish(self, old)
        _publish(self, new)

    def remove_remote(self, name: str) -> None:
        """Forget a remote, its remote-tracking branches and upstreams; does not delete its content."""
        from stockroom.refs import Ref, RefChange, RefMove
        from stockroom.remotes.settings import remove_remote
        from stockroom.remotes.tracking import Tracking
        from stockroom.repository.upstream import rename_upstreams

        refs = self._repository.refs
        remove_remote(self._repository.paths, name)
        rename_upstreams(self._repository.paths, name, None)
        _publish(self, name)
        Tracking(self._repository.paths, name).forget()
        mine = {ref: at for ref, at in refs.remotes().items() if ref.startswith(f"{name}/")}
        if mine:
            moves = tuple(RefMove(ref=Ref("remote", ref), old=at, new=None) for ref, at in mine.items())
            refs.apply(RefChange(kind="remove-remote", moves=moves))

    @property
    def remote_branches(self) -> Mapping[str, str]:
        """Names such as `origin/main` and the full hex digests of their commits, as last seen; read-only."""
        return MappingProxyType({name: at.hex() for name, at in self._repository.refs.remotes().items()})

    def push(
        self,
        remote: str | None = None,
        ref: str | Sequence[str] | None = None,
        force: bool = False,
        *,
        tags: bool = False,
        all_branches: bool = False,
        delete: bool = False,
        set_upstream: bool = False,
        force_with_lease: bool | str | Sequence[str] = False,
        allow_new_remote: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PushReport:
        """Push branches and tags to a remote, with everything reachable from them: all of them, or none.

        Only missing data is sent, so an interrupted push resumes when it is run again.

        Args:
            remote: its name; None is that of the checked-out branch's upstream, or `origin`.
            ref: as git writes it: a branch or tag, `SOURCE:NAME` to give it another name there, `+...` to force it,
                `:NAME` to delete; None is the branch that is checked out.
            force: move refs of the remote even if that loses commits, and tags.
            tags: push all tags too.
            all_branches: push all branches.
            delete: delete the branches and tags that `ref` names.
            set_upstream: make each pushed branch the upstream of the one here.
            force_with_lease: force branches only as long as they are where they were last seen: True, or `NAME`; or at
                a commit, `NAME:COMMIT`.
            allow_new_remote: begin a new remote if the one there before is gone.

        Raises:
            RefChangedError: a branch of the remote has commits that would be lost, a tag is elsewhere, or a lease is
                stale.
            RefNotFoundError: there is no such ref here, or none to delete there.
            UnreachableError: the remote had content when it was last seen and has none now.
        """
        from stockroom.remotes.push import push
        from stockroom.remotes.refspecs import PushWords, resolve_push
        from stockroom.remotes.settings import get_remote
        from stockroom.repository.upstream import Upstream, set_upstreams

        repository, name = self._repository, self._choose_remote(remote)
        get_remote(repository.paths, name)
        leases = ("",) if isinstance(force_with_lease, bool) else _list_words(force_with_lease)
        words = PushWords(
            refs=_list_words(ref),
            force=force,
            tags=tags,
            all_branches=all_branches,
            delete=delete,
            leases=leases if force_with_lease else (),
        )
        request = resolve_push(repository, remote=name, words=words)
        report = push(repository, name, request, allow_new_remote=allow_new_remote, on_progress=on_progress)
        if not set_upstream:
            return report
        upstreams = {here: Upstream(name, there) for here, there in request.branches.items()}
        set_upstreams(repository.paths, upstreams)
        return replace(report, upstreams=tuple((here, there.ref.name) for here, there in upstreams.items()))

    def fetch(
        self,
        remote: str | None = None,
        ref: str | Sequence[str] | None = None,
        *,
        prune: bool = False,
        prune_tags: bool = False,
        tags: bool = False,
        force: bool = False,
        depth: int | None = None,
        deepen: int | None = None,
        unshallow: bool = False,
        on_progress: OnProgress | None = None,
    ) -> FetchReport:
        """Fetch a remote's new history to refs such as `origin/main`; samples are not fetched until they are read.

        Args:
            remote: its name; None is that of the checked-out branch's upstream, or `origin`.
            ref: branches and tags to fetch; None is all that this clone follows.
            prune: delete remote-tracking branches that the remote no longer has.
            prune_tags: delete tags that the remote does not have.
            tags: fetch every tag, even one on history that this clone does not follow.
            force: move tags here that are elsewhere on the remote.
            depth: of a shallow clone, keep this many commits of each branch from now on.
            deepen: fetch this many more commits of a shallow clone's history.
            unshallow: fetch all of it.
        """
        from stockroom.remotes.fetch import FetchOptions, fetch
        from stockroom.remotes.history_depth import choose_depth

        options = FetchOptions(
            refs=tuple(_list_words(ref)),
            prune=prune,
            prune_tags=prune_tags,
            tags=tags,
            force=force,
            depth=choose_depth(depth=depth, deepen=deepen, unshallow=unshallow),
        )
        return fetch(self._repository, self._choose_remote(remote), options, on_progress=on_progress)

    def find_upstream(self, branch: str | None = None) -> str | None:
        """Return the upstream of a branch (None: the one that is checked out), such as `origin/main`, or None."""
        from stockroom.repository.upstream import find_upstream

        found = find_upstream(self._repository, self.branch if branch is None else branch)
        return None if found is None else found.ref.name

    def _choose_remote(self, remote: str | None) -> str:
        """Return the remote of the checked-out branch's upstream, or the default, unless one is given."""
        from stockroom.repository.upstream import DEFAULT_REMOTE, find_upstream

        if remote is not None:
            return remote
        try:
            found = find_upstream(self._repository, self._repository.follow(self._repository.read_head()).branch)
        except (OSError, StockroomError):  # a damaged HEAD must not keep a fetch from mending it
            found = None
        return DEFAULT_REMOTE if found is None else found.remote

    def list_left_out(self, remote: str = "origin") -> list[LeftOutRef]:
        """Return the branches and tags of a remote, as last seen, that are not here because they collide.

        Such a name differs from another one here only in case or accents' form. Contacts no remote.
        """
        from stockroom.remotes.fetch import plan_moves
        from stockroom.remotes.tracking import Tracking

        state = Tracking(self._repository.paths, remote).read_state()
        return [] if state is None else plan_moves(self._repository, remote, state).left_out

    def measure_presence(self) -> Presence:
        """Return how much of this repository's packs is on this machine; contacts no remote."""
        from stockroom.shelves.report import Presence  # here for start-up time

        counts = list(self._repository.tensors.iter_sizes())
        whole = sum(1 for nbytes, present in counts if present == nbytes)
        return Presence(len(counts), whole, sum(n for n, _ in counts), sum(present for _, present in counts))

    def prefetch(
        self,
        path: str | None = None,
        keys: Sequence[Any] | slice | None = None,
        where: str | None = None,
        *,
        max_nbytes: int | None = None,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PrefetchReport:
        """Fetch samples and models of the commit that this handle is pinned to, before they are read.

        Args:
            path: a column, such as `data/image` or `image`, or `model/resnet`, `artifact/plot.png`; None fetches
                everything.
            keys: keys of samples, or a slice of positions in key order; for a model, names of leaves as `load` takes
                them.
            where: a condition on other columns of the same keys, such as `label == 3`.
            max_nbytes: fetch no more than this.
            dry_run: only report the planned fetch.
        """
        from stockroom.remotes.prefetch import fetch_planned, plan_prefetch
        from stockroom.shelves.report import PrefetchReport
        from stockroom.shelves.stock.selection import choose

        self._pin.check_open()
        chosen = choose(self, path, keys, where)
        plan = plan_prefetch(self._pin.tensors, chosen.digests, max_nbytes=max_nbytes)
        if not dry_run:
            fetch_planned(self._repository, plan, on_progress)
        return PrefetchReport(chosen.count, plan.nbytes, plan.read_nbytes, plan.requests, plan.left_out)

    def drop(
        self,
        path: str | None = None,
        *,
        keep_nbytes: int | None = None,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
    ) -> DropReport:
        """Free the disk space of packs of one column or model, or of all, until `keep_nbytes` remain in total.

        Drops only packs with a sound copy on a remote; they are fetched again when they are read. The copy is compared
        with the pack here, by the MD5 that S3 and Google keep. Without one, its bytes are read from the remote.
        `dry_run` looks only at sizes.
        """
        from stockroom.remotes.drop import drop, plan_drop
        from stockroom.shelves.report import DropReport
        from stockroom.shelves.stock.selection import choose

        candidates = None
        if path is not None:
            candidates = self._repository.tensors.list_packs(choose(self, path, None, None).digests)
        plan = plan_drop(self._repository, candidates, keep_nbytes=keep_nbytes)
        if not dry_run:
            plan = drop(self._repository, plan, on_progress)
        return DropReport(len(plan.packs), plan.nbytes, plan.kept)


def locate_head(start: Path) -> Path:
    """Return the folder, `start` or one above, that holds `head.stock`; raises `RepositoryNotFoundError`."""
    resolved = start.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / HEAD_NAME).is_file():
            return folder
    raise RepositoryNotFoundError(
        f"no {HEAD_NAME} in {resolved} or any folder above it: `stock clone URL` clones into a new folder"
    )


def choose_remote(root: Path, url: str | None, *, endpoint_url: str | None, region: str | None) -> RemoteSettings:
    """Return the remote at `url`, or the one that `remote.stock` names.

    Raises `AuthenticationError` if that file names a host that the user has not named.
    """
    from stockroom.remotes.format.remote_file import read_remote_file
    from stockroom.remotes.transport.url import find_origin, parse_remote_settings
    from stockroom.remotes.trust import is_named

    if url is not None:
        return parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
    found = read_remote_file(root)
    if found is None:
        raise InvalidInputError(
            f"{root} has no {REMOTE_NAME} to name its remote; give the URL: `stock clone --here URL`"
        )
    chosen = replace(found, endpoint_url=endpoint_url or found.endpoint_url, region=region or found.region)
    if not is_named(replace(chosen, endpoint_url=None) if endpoint_url else chosen):
        endpoint = f" --endpoint-url {shlex.quote(chosen.endpoint_url)}" if chosen.endpoint_url else ""
        raise AuthenticationError(
            f"the data is on {find_origin(chosen)}, which {REMOTE_NAME} names and you have not: nothing was sent "
            "there; if you trust that host with your credentials, run `stock clone --here "
            f"{shlex.quote(chosen.url)}{endpoint}`"
        )
    return chosen


def _list_words(words: str | Sequence[str] | None) -> Sequence[str]:
    return () if words is None else (words,) if isinstance(words, str) else tuple(words)


def _publish(handle: Handle, name: str) -> None:
    from stockroom.remotes.format.remote_file import ORIGIN, publish_origin

    if name == ORIGIN:
        publish_origin(handle._repository.paths)

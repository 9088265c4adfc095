"""A handle's methods for remotes: naming them, moving history, fetching and dropping packs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stockroom.errors import AuthenticationError, InvalidInputError, RepositoryNotFoundError
from stockroom.repository.head import HEAD_NAME, REMOTE_NAME
from stockroom.shelves.report import DropReport, PrefetchReport, Presence
from stockroom.shelves.stock.handle import Handle

if TYPE_CHECKING:
    from stockroom.remotes.collisions import LeftOutRef
    from stockroom.remotes.fetch import FetchReport
    from stockroom.remotes.progress import OnProgress
    from stockroom.remotes.push import PushReport
    from stockroom.remotes.transport.url import RemoteSettings


class RemoteActions(Handle):
    """The methods of both kinds of handles that concern remotes."""

    @property
    def remotes(self) -> Mapping[str, str]:
        """Names of remotes and their URLs; read-only."""
        from stockroom.remotes.settings import read_remotes

        found = read_remotes(self._repository.paths)
        return MappingProxyType({name: settings.url for name, settings in found.items()})

    def add_remote(self, name: str, url: str, *, endpoint_url: str | None = None, region: str | None = None) -> None:
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

    def set_remote(self, name: str, url: str, *, endpoint_url: str | None = None, region: str | None = None) -> None:
        """Change the URL of a remote; raises `RemoteNotFoundError` if there is none of that name.

        With another URL it is another remote: knowledge of the old one is forgotten.
        """
        from stockroom.remotes.settings import get_remote, set_remote
        from stockroom.remotes.tracking import Tracking
        from stockroom.remotes.transport.url import parse_remote_settings

        self._pin.check_open()
        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        before = get_remote(self._repository.paths, name)
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

    def remove_remote(self, name: str) -> None:
        """Forget a remote; does not delete its content."""
        from stockroom.refs import Ref, RefChange, RefMove
        from stockroom.remotes.settings import remove_remote
        from stockroom.remotes.tracking import Tracking

        refs = self._repository.refs
        remove_remote(self._repository.paths, name)
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
        remote: str = "origin",
        ref: str | None = None,
        force: bool = False,
        *,
        tags: bool = False,
        allow_new_remote: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PushReport:
        """Push a branch (None: the one checked out) or tag to a remote, with everything reachable from it.

        `:NAME` as `ref` deletes a branch there. With `tags`, all tags are pushed too. Only missing data is sent, so an
        interrupted push resumes when it is run again. Raises `RefChangedError` if the remote's branch has commits that
        this one does not have, unless `force`; `UnreachableError` if the remote had content when it was last seen and
        has none now, unless `allow_new_remote`.
        """
        from stockroom.remotes.push import push
        from stockroom.remotes.ref_updates import resolve_push
        from stockroom.remotes.settings import get_remote

        get_remote(self._repository.paths, remote)
        wanted = resolve_push(self._repository, ref, tags=tags)
        return push(
            self._repository, remote, wanted, force=force, allow_new_remote=allow_new_remote, on_progress=on_progress
        )

    def fetch(
        self, remote: str = "origin", *, prune: bool = False, on_progress: OnProgress | None = None
    ) -> FetchReport:
        """Fetch a remote's new history to refs such as `origin/main`; samples are not fetched until they are read."""
        from stockroom.remotes.fetch import fetch

        return fetch(self._repository, remote, prune=prune, on_progress=on_progress)

    def list_left_out(self, remote: str = "origin") -> list[LeftOutRef]:
        """Return the branches and tags of a remote, as last seen, that are not here because they collide.

        Such a name differs from another one here only in case or accents' form. Contacts no remote.
        """
        from stockroom.remotes.fetch import plan_moves
        from stockroom.remotes.tracking import Tracking

        state = Tracking(self._repository.paths, remote).read_state()
        return [] if state is None else plan_moves(self._repository, remote, state, prune=False)[1]

    def measure_presence(self) -> Presence:
        """Return how much of this repository's packs is on this machine; contacts no remote."""
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


def _publish(handle: Handle, name: str) -> None:
    from stockroom.remotes.format.remote_file import ORIGIN, publish_origin

    if name == ORIGIN:
        publish_origin(handle._repository.paths)

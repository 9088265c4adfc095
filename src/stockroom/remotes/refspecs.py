"""The refs that a push is asked for, as git writes them: `main`, `v1`, `HEAD:other`, `+main`, `:old`.

What is here is resolved here; names to delete are looked up in the remote's state, by `ref_updates`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError, RefNotFoundError
from stockroom.refs import Ref, check_name
from stockroom.repository.config import read_settings
from stockroom.repository.follow import follow_git_if_free
from stockroom.repository.repository import Repository
from stockroom.repository.upstream import DEFAULT_REMOTE, Upstream

_PREFIXES: Final = {"refs/heads/": "branch", "refs/tags/": "tag"}
_EMPTY_ID: Final = re.compile(r"0*")


@dataclass(frozen=True, slots=True)
class PushRequest:
    """The changes that a push makes to a remote.

    Attributes:
        refs: refs of the remote and their new commits; None deletes.
        deleted: names to delete, of branches or tags, as they were typed.
        forced: the refs that may lose commits, or move a tag.
        leases: the refs that may lose commits as long as they are at this commit there; None: do not exist there.
        branches: branches here, and the branches of the remote that they are pushed to.
    """

    refs: Mapping[Ref, CommitId | None]
    deleted: tuple[str, ...] = ()
    forced: frozenset[Ref] = frozenset()
    leases: Mapping[Ref, CommitId | None] = field(default_factory=dict)
    branches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushWords:
    """The words of a push: refs, and options with git's meaning; a lease is `` (all), `REF` or `REF:COMMIT`."""

    refs: Sequence[str] = ()
    force: bool = False
    tags: bool = False
    all_branches: bool = False
    delete: bool = False
    leases: Sequence[str] = ()


def resolve_push(
    repository: Repository, ref: str | None = None, *, remote: str = DEFAULT_REMOTE, words: PushWords | None = None
) -> PushRequest:
    """Resolve the words of a push to a remote. Without a ref, that is the branch that is checked out.

    Raises:
        RefNotFoundError: there is no such branch, tag or commit here.
        InvalidInputError: the words contradict each other, or HEAD is detached.
    """
    words = words or PushWords(refs=() if ref is None else (ref,))
    _check(words)
    request = _Resolver(repository, remote)
    for text in words.refs:
        request.add(f":{text}" if words.delete else text)
    if words.all_branches:
        for name in repository.refs.branches():
            request.add(f"refs/heads/{name}")
    if not (words.refs or words.all_branches):
        request.add_current()
    if words.tags:
        request.refs.update({Ref("tag", name): at for name, at in repository.refs.tags().items()})
    if words.force:
        request.forced.update(request.refs)
    leases = request.resolve_leases(words.leases)
    deleted = tuple(request.deleted)
    return PushRequest(request.refs, deleted, frozenset(request.forced), leases, request.branches)


def _check(words: PushWords) -> None:
    if words.all_branches and (words.refs or words.delete):
        raise InvalidInputError("--all pushes every branch: it cannot be combined with refs or --delete")
    if words.delete and (not words.refs or words.tags):
        raise InvalidInputError("--delete expects the names of branches or tags, and no --tags")


class _Resolver:
    def __init__(self, repository: Repository, remote: str) -> None:
        self._repository = repository
        self._remote = remote
        self.refs: dict[Ref, CommitId | None] = {}
        self.deleted: list[str] = []
        self.forced: set[Ref] = set()
        self.branches: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Add `[+]SRC[:DST]`, or `:DST` to delete."""
        plain = text.removeprefix("+")
        source, colon, target = plain.partition(":")
        if colon and not source:
            self.deleted.append(target)
            return
        ref, at = self._resolve(source)
        there = self._name_target(source, ref, target if colon else source)
        check_name(there.kind, there.name)
        self.refs[there] = at
        if text != plain:
            self.forced.add(there)
        if ref is not None and ref.kind == there.kind == "branch":
            self.branches[ref.name] = there.name

    def add_current(self) -> None:
        """Add the branch that is checked out, under its own name."""
        name = self._read_branch()
        if name is None:
            raise InvalidInputError("HEAD is detached: name the branch or tag to push, or where to (`HEAD:BRANCH`)")
        upstream = _parse_upstream(read_settings(self._repository.paths.config).upstreams.get(name, ""))
        if upstream is not None and upstream.remote == self._remote and upstream.branch != name:
            raise InvalidInputError(
                f"the upstream of {name!r} has another name, {upstream.branch!r}: run `stock push {self._remote} "
                f"HEAD:{upstream.branch}` to push there, or `stock push {self._remote} {name}`"
            )
        self.add(f"refs/heads/{name}")

    def resolve_leases(self, texts: Sequence[str]) -> dict[Ref, CommitId | None]:
        """Return the leases that `--force-with-lease` asks for."""
        leases: dict[Ref, CommitId | None] = {}
        for text in texts:
            name, colon, commit = text.partition(":")
            if not name:
                leases.update({ref: self._find_seen(ref) for ref in self.refs if ref.kind == "branch"})
                continue
            ref = parse_prefix(name) or Ref("branch", name)
            if not colon:
                leases[ref] = self._find_seen(ref)
            else:
                leases[ref] = None if _EMPTY_ID.fullmatch(commit) else self._repository.resolve(commit)
        return leases

    def _find_seen(self, ref: Ref) -> CommitId | None:
        return self._repository.refs.find_ref(Ref("remote", f"{self._remote}/{ref.name}"))

    def _resolve(self, source: str) -> tuple[Ref | None, CommitId]:
        """Return the ref with that name here, if it is one, and its commit."""
        refs = self._repository.refs
        if source == "HEAD" and (branch := self._read_branch()) is not None:
            source = f"refs/heads/{branch}"
        prefixed = parse_prefix(source)
        for ref in [prefixed] if prefixed else [Ref("branch", source), Ref("tag", source)]:
            at = refs.find_ref(ref)
            if at is not None:
                return ref, at
        try:
            if prefixed is None:
                return None, self._repository.resolve(source)
        except RefNotFoundError:
            pass
        raise RefNotFoundError(
            f"no branch or tag {(prefixed.name if prefixed else source)!r} to push; `stock branch` and `stock tag` "
            "list them",
            ref=source,
        )

    def _name_target(self, source: str, ref: Ref | None, target: str) -> Ref:
        """Return the ref of the remote that `target` names: of the source's kind unless it says."""
        prefixed = parse_prefix(target)
        if prefixed is not None:
            return prefixed
        if target == source and ref is None:
            raise InvalidInputError(
                f"{source!r} is a commit, no branch or tag: name the branch to push it to, as `{source}:BRANCH`"
            )
        if target == source and ref is not None:
            return ref
        return Ref("branch" if ref is None else ref.kind, target)

    def _read_branch(self) -> str | None:
        follow_git_if_free(self._repository)
        return self._repository.follow(self._repository.read_head()).branch


def parse_prefix(text: str) -> Ref | None:
    """Return the ref that `refs/heads/NAME` or `refs/tags/NAME` names; None for other text."""
    for prefix, kind in _PREFIXES.items():
        if text.startswith(prefix):
            return Ref("branch" if kind == "branch" else "tag", text.removeprefix(prefix))
    return None


def _parse_upstream(text: str) -> Upstream | None:
    remote, _, branch = text.partition("/")
    return Upstream(remote, branch) if branch else None

"""Resolves revisions that users type to commits: `HEAD~2`, `main^2`, `v1`, `3f9a`.

Grammar and meanings mirror git's revisions: a name, then any number of `~n` (n first parents up) and `^n` (the nth
parent). A name is looked up as HEAD or @, branch, tag, remote-tracking branch, stash, then digest or prefix of one.
"""

from __future__ import annotations

import re
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import AmbiguousRefError, RefNotFoundError, did_you_mean, near_names
from stockroom.refs.ref import KINDS, Ref
from stockroom.refs.stash import get_stash, is_stash_spec
from stockroom.refs.store import RefStore

MIN_PREFIX_DIGITS: Final = 4
MAX_CANDIDATES: Final = 10

_SPEC: Final = re.compile(r"(?P<base>[^~^]*)(?P<steps>(?:[~^][0-9]{0,9})*)")
_STEP: Final = re.compile(r"([~^])([0-9]*)")
_HEX: Final = re.compile(r"[0-9a-fA-F]{1,64}")


def resolve(refs: RefStore, spec: str, *, head: CommitId | None) -> CommitId:
    """Return the commit that `spec` names; `head` is the commit of HEAD.

    Raises:
        RefNotFoundError: nothing has that name; `near` lists similar names.
        AmbiguousRefError: a prefix fits several commits; `candidates` lists them.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise _not_found(refs, spec, "expected a name followed by ~n and ^n")
    commit_id = _resolve_base(refs, match["base"], head=head)
    for sign, digits in _STEP.findall(match["steps"]):
        n = int(digits) if digits else 1
        commit_id = _go_up(refs, commit_id, n, spec) if sign == "~" else _nth_parent(refs, commit_id, n, spec)
    return commit_id


def _resolve_base(refs: RefStore, base: str, *, head: CommitId | None) -> CommitId:
    if base in ("HEAD", "@"):
        if head is None:
            raise RefNotFoundError("HEAD has no commit yet; create one with `stock commit`", ref=base)
        return head
    for kind in KINDS:
        found = refs.find_ref(Ref(kind, base))
        if found is not None:
            return found
    if is_stash_spec(base):
        return get_stash(refs, base).commit
    if _HEX.fullmatch(base):
        return _resolve_digest(refs, base.lower())
    raise _not_found(refs, base, "no such branch, tag or commit")


def _resolve_digest(refs: RefStore, digits: str) -> CommitId:
    if len(digits) < MIN_PREFIX_DIGITS:
        rule = f"no such branch or tag, and a commit needs at least {MIN_PREFIX_DIGITS} digits"
        raise _not_found(refs, digits, rule)
    found = refs.search_commits(digits, n=MAX_CANDIDATES)
    if not found:
        raise _not_found(refs, digits, "no such branch, tag or commit")
    if len(found) > 1:
        candidates = [commit_id.hex() for commit_id in found]
        raise AmbiguousRefError(
            f"{digits!r} is ambiguous: it matches {', '.join(candidates)}; give more digits", candidates=candidates
        )
    return found[0]


def _go_up(refs: RefStore, commit_id: CommitId, n: int, spec: str) -> CommitId:
    for _ in range(n):
        commit_id = _nth_parent(refs, commit_id, 1, spec)
    return commit_id


def _nth_parent(refs: RefStore, commit_id: CommitId, n: int, spec: str) -> CommitId:
    if n == 0:
        return commit_id
    parents = refs.get_commit(commit_id).parent_ids
    if parents and commit_id in refs.shallow():
        why = f"this shallow clone's history ends at {commit_id.hex()[:12]}; clone without --depth for the rest"
        raise RefNotFoundError(f"{spec!r} does not exist: {why}", ref=spec)
    if n > len(parents):
        had = f"has {len(parents)} parent{'s' * (len(parents) > 1)}" if parents else "is the first commit"
        raise RefNotFoundError(f"{spec!r} does not exist: {commit_id.hex()[:12]} {had}", ref=spec)
    return parents[n - 1]


def _not_found(refs: RefStore, name: str, why: str) -> RefNotFoundError:
    near = near_names(name, {*refs.branches(), *refs.tags(), *refs.remotes(), "HEAD"})
    hint = did_you_mean(near) or "`stock branch`, `stock tag` and `stock log` list them"
    return RefNotFoundError(f"{name!r}: {why}; {hint}", ref=name, near=near)

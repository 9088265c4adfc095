"""Names and history: metadata objects, commits, branches, tags, stages and the operation log.

Knows no tensor bytes and no trees: the content of a commit is just a digest here.
"""

from stockroom.refs.changes import RefChange, RefMove
from stockroom.refs.commit import CommitRecord, decode_commit
from stockroom.refs.graph import LoggedCommit, iter_history, iter_log, sort_parents_first
from stockroom.refs.merge_base import is_ancestor, list_merge_bases
from stockroom.refs.names import check_collision, check_name
from stockroom.refs.objects import ObjectStore
from stockroom.refs.operations import Operation, plan_undo
from stockroom.refs.ref import Ref
from stockroom.refs.resolve import resolve
from stockroom.refs.revisions import Revisions, resolve_revisions, split_range
from stockroom.refs.stage import Stage
from stockroom.refs.stash import StashEntry, get_stash, list_stashes
from stockroom.refs.store import DATABASES, RefStore

__all__ = [
    "DATABASES",
    "CommitRecord",
    "LoggedCommit",
    "ObjectStore",
    "Operation",
    "Ref",
    "RefChange",
    "RefMove",
    "RefStore",
    "Revisions",
    "Stage",
    "StashEntry",
    "check_collision",
    "check_name",
    "decode_commit",
    "get_stash",
    "is_ancestor",
    "iter_history",
    "iter_log",
    "list_merge_bases",
    "list_stashes",
    "plan_undo",
    "resolve",
    "resolve_revisions",
    "sort_parents_first",
    "split_range",
]

"""Names and history: metadata objects, commits, branches, tags, stages and the operation log.

Knows no tensor bytes and no trees: the content of a commit is just a digest here.
"""

from stockroom.refs.changes import RefChange, RefMove, StageMove
from stockroom.refs.commit import CommitRecord, decode_commit
from stockroom.refs.graph import LoggedCommit, iter_history, iter_log, sort_parents_first
from stockroom.refs.merge_base import Divergence, count_divergence, is_ancestor, list_merge_bases
from stockroom.refs.names import check_collision, check_name
from stockroom.refs.objects import ObjectStore
from stockroom.refs.operations import Operation
from stockroom.refs.ref import Ref
from stockroom.refs.resolve import resolve
from stockroom.refs.revisions import Revisions, resolve_revisions, split_range
from stockroom.refs.stage import Stage
from stockroom.refs.stash import StashEntry, get_stash, list_stashes
from stockroom.refs.store import DATABASES, RefStore

__all__ = [
    "DATABASES",
    "CommitRecord",
    "Divergence",
    "LoggedCommit",
    "ObjectStore",
    "Operation",
    "Ref",
    "RefChange",
    "RefMove",
    "RefStore",
    "Revisions",
    "Stage",
    "StageMove",
    "StashEntry",
    "check_collision",
    "check_name",
    "count_divergence",
    "decode_commit",
    "get_stash",
    "is_ancestor",
    "iter_history",
    "iter_log",
    "list_merge_bases",
    "list_stashes",
    "resolve",
    "resolve_revisions",
    "sort_parents_first",
    "split_range",
]

"""The common content of two lines of history, against which a merge compares both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from stockroom.content.merge.conflict import ATTRS, METADATA, Conflict
from stockroom.content.merge.content import ContentMerge, Disputed
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.refs import ObjectStore, RefStore, list_merge_bases
from stockroom.trees import Key

OpenSnapshot: TypeAlias = Callable[[CommitId | None], Snapshot]

_MAX_DEPTH: Final = 16
"""How many nested criss-cross merges are followed; beyond them nothing counts as common."""


@dataclass(frozen=True, slots=True)
class CommonContent:
    """The common content, and the parts that are `disputed`: the bases have several versions, and none is common."""

    snapshot: Snapshot
    disputed: Disputed = field(default_factory=dict)


def read_common_content(
    refs: RefStore, open_snapshot: OpenSnapshot, objects: ObjectStore, bases: Sequence[CommitId], depth: int = 0
) -> CommonContent:
    """Return the content of the merge base, or the merge of several bases, as in a criss-cross history.

    Where the bases disagree, the content is disputed: any difference between the two lines there is a conflict, so
    nothing is taken as changed or unchanged by guess.
    """
    content = CommonContent(open_snapshot(bases[0]))
    for position, other in enumerate(bases[1:], 1):
        before = list_merge_bases(refs, bases[:position], other) if depth < _MAX_DEPTH else []
        base = CommonContent(open_snapshot(None))
        if before:
            base = read_common_content(refs, open_snapshot, objects, before, depth + 1)
        merge = ContentMerge(base.snapshot, content.snapshot, open_snapshot(other), objects, disputed=base.disputed)
        merged = merge.run()
        content = CommonContent(merged.snapshot, _dispute(content.disputed, merged.conflicts))
    return content


def _dispute(before: Disputed, conflicts: Sequence[Conflict]) -> Disputed:
    """Return the disputed keys after a merge of bases; not attrs or metadata in conflict, which stay as ours."""
    disputed: dict[str, frozenset[Key | None]] = defaultdict(frozenset, before)
    for conflict in conflicts:
        if conflict.kind not in (ATTRS, METADATA):
            disputed[conflict.path] |= {conflict.key}
    return dict(disputed)

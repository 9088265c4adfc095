"""Where one is, as lines in git's words and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stockroom.cli.render.units import format_count

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.refs import Divergence
    from stockroom.repository.position import Position


def iter_position_lines(position: Position) -> Iterator[str]:
    """Yield a line for everything that is not where one would expect it, and one about the remote's branch."""
    if position.is_gone:
        yield f"{position.branch} does not exist any more; `stock checkout -b NAME` continues from here"
    elif position.of_branch is not None and position.of_branch[:2] != (0, 0):
        yield _describe_branch(position.branch or "", position.of_branch)
    if position.upstream is not None and position.of_upstream is not None:
        yield _describe_upstream(position.upstream, position.of_upstream)
    if position.sessions:
        yield f"Changes are also staged in sessions: {', '.join(position.sessions)}"


def format_branch_line(position: Position) -> str:
    """Return `## main...origin/main [ahead 1, behind 2]`, as `git status --short --branch` does."""
    if position.branch is None:
        return "## HEAD (no branch)"
    upstream = "" if position.upstream is None else f"...{position.upstream}"
    counts = "" if position.of_upstream is None else ", ".join(_list_counts(position.of_upstream))
    return f"## {position.branch}{upstream}{f' [{counts}]' if counts else ''}"


def position_document(position: Position) -> dict[str, object]:
    """Return a position as JSON; counts are null if they are unknown, and `whole` is false if there may be more."""
    upstream = None if position.upstream is None else {"name": position.upstream, **_count(position.of_upstream)}
    return {
        "branch_position": {"gone": position.is_gone, **_count(position.of_branch)},
        "upstream": upstream,
        "sessions": list(position.sessions),
    }


def choose_log_start(stock: StockRoom) -> str:
    """Return where a log begins by default: at the branch's tip, even if staged changes keep HEAD behind it."""
    position = stock.position()
    return position.branch if position.is_behind and position.branch is not None else "HEAD"


def _describe_branch(branch: str, divergence: Divergence) -> str:
    ahead, behind = divergence.ahead, divergence.behind
    if not behind:
        return (
            f"{branch} is {_number(ahead, divergence)} ahead of what is checked out; `stock log` shows {branch}, and "
            "the next commit goes on top of it"
        )
    if not ahead:
        return f"{branch} is {_number(behind, divergence)} behind what is checked out"
    return f"{branch} and what is checked out have diverged, and have {ahead} and {behind} different commits each"


def _describe_upstream(upstream: str, divergence: Divergence) -> str:
    ahead, behind = divergence.ahead, divergence.behind
    if ahead and behind:
        return f"Your branch and '{upstream}' have diverged, and have {ahead} and {behind} different commits each"
    if ahead:
        return f"Your branch is ahead of '{upstream}' by {_number(ahead, divergence)}"
    if behind:
        return f"Your branch is behind '{upstream}' by {_number(behind, divergence)}, and can be fast-forwarded"
    return f"Your branch is up to date with '{upstream}'"


def _number(count: int, divergence: Divergence) -> str:
    return f"{'' if divergence.is_whole else 'at least '}{format_count(count, 'commit')}"


def _list_counts(divergence: Divergence) -> list[str]:
    counts = (("ahead", divergence.ahead), ("behind", divergence.behind))
    return [f"{word} {count}" for word, count in counts if count]


def _count(divergence: Divergence | None) -> dict[str, object]:
    if divergence is None:
        return {"ahead": None, "behind": None, "whole": True}
    return {"ahead": divergence.ahead, "behind": divergence.behind, "whole": divergence.is_whole}

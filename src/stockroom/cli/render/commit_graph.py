r"""The graph of commits, drawn in front of them as by `git log --graph`.

    *    merges the branch
    |\
    | *  on the branch
    * |  beside it
    |/
    *    where both began
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class CommitGraph:
    """Draws commits in lanes. Commits come children before parents, and each lane waits for one commit."""

    def __init__(self) -> None:
        self._lanes: list[str] = []

    def draw(self, commit_id: str, parents: Sequence[str], lines: Iterable[str]) -> Iterator[str]:
        """Yield `lines` of the next commit with the graph in front, and the rows that connect it to later commits."""
        lanes = self._lanes
        if commit_id not in lanes:
            lanes.append(commit_id)
        lane = lanes.index(commit_id)
        fronts = ["| " * lane + "* " + "| " * (len(lanes) - lane - 1)]
        fronts += self._lead_to(lane, parents) if parents else self._end(lane)
        below, text = "| " * len(lanes), list(lines)
        fronts += [below] * (len(text) - len(fronts))
        width = max(map(len, fronts[: len(text)]))
        for number, front in enumerate(fronts):
            yield (f"{front:{width}}{text[number]}" if number < len(text) else front).rstrip()

    def _end(self, lane: int) -> Iterator[str]:
        del self._lanes[lane]
        if lane < len(self._lanes):
            yield "| " * lane + " /" * (len(self._lanes) - lane)

    def _lead_to(self, lane: int, parents: Sequence[str]) -> Iterator[str]:
        """Yield rows that open a lane for each further parent, and close lanes that wait for the same commit."""
        lanes = self._lanes
        lanes[lane] = parents[0]
        for at, parent in enumerate(parents[1:], lane + 1):
            lanes.insert(at, parent)
            yield "| " * (at - 1) + "|\\" + " \\" * (len(lanes) - at - 1)
        for right in reversed(range(len(lanes))):
            left = lanes.index(lanes[right])
            if left < right:
                yield "| " * left + "|_" * (right - left - 1) + "|/" + " /" * (len(lanes) - right - 1)
                del lanes[right]

"""The parts of its input that an import leaves out: counted by kind, with the first names of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

MAX_NAMES: Final = 1000
"""How many names of each kind are kept, whatever the number of parts."""


@dataclass(slots=True)
class LeftOut:
    """Parts that an import left out on purpose, such as files of an unknown kind. Every one of them is counted."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    names: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, name: str, kind: str, unit: str = "file") -> None:
        """Count one part: `name` says where it is, `kind` what it is in the singular (`.tif`, `linked folder`)."""
        self.counts[unit, kind] += 1
        names = self.names.setdefault((unit, kind), [])
        if len(names) < MAX_NAMES:
            names.append(name)

    def merge(self, other: LeftOut) -> None:
        """Add the parts of another source."""
        self.counts += other.counts
        for group, names in other.names.items():
            mine = self.names.setdefault(group, [])
            mine += names[: MAX_NAMES - len(mine)]

    def clear(self) -> None:
        """Forget everything: a source is read again from its start."""
        self.counts.clear()
        self.names.clear()

    def __len__(self) -> int:
        return self.counts.total()

    def summarize(self) -> str:
        """Return one line, such as `4 files: 3 .tif, 1 linked folder`."""
        units = {unit for unit, _ in self.counts}
        total = _count(len(self), units.pop() if len(units) == 1 else "part")
        return f"{total}: {', '.join(_count(count, kind) for (_, kind), count in self.counts.most_common())}"

    def list_lines(self) -> list[str]:
        """Return a line for each part, up to 1,000 of a kind."""
        lines = []
        for (unit, kind), names in self.names.items():
            lines += [f"{name}: {kind}" for name in names]
            more = self.counts[unit, kind] - len(names)
            lines += [f"{more} more: {kind}"] if more else []
        return lines

    def as_document(self) -> list[dict[str, object]]:
        """Return the groups as JSON values."""
        return [
            {"unit": unit, "kind": kind, "count": count, "names": self.names[unit, kind]}
            for (unit, kind), count in self.counts.most_common()
        ]


def _count(count: int, noun: str) -> str:
    is_word = noun[0].isalnum() and noun[-1].isalpha()
    return f"{count:,} {noun}{'s' if is_word and count != 1 else ''}"

"""Runs the blocks of a page of documentation as a reader would, in order, and compares what they print.

Python that the text before it gives a name ("Save this as `look.py`:") is saved under it; any other is run. Of a block
of `console` every line after `$ ` is run by bash, lines after `> ` go with it, and what follows is what it prints.
What stands before a block in a comment decides otherwise:

    <!-- not run: WHY -->         the block is left out
    <!-- output varies: WHY -->   what it prints is not compared
    <!-- reader: NAME -->         who does this and what follows, each in a home of their own
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`([\w-]+\.py)`")
_NOTE = re.compile(r"<!-- (not run|output varies): .+ -->\s*\Z")
_READER = re.compile(r"<!-- reader: (\w+) -->")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d \+0000)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{7,}\b"), "ID"),
    (re.compile(r"-?\b\d+\.\d+(e-?\d+)?\b"), "FRACTION"),
    (re.compile("[▁▂▃▄▅▆▇█][ ▁▂▃▄▅▆▇█]*"), "CURVE "),
    (re.compile(r"[ \t]+"), " "),
)
TIMEOUT_S = 240


@dataclass(frozen=True)
class Command:
    """One command of a page, and what the page says that it prints."""

    text: str
    output: str


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, where it starts and ends in the page, and what is noted before it."""

    language: str
    body: str
    start: int
    stop: int
    note: str
    name: str | None
    reader: str | None

    def list_commands(self) -> list[Command]:
        """The commands of a `console` block."""
        commands: list[tuple[list[str], list[str]]] = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                commands.append(([line[2:]], []))
            elif line.startswith("> ") and not commands[-1][1]:
                commands[-1][0].append(line[2:])
            else:
                commands[-1][1].append(line)
        return [Command("\n".join(text), "\n".join(output)) for text, output in commands]


def parse_page(text: str) -> list[Block]:
    """Every fenced block of a page."""
    blocks: list[Block] = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip()
        note = _NOTE.search(before)
        paragraph = before[: note.start()].rstrip() if note else before
        names = _NAME.findall(paragraph.rpartition("\n\n")[2])
        is_named = paragraph.endswith(":") and bool(names)
        kind = note[1] if note else ""
        name = names[-1] if is_named and match["language"] == "python" else None
        readers = _READER.findall(text, blocks[-1].stop if blocks else 0, match.start())
        reader = readers[-1] if readers else None
        start, stop = match.span("body")
        blocks.append(Block(match["language"], match["body"], start, stop, kind, name, reader))
    return blocks


def normalise(output: str) -> str:
    """What a command prints without what differs from run to run: ids, times, fractions, curves, widths of columns."""
    for pattern, name in _VARYING:
        output = pattern.sub(name, output)
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


@dataclass
class Reader:
    """Somebody who does all that pages say, in a home of their own."""

    root: Path
    folders: dict[str, Path] = field(default_factory=dict)
    user: str = ""

    def __post_init__(self) -> None:
        self.become("ada")

    def become(self, user: str) -> None:
        """Go on as somebody else, where they were."""
        self.user = user
        self.home = self.root / "home" / user
        self.home.mkdir(parents=True, exist_ok=True)
        self.cwd = self.folders.setdefault(user, self.home)

    def follow(self, text: str) -> Iterator[tuple[Block, str]]:
        """Run every block of a page; gives each with the body that it would have if its outputs were pasted anew."""
        for block in parse_page(text):
            if block.reader is not None:
                self.become(block.reader)
            if block.note == "not run":
                yield block, block.body
            elif block.language == "python":
                self._take_python(block)
                yield block, block.body
            elif block.language == "console":
                yield block, "".join(self._take_command(command) for command in block.list_commands())
            else:
                raise AssertionError(f"a block of language {block.language!r} is neither run nor marked: {block.body}")

    def _take_python(self, block: Block) -> None:
        if block.name is not None:
            (self.cwd / block.name).write_text(block.body)
            return
        output = self.run(f"python - <<'END'\n{block.body}END")
        assert "Traceback" not in output, output

    def _take_command(self, command: Command) -> str:
        output = self.run(command.text)
        first, *more = command.text.split("\n")
        return "".join(f"{line}\n" for line in [f"$ {first}", *(f"> {line}" for line in more)]) + (
            f"{output}\n" if output else ""
        )

    def run(self, command: str) -> str:
        """What a command prints, in bash; where it leads (`cd`), the next one goes on."""
        where = self.root / "where"
        bin_folder = str(Path(sys.executable).parent)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "STOCKROOM_", "PYTEST_"))
        } | {
            "HOME": str(self.home),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "TZ": "UTC",
            "COLUMNS": "120",
            "PYTHONWARNINGS": "ignore",
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        done = subprocess.run(
            ["bash", "-c", f"trap 'pwd > {where}' EXIT\n{command}\n"],
            cwd=self.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        self.cwd = self.folders[self.user] = Path(where.read_text().strip())
        output = done.stdout.replace(f"{self.root}/home", "/home").replace(sys.prefix, "/home/venv")
        output = re.sub(r"(?<=/home/venv/bin/python)3[.\d]*", "", output)
        return "\n".join(line.rstrip() for line in output.rstrip("\n").split("\n"))


def paste(text: str, bodies: list[tuple[Block, str]]) -> str:
    """The page with its blocks' bodies replaced."""
    for block, body in reversed(bodies):
        text = text[: block.start] + body + text[block.stop :]
    return text

"""One history in two worlds: files that git tracks, and columns of a Stockroom repository; and the same words for both.

    1---2---5        main, HEAD     v1 is a tag at 2; 3 and 4 are by Bob, all others by Ada
     \\       \\
      \\       6      topic, a merge of dev
       \\     /
        3---4        dev

Column `data/a` is file `data/a`, and its only sample is the number in the file: 1 gives a the value 1; 2 gives a 2 and
b 20; 3 gives c 30; 4 gives c 31; 5 gives d 40.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.kit.gitting import ENVIRONMENT

from stockroom import StockRoom
from stockroom.cli import main

BASE_HISTORY = """
    write a 1; commit -m 1
    checkout -b dev; write c 30; commit -m 3 --author 'Bob <bob@example.org>'
    write c 31; commit -m 4 --author 'Bob <bob@example.org>'
    checkout main; write a 2; write b 20; commit -m 2; tag v1
    write d 40; commit -m 5
    checkout -b topic; merge dev -m 6; checkout main
"""
NOW_S = 1_790_000_000

_HEX = re.compile(r"\b[0-9a-f]{7,64}\b")
_VALUE_OF_BLOB = {hashlib.sha1(b"blob %d\0%d\n" % (len(str(n)) + 1, n)).hexdigest(): n for n in range(1000)}


@dataclass(frozen=True)
class Outcome:
    """What a row of words did: which words succeeded, what they printed, and what there is then."""

    succeeded: tuple[bool, ...]
    printed: tuple[str, ...]
    head: str
    refs: dict[str, str]
    log: tuple[str, ...]
    staged: tuple[str, ...]
    content: dict[str, int]


class World(Protocol):
    """A repository that words can be tried on; in a row, `{remote}` is the place of a remote beside it."""

    root: Path

    def run(self, words: list[str]) -> tuple[int, str]: ...
    def write(self, name: str, value: int) -> None: ...
    def look(self) -> tuple[str, dict[str, str], tuple[str, ...], tuple[str, ...], dict[str, int]]: ...


def split_row(row: str) -> list[list[str]]:
    """The commands of a row, or of several lines, as words."""
    return [shlex.split(part) for line in row.splitlines() for part in line.split(";") if part.strip()]


def try_row(world: World, row: str) -> Outcome:
    """Run the commands of a row, one after the other, whether they succeed or not."""
    succeeded, printed = [], []
    for words in split_row(row.format(remote=world.root.parent / "remote")):
        if words[0] == "write":
            world.write(words[1], int(words[2]))
            continue
        code, out = world.run(words)
        succeeded.append(code == 0)
        if code == 0 and _lists(words):
            printed += _normalize(words[0], out)
    head, refs, log, staged, content = world.look()
    return Outcome(tuple(succeeded), tuple(printed), head, refs, log, staged, content)


def build(world: World) -> None:
    """Make the history that every row begins with."""
    outcome = try_row(world, BASE_HISTORY)
    assert all(outcome.succeeded), outcome


def _lists(words: list[str]) -> bool:
    """Whether a command's output is data, which is compared, and not talk."""
    talks = words[0] in ("branch", "tag") and {"-d", "-D", "-f", "-m"} & set(words)
    return not talks and (
        words[0] in ("branch", "tag", "diff", "status", "rm", "log") or words[:2] == ["stash", "list"]
    )


def _normalize(verb: str, out: str) -> list[str]:
    """The facts in an output: of a log the subjects and paths, otherwise every line, with ids written as H."""
    if verb != "log":
        return [_HEX.sub("H", line).strip() for line in out.splitlines() if not _is_counted(line)]
    found = []
    for line in out.splitlines():
        subject = re.fullmatch(r"[|/\\* ]*(?:    |[0-9a-f]{7,12} )(?P<text>[^|]+)", line)
        if subject is not None:
            found.append(label(subject["text"]))
        found += dict.fromkeys(re.findall(r"\bdata/\w+", line))
    return list(dict.fromkeys(found))


def _is_counted(line: str) -> bool:
    """Whether a line counts changes, which both do in their own words."""
    return " changed" in line


def label(message: str) -> str:
    """What a commit is called in both worlds: its subject, or `merge`."""
    subject = _HEX.sub("H", message.split("\n", 1)[0].strip())
    return "merge" if subject.startswith("Merge") else subject


@dataclass
class GitWorld:
    """git, in a fixed environment, a second later for each command."""

    root: Path
    now_s: int = field(default=NOW_S)

    def make(self) -> None:
        self.root.mkdir(parents=True)
        self.run(["init", "-q", "-b", "main"])
        self.run(["init", "-q", "--bare", "-b", "main", "../remote"])

    def run(self, words: list[str]) -> tuple[int, str]:
        self.now_s += 1
        dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), f"{self.now_s} +0000")
        done = subprocess.run(
            ["git", "-c", "status.showUntrackedFiles=no", *words],
            cwd=self.root,
            env={**ENVIRONMENT, **dates},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def write(self, name: str, value: int) -> None:
        file = self.root / "data" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{value}\n")
        self.run(["add", f"data/{name}"])

    def look(self) -> tuple[str, dict[str, str], tuple[str, ...], tuple[str, ...], dict[str, int]]:
        head, staged = "detached", []
        for line in self.run(["status", "--porcelain=v2", "--branch"])[1].splitlines():
            fields = line.split(" ")
            if line.startswith("# branch.head ") and fields[2] != "(detached)":
                head = fields[2]
            elif fields[0] in "12u" and fields[1][0] != ".":
                staged.append(f"{'U' if fields[0] == 'u' else fields[1][0]} {fields[-1].partition(chr(9))[0]}")
        names = self.run(["for-each-ref", "--format=%(refname) %(contents:subject)"])[1].splitlines()
        refs = dict(name.split(" ", 1) for name in names if not name.startswith("refs/stash"))
        log = tuple(map(label, self.run(["log", "--format=%s"])[1].splitlines()))
        stages = [line.split() for line in self.run(["ls-files", "-s"])[1].splitlines()]
        content = {path: _VALUE_OF_BLOB[blob] for _, blob, stage, path in stages if stage == "0"}
        return head, {name: label(text) for name, text in refs.items()}, log, tuple(sorted(staged)), content


@dataclass
class StockWorld:
    """Stockroom, in this process."""

    root: Path

    def make(self) -> None:
        self.root.mkdir(parents=True)
        StockRoom.init(self.root, name="Ada", email="ada@example.org").close()

    def run(self, words: list[str]) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main(["-C", str(self.root), *words])
        return code, out.getvalue()

    def write(self, name: str, value: int) -> None:
        with StockRoom(self.root, enable_write=True) as stock:
            stock.data[name] = [value]

    def look(self) -> tuple[str, dict[str, str], tuple[str, ...], tuple[str, ...], dict[str, int]]:
        with StockRoom(self.root) as stock:
            named = {f"refs/heads/{name}": commit for name, commit in stock.branches.items()}
            named |= {f"refs/tags/{name}": commit for name, commit in stock.tags.items()}
            named |= {f"refs/remotes/{name}": commit for name, commit in stock.remote_branches.items()}
            refs = {name: label(next(stock.log(commit, 1)).message) for name, commit in named.items()}
            log, head = tuple(label(commit.message) for commit in stock.log()), stock.branch or "detached"
        with StockRoom(self.root, enable_write=True) as writer:
            content = {f"data/{name}": int(column[0]) for name, column in writer.data.items()}
        lines = self.run(["status", "--porcelain"])[1].splitlines()
        staged = tuple(sorted(f"{line[0]} {line.split()[-1]}" for line in lines))
        return head, refs, log, staged, content


def copy_world(world: World, root: Path) -> World:
    """The same repository in another folder, and its remote beside it."""
    shutil.copytree(world.root.parent, root.parent, symlinks=True)
    return GitWorld(root, world.now_s) if isinstance(world, GitWorld) else StockWorld(root)

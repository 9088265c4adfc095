"""What a power cut can leave on disk: records the work of a program, and lays out every state that a cut allows.

The model is that of design note 8: a file system keeps its changes of names in order, and may lose any number of the
last ones. A sync of a file or folder keeps all changes of names up to the last one of that file or folder. Content is
safe once its file was synced. Otherwise it may be there, or only its beginning, or zeros, or nothing. An LMDB commit is
whole or not there; without `metasync`, the last one may be undone.

`record` runs in the program itself, which works in one folder, the world. `iter_states` reads its record.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

META_NBYTES = 2 * 4096
"""LMDB's two meta pages, at the start of its file."""
SYNCS = ("fsync", "fdatasync")
CHANGES = ("rename", "replace", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "write", "pwrite", "ftruncate")
Names = dict[str, int | None]
"""Path in the world -> number of the file, or None for a folder."""


@dataclass
class Record:
    """The events of a program in order, and the contents they name by digest.

    Events: ("names", names), ("content", file, digest), ("sync", file or path of a folder, digest or None),
    ("commit", file, digest, whether its meta page is on disk), ("done", what). Everything before ("start",) is on disk.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)

    def add(self, content: bytes) -> str:
        """Keep a content; returns its digest."""
        digest = sha256(content).hexdigest()
        self.contents[digest] = content
        return digest


class Recorder:
    """Watches the world from inside a program. After every change it notes what has changed."""

    def __init__(self, world: Path) -> None:
        self.record = Record()
        self._world = str(world)
        self._lock = threading.RLock()
        self._names: Names = {}
        self._numbers: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._current: dict[int, str] = {}
        self._count = 0
        self.look()
        for number in list(self._current):
            self._read(number)
            self.record.events.append(("sync", number, self._current[number]))
        self.record.events.append(("start",))

    def watch(self) -> None:
        """Note every call that changes or syncs files from now on."""
        for name in (*SYNCS, *CHANGES):
            self._wrap(os, name, self._after_sync if name in SYNCS else None)
        from stockroom.kv import shared

        self._wrap(shared, "open_databases", lambda _: self._commit(is_whole=True))
        self._wrap(shared.SharedEnvironment, "_update_once", lambda env: self._commit(is_whole=env.options.metasync))
        self._wrap(shared.SharedEnvironment, "sync", lambda _: self._commit(is_whole=True))

    def done(self, *what: object) -> None:
        """Note that something has been reported as done."""
        with self._lock:
            self.look()
            self.record.events.append(("done", *what))

    def _wrap(self, module: Any, name: str, after: Callable[[Any], None] | None) -> None:
        original = getattr(module, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.look()
            try:
                return original(*arguments, **options)
            finally:
                with self._lock:
                    self.look()
                    if after is not None:
                        after(arguments[0])

        setattr(module, name, watched)

    def _after_sync(self, fd: int) -> None:
        found = os.fstat(fd)
        path = os.path.relpath(Path(f"/proc/self/fd/{fd}").readlink(), self._world)
        if stat.S_ISDIR(found.st_mode):
            self.record.events.append(("sync", path, None))
        elif found.st_ino in self._numbers:
            number = self._numbers[found.st_ino]
            self._read(number, fd)
            self.record.events.append(("sync", number, self._current[number]))

    def _commit(self, *, is_whole: bool) -> None:
        """Note the LMDB files that have changed, for the one that has just been committed to is among them."""
        for path, number in self._names.items():
            if path.endswith("data.mdb") and number is not None:
                digest = self.record.add(Path(self._world, path).read_bytes())
                if is_whole or digest != self._current[number]:
                    self._current[number] = digest
                    self.record.events.append(("commit", number, digest, is_whole))

    def look(self) -> None:
        """Note changed names, and changed contents."""
        names: Names = {}
        numbers: dict[int, int] = {}
        for path, entry in _walk(self._world, ""):
            if entry.is_dir(follow_symlinks=False):
                names[path] = None
                continue
            found = entry.stat(follow_symlinks=False)
            number = self._numbers.get(found.st_ino) or numbers.get(found.st_ino)
            if number is None:
                self._count += 1
                number = self._count
            numbers[found.st_ino] = names[path] = number
            if path.endswith("data.mdb"):
                if number not in self._current:
                    self._note(number, bytes(META_NBYTES))  # LMDB orders its writes: content counts once committed
            elif self._seen.get(number) != (found.st_mtime_ns, found.st_size):
                self._seen[number] = found.st_mtime_ns, found.st_size
                self._note(number, Path(self._world, path).read_bytes())
        self._numbers = numbers
        if names != self._names:
            self._names = names
            self.record.events.append(("names", names))

    def _read(self, number: int, fd: int | None = None) -> None:
        if fd is not None:
            self._note(number, os.pread(fd, os.fstat(fd).st_size, 0) if _can_read(fd) else _read_fd(fd))
            return
        path = next(path for path, found in self._names.items() if found == number)
        self._note(number, Path(self._world, path).read_bytes())

    def _note(self, number: int, content: bytes) -> None:
        digest = self.record.add(content)
        if self._current.get(number) != digest:
            self._current[number] = digest
            self.record.events.append(("content", number, digest))


def _can_read(fd: int) -> bool:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY


def _read_fd(fd: int) -> bytes:
    return Path(f"/proc/self/fd/{fd}").read_bytes()


def _walk(world: str, below: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(f"{world}/{below}") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{below}/{entry.name}" if below else entry.name
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                continue
            yield path, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(world, path)


def record(world: Path, out: Path, work: Callable[[Path, Callable[..., None]], None]) -> None:
    """Run `work(world, done)` and write its record to `out`."""
    recorder = Recorder(world)
    recorder.watch()
    work(world, recorder.done)
    recorder.look()
    out.write_bytes(pickle.dumps(recorder.record))


@dataclass(frozen=True)
class State:
    """One state of the disk after a cut: the names, the contents by digest, and what had been reported as done."""

    record: Record
    names: Names
    contents: dict[int, str]
    done: tuple[tuple[Any, ...], ...]
    where: str

    def lay_out(self, world: Path) -> None:
        """Make the files and folders in the empty folder `world`."""
        made: dict[int, Path] = {}
        for path, number in sorted(self.names.items()):
            target = world / path
            if number is None:
                target.mkdir()
            elif number in made:
                os.link(made[number], target)
            else:
                made[number] = target
                target.write_bytes(self.record.contents[self.contents[number]])


class _Disk:
    """What is on disk for certain, and what may be, while the events of a record pass."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.steps: list[Names] = [{}]
        self.current: dict[int, str] = {}
        self.safe: dict[int, list[str]] = {}
        self.barrier = 0
        self.done: list[tuple[Any, ...]] = []
        self.started = False
        self._torn: dict[str, list[str]] = {}

    def take(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("names", names):
                self.steps.append(names)
            case ("content", number, digest):
                self.current[number] = digest
            case ("sync", item, digest):
                self._pass_barrier(item)
                if digest is not None:
                    self.safe[item] = [digest]
            case ("commit", number, digest, is_whole):
                self.current[number] = digest
                self._pass_barrier(number)
                before = self.safe.get(number, [])[-1:]
                undone = [] if is_whole else [self._undo(one, digest) for one in before]
                self.safe[number] = [*undone, digest]
            case ("start",):
                self.steps, self.barrier, self.started = self.steps[-1:], 0, True
            case ("done", *what):
                self.done.append(tuple(what))

    def _undo(self, before: str, after: str) -> str:
        """Return the content of an LMDB file after a commit whose meta page is lost."""
        contents = self._record.contents
        return self._record.add(contents[before][:META_NBYTES] + contents[after][META_NBYTES:])

    def _tear(self, digest: str) -> list[str]:
        if digest not in self._torn:
            content = self._record.contents[digest]
            parts = (bytes(len(content)), content[: len(content) // 2])
            self._torn[digest] = [self._record.add(part) for part in parts]
        return self._torn[digest]

    def _pass_barrier(self, item: int | str) -> None:
        """Keep all changes of names up to the last one of a file or folder."""
        for step in range(len(self.steps) - 1, self.barrier, -1):
            if _find(self.steps[step], item) != _find(self.steps[step - 1], item):
                self.barrier = step
                return

    def choose(self, number: int, how: str, chance: random.Random) -> str:
        """Return the digest of what may be left of a file."""
        now, safe = self.current[number], self.safe.get(number, [])
        lost, torn = safe or [self._record.add(b"")], [] if safe else self._tear(now)
        match how:
            case "lost":
                return lost[0]
            case "zeros":
                return (torn or lost)[0]
            case "kept":
                return now
        return chance.choice([*lost, *torn, now])


def _find(names: Names, item: int | str) -> Names:
    """Return the names of a file, or a folder and its entries."""
    if isinstance(item, int):
        return {path: number for path, number in names.items() if number == item}
    above = "" if item == "." else f"{item}/"
    return {
        path: number
        for path, number in names.items()
        if path == item or (path.startswith(above) and "/" not in path[len(above) :])
    }


def iter_states(record: Record, *, seed: int = 0) -> Iterator[State]:
    """Yield the different states that a cut after any event can leave.

    For each event: all unsynced content lost, zeros in its place, or all of it kept, with the fewest and the most
    changes of names; and one mixture by chance.
    """
    disk, chance, seen = _Disk(record), random.Random(seed), set()
    for at, event in enumerate(record.events):
        disk.take(event)
        if not disk.started:
            continue
        last = len(disk.steps) - 1
        for how in ("lost", "zeros", "kept", "by chance"):
            steps = {chance.randint(disk.barrier, last)} if how == "by chance" else {disk.barrier, last}
            for step in sorted(steps):
                names = disk.steps[step]
                files = sorted({number for number in names.values() if number is not None})
                contents = {number: disk.choose(number, how, chance) for number in files}
                key = sha256(repr((step, contents, len(disk.done))).encode()).digest()
                if key not in seen:
                    seen.add(key)
                    where = f"event {at} {event[0]}, names of step {step} of {last}, content {how}"
                    yield State(record, names, contents, tuple(disk.done), where)


def try_states(states: list[State], world: Path, check: Callable[[Path, State], None]) -> None:
    """Lay out each state in turn and check it; an error says which one it was."""
    for state in states:
        world.mkdir()
        state.lay_out(world)
        try:
            check(world, state)
        except Exception as error:
            error.add_note(f"{state.where}; done: {state.done}; left in {world}")
            raise
        shutil.rmtree(world)

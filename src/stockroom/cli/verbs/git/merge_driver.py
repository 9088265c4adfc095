"""`stock git merge-driver`: called by git to merge two versions of `head.stock`."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb
from stockroom.errors import MergeConflictError, StockroomError

if TYPE_CHECKING:
    from stockroom.repository.head import Head
    from stockroom.repository.repository import Repository


@verb(example="stock git merge-driver .merge_base .merge_ours .merge_theirs 7 head.stock")
def merge_driver(
    console: Console,
    base: Annotated[Path, typer.Argument(help="A file with git's common version.")],
    ours: Annotated[Path, typer.Argument(help="A file with our version, which becomes the merged one.")],
    theirs: Annotated[Path, typer.Argument(help="A file with their version.")],
    marker_nbytes: Annotated[int, typer.Argument(min=1, max=1000, help="How long the marks of a conflict are.")],
    path: Annotated[Path, typer.Argument(help="What the file is called in the work tree.")],
) -> None:
    """Merge two versions of head.stock, as git asks; where that fails, it is left with marks of conflict."""
    from stockroom.repository.git.program import merge_text

    try:
        merged = _merge(console, base, ours, theirs, path)
    except BaseException:
        merge_text(Path.cwd(), ours, base, theirs, marker_nbytes=marker_nbytes)
        raise
    ours.write_text(merged.format(), encoding="utf-8", newline="\n")
    commit = None if merged.commit is None else merged.commit.hex()
    console.say(f"{path}: merged, at {short_id(commit)}")
    console.answer({"path": str(path), "commit": commit})


def _merge(console: Console, base: Path, ours: Path, theirs: Path, path: Path) -> Head:
    from stockroom.repository.head import Head
    from stockroom.repository.merging.merge_driver import Versions, list_missing, merge_versions
    from stockroom.repository.paths import open_paths
    from stockroom.repository.repository import Repository

    our_head, their_head = _read(ours, f"our {path}"), _read(theirs, f"their {path}")
    common = None
    with suppress(StockroomError):  # there may be none, or several that differ
        common = _read(base, f"the common {path}").commit
    with closing(Repository(open_paths((Path.cwd() / path).parent.resolve()))) as repository:
        versions = Versions(common, our_head.commit, their_head.commit)
        if list_missing(repository, versions):
            _fetch(console, repository)
        try:
            merged = merge_versions(repository, versions)
        except MergeConflictError as error:
            raise _explain(error, path, their_head) from error
        return Head(repository.follow(our_head).branch or our_head.branch, merged)


def _fetch(console: Console, repository: Repository) -> None:
    """Fetch the commits that git's other side may name, from `origin`."""
    from stockroom.remotes.fetch import fetch
    from stockroom.remotes.format.remote_file import ORIGIN
    from stockroom.remotes.settings import read_remotes

    if ORIGIN in read_remotes(repository.paths):
        try:
            fetch(repository, ORIGIN)
        except StockroomError as error:  # a missing commit is reported where it is needed
            console.say(f"could not fetch from {ORIGIN}: {error}")


def _read(file: Path, where: str) -> Head:
    from stockroom.repository.head import parse_head

    return parse_head(file.read_text("utf-8", "replace"), where=where)


def _explain(error: MergeConflictError, path: Path, theirs: Head) -> MergeConflictError:
    count = len(error.conflicts)
    commit = theirs.commit.hex() if theirs.commit else "COMMIT"
    return MergeConflictError(
        f"{path}: {str(error).split('; ', 1)[0]}; git is left with {count} to decide: take your side (`git checkout "
        f"--ours -- {path}`), bring in theirs with `stock merge {commit}` and a strategy, or --no-commit and `stock "
        f"resolve`, then `git add {path}` and go on",
        conflicts=error.conflicts,
    )

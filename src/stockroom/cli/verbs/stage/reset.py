"""`stock reset`: discard staged changes, all or by path, and move the branch if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.change import Change, changes_document, changes_of_diff, summary_text
from stockroom.cli.render.commit import short_id
from stockroom.cli.revisions import split_words
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock reset --hard HEAD~1", complete={"words": "words"}, paths=True)
def reset(
    console: Console,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REF] [-- PATH...]",
            help="With --hard or --soft: the commit to move to; HEAD by default. Paths, such as data/label or "
            "data/label/17: unstage only these.",
        ),
    ] = None,
    hard: Annotated[bool, typer.Option("--hard", help="Also move the current branch.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Move the current branch, and keep all its content staged.")
    ] = False,
    paths: Sequence[str] | None = None,
) -> None:
    """Discard staged changes and a merge in progress. With paths, discard only the changes there.

    With --hard, also move the branch to REF; with --soft, move the branch and keep the content staged.
    """
    with console.open_stock() as stock:
        revisions, limits = split_words(stock, words or [], paths)
        if len(revisions) > 1 or (limits and (hard or soft)) or (hard and soft):
            raise CommandLineError("expected one REF with --hard or --soft, or paths without them")
        ref = revisions[0] if revisions else None
        if limits:
            _check_head(stock, ref, "paths are reset to HEAD")
            _reset_paths(console, stock, limits)
            return
        if ref is not None and not (hard or soft):
            _check_head(stock, ref, "REF needs --hard, which moves the branch and discards staged changes, or --soft")
        _reset_all(console, stock, (ref or "HEAD") if soft else ref if hard else None, soft=soft)


def _reset_all(console: Console, stock: StockRoom, ref: str | None, *, soft: bool) -> None:
    """Discard everything staged, and move the branch to `ref` unless it is None; with `soft`, keep the content."""
    changes = [] if soft else changes_of_diff(stock.status().changes)
    old = stock.commit_id
    if ref is None:
        stock.reset()
    else:
        stock.reset_to(ref, keep_stage=soft)
    _tell(console, stock, changes, old, is_moved=ref is not None)


def _check_head(stock: StockRoom, ref: str | None, why: str) -> None:
    if ref is not None and next(stock.log(ref, 1)).id != stock.commit_id:
        raise CommandLineError(f"{why}, found {ref!r}")


def _reset_paths(console: Console, stock: StockRoom, paths: Sequence[str]) -> None:
    changes = changes_of_diff(stock.diff(paths=paths))
    stock.reset(*paths)
    console.say(f"unstaged: {summary_text(changes)}" if changes else "nothing was staged there")
    console.answer({"dropped": changes_document(changes), "branch": stock.branch, "commit": stock.commit_id})


def _tell(console: Console, stock: StockRoom, changes: list[Change], old: str | None, *, is_moved: bool) -> None:
    dropped = f"discarded: {summary_text(changes)}" if changes else "nothing was staged"
    if changes and not is_moved:
        dropped += "; `stock undo` restores them"
    if is_moved:
        branch_name = f"branch {stock.branch}" if stock.branch else "HEAD"
        was = "at no commit" if old is None else short_id(old)
        dropped += f"; {branch_name} is at {short_id(stock.commit_id)} (was {was}), `stock undo` restores that"
    console.say(dropped)
    console.answer({"dropped": changes_document(changes), "branch": stock.branch, "commit": stock.commit_id})

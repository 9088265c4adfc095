"""`stock merge`: merge another branch or commit into the branch that is checked out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.merging import outcome_document, run_merge, tell_conflicts
from stockroom.cli.options import (
    ChoiceOption,
    MessageOption,
    NoCommitOption,
    NoEditOption,
    StrategyOption,
    join_message,
    parse_strategy,
)
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.render.conflict import iter_merge_lines, merge_document
from stockroom.cli.verb import verb
from stockroom.errors import MergeConflictError, NotFoundError

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock merge relabel --strategy theirs", complete={"ref": "refs"})
def merge(
    console: Console,
    ref: Annotated[str | None, typer.Argument(help="A branch, tag or commit, such as dev or origin/main.")] = None,
    message: MessageOption = None,
    no_commit: NoCommitOption = False,
    no_edit: NoEditOption = False,  # noqa: ARG001
    no_ff: Annotated[bool, typer.Option("--no-ff", help="Create a commit even if a fast-forward is possible.")] = False,
    ff_only: Annotated[bool, typer.Option("--ff-only", help="Fast-forward, or refuse to merge.")] = False,
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
    continue_: Annotated[bool, typer.Option("--continue", help="Commit the merge in progress.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Abort the merge in progress.")] = False,
) -> None:
    """Merge a branch or commit into the current branch.

    Samples merge by key, models by tensor, metrics by step. If there are conflicts, list them and change
    nothing. Without arguments, show the merge in progress.
    """
    if sum((ref is not None, continue_, abort)) > 1:
        raise CommandLineError("REF, --continue and --abort cannot be combined")
    with console.open_stock() as stock:
        if continue_:
            _continue(console, stock, join_message(message))
        elif abort:
            _abort(console, stock)
        elif ref is None:
            _show(console, stock)
        else:
            chosen, text = parse_strategy(strategy, choice), join_message(message)
            how = _choose_fast_forward(no_ff=no_ff, ff_only=ff_only)
            start_merge = partial(stock.merge, ref, text, chosen, commit=not no_commit, fast_forward=how)
            run_merge(console, stock, ref, start_merge)


def _choose_fast_forward(*, no_ff: bool, ff_only: bool) -> Literal["if possible", "never", "only"]:
    if no_ff and ff_only:
        raise CommandLineError("--no-ff and --ff-only cannot be combined")
    return "never" if no_ff else "only" if ff_only else "if possible"


def _continue(console: Console, stock: StockRoom, message: str | None) -> None:
    branch, old = stock.branch, stock.commit_id
    unfinished = stock.find_merge()
    try:
        commit_id = stock.continue_merge(message)
    except MergeConflictError as error:
        theirs = None if unfinished is None else unfinished.commit
        tell_conflicts(console, error, branch=branch, commit_id=old, theirs=theirs)
        raise
    subject = subject_of(message or (unfinished.message if unfinished else ""))
    console.say(f"[{branch} {short_id(commit_id)}] {subject}")
    console.answer(outcome_document("merged", branch=branch, old=old, commit_id=commit_id), [commit_id])


def _abort(console: Console, stock: StockRoom) -> None:
    unfinished = stock.find_merge()
    stock.abort_merge()
    if unfinished is None:  # it began in the meantime
        raise NotFoundError("no merge was in progress")
    console.say(f"aborted the {unfinished.kind}; nothing is staged")
    console.answer({"aborted": merge_document(unfinished)})


def _show(console: Console, stock: StockRoom) -> None:
    unfinished = stock.find_merge()
    if unfinished is None:
        console.say("no merge is in progress; `stock merge REF` starts one")
    lines = () if unfinished is None else iter_merge_lines(unfinished, stock.commit_id)
    console.answer({"merge": merge_document(unfinished)}, lines)

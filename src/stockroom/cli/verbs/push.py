"""`stock push`: push branches and tags to a remote."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.options import RemoteArgument
from stockroom.cli.render.operation import format_move, move_document
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import RemoteRepairReport


@verb(example="stock push -u origin main", complete={"remote": "remotes", "refs": "refs"})
def push(
    console: Console,
    remote: RemoteArgument = None,
    refs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REF]...",
            help="Branches or tags, or SOURCE:NAME; the current branch by default; :NAME deletes it there.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Move the remote's branch even if it loses commits, or its tag.")
    ] = False,
    force_with_lease: Annotated[
        bool,
        typer.Option(
            "--force-with-lease", help="As --force, but refuse if the branch has moved since your last fetch."
        ),
    ] = False,
    lease: Annotated[
        list[str] | None,
        typer.Option(
            "--lease",
            metavar="REF[:COMMIT]",
            help="The same for one branch, or for a commit that it must be at; also --force-with-lease=REF:COMMIT.",
        ),
    ] = None,
    set_upstream: Annotated[
        bool, typer.Option("-u", "--set-upstream", help="Make it the branch that pull and push without arguments use.")
    ] = False,
    all_branches: Annotated[bool, typer.Option("--all", help="Push all branches.")] = False,
    tags: Annotated[bool, typer.Option("--tags", help="Push all tags too.")] = False,
    delete: Annotated[bool, typer.Option("-d", "--delete", help="Delete these branches or tags there.")] = False,
    allow_new_remote: Annotated[
        bool, typer.Option("--allow-new-remote", help="Start a new remote if the one there before is gone.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="First verify the remote, and resend damaged or lost parts.")
    ] = False,
) -> None:
    """Push branches and tags to a remote: all of them, or none. Only content that the remote lacks is sent."""
    repaired = _repair(console, remote or "origin") if repair else None
    leases = [*([""] if force_with_lease else []), *(lease or [])]
    with console.open_stock() as stock, console.transfer("push") as show:
        report = stock.push(
            remote,
            refs or None,
            force,
            tags=tags,
            all_branches=all_branches,
            delete=delete,
            set_upstream=set_upstream,
            force_with_lease=leases,
            allow_new_remote=allow_new_remote,
            on_progress=show,
        )
    moved = [move_document(update.ref, update.old, update.new) for update in report.moved]
    upstreams = dict(report.upstreams)
    document = {"remote": report.remote, "moved": moved, "packs": report.packs, "nbytes": report.nbytes}
    document |= {"upstreams": upstreams}
    console.answer(document if repaired is None else document | {"repair": asdict(repaired)})
    for update in report.moved:
        console.say(format_move(update.ref, update.old, update.new))
    sent = f"{format_count(report.packs, 'pack')}, {format_nbytes(report.nbytes)} sent to {report.remote}"
    console.say(sent if report.moved else "everything up to date")
    for branch, upstream in upstreams.items():
        console.say(f"branch {branch} now tracks {upstream}")
    if repaired is not None and not repaired.ok:
        raise typer.Exit(exit_codes.CORRUPTION if repaired.left else exit_codes.UNREADABLE)


def respell(words: list[str]) -> list[str]:
    """Return a command line with git's `--force-with-lease=REF` as `--lease=REF`: its value may be left out."""
    spelled, new = "--force-with-lease=", "--lease="
    return [new + word.removeprefix(spelled) if word.startswith(spelled) else word for word in words]


push.respell = respell  # type: ignore[attr-defined] # as `example`, for `load_verb`


def _repair(console: Console, remote: str) -> RemoteRepairReport:
    """Repair a remote, and print its damage and the repairs."""
    with console.open_stock(needs_head=False) as stock, console.progress("verify") as progress:
        report = stock.repair_remote(remote, on_verify=lambda done, total: progress.update("packs", done, total=total))
    for line in (*report.done, *(f"still damaged: {damage}" for damage in report.left), *map(str, report.unchecked)):
        console.say(line)
    console.say(f"{format_count(len(report.found), 'problem')} found on {remote}, {len(report.left)} left")
    return report

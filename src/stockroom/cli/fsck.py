"""`stock fsck`: check digests, trees and refs."""

from __future__ import annotations

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.verb import verb


@verb
def fsck(console: Console) -> None:
    """Check every digest, tree and ref; exits with 15 and names what is damaged."""
    with console.open_stock() as stock, console.progress("fsck"):
        report = stock.verify()
    problems = [str(problem) for problem in report.problems]
    if console.json:
        console.document({"ok": not problems, "problems": problems})
    else:
        console.lines(problems)
    if problems:
        raise typer.Exit(exit_codes.CORRUPTION)
    console.say("no damage found")

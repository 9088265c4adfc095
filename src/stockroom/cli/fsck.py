"""`stock fsck`: check digests, trees and refs."""

from __future__ import annotations

from dataclasses import asdict

import typer

from stockroom.cli import exit_codes
from stockroom.cli.console import Console
from stockroom.cli.units import format_count
from stockroom.cli.verb import verb


@verb
def fsck(console: Console) -> None:
    """Check every digest, tree and ref; exits with 15 and names what is damaged."""
    with console.open_stock() as stock, console.progress("fsck") as progress:
        report = stock.verify(on_progress=lambda done, total: progress.update("packs", done, total=total))
    looked_at = {"packs": report.packs, "commits": report.commits, "objects": report.objects, "chunks": report.chunks}
    if console.json:
        console.document({"ok": report.ok, "checked": looked_at, "damage": [asdict(item) for item in report.damage]})
    else:
        console.lines(str(item) for item in report.damage)
    counts = ", ".join(format_count(count, name.removesuffix("s")) for name, count in looked_at.items())
    console.say(f"checked {counts}: {format_count(len(report.damage), 'problem')} found")
    if not report.ok:
        raise typer.Exit(exit_codes.CORRUPTION)

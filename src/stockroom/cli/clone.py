"""`stock clone`: a new repository from a remote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.commit_text import short_id
from stockroom.cli.console import Console
from stockroom.cli.transfer import EndpointOption, RegionOption, watch_transfer
from stockroom.cli.units import format_part
from stockroom.cli.verb import verb


@verb
def clone(
    console: Console,
    url: Annotated[str, typer.Argument(help="A folder, or a URL of s3, gs, az, https or http.")],
    directory: Annotated[Path | None, typer.Argument(help="A new folder; named as the URL ends if left out.")] = None,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Leave samples there until they are read.")
    ] = False,
    ref: Annotated[str | None, typer.Option(help="The branch or tag to check out.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Keep only so many commits.")] = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Clone a repository. Run it again after it was cut off: it goes on where it stopped."""
    from stockroom import StockRoom

    target = directory or Path(url.rstrip("/").rpartition("/")[2] or "clone")
    with (
        watch_transfer(console, "clone") as show,
        StockRoom.clone(
            url,
            target,
            metadata_only,
            ref,
            depth=depth,
            endpoint_url=endpoint_url,
            region=region,
            on_progress=show,
        ) as stock,
    ):
        presence, commit, branch = stock.measure_presence(), stock.commit_id, stock.branch
    if console.json:
        console.document(
            {
                "path": str(stock.path),
                "branch": branch,
                "commit": commit,
                "nbytes": presence.nbytes,
                "present_nbytes": presence.present_nbytes,
            }
        )
        return
    where = f"{branch or 'no branch'} at {short_id(commit) if commit else 'no commit yet'}"
    console.say(f"cloned into {target}, on {where}; here: {format_part(presence.present_nbytes, presence.nbytes)}")

"""`stock clone`: clone a remote to a new repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import EndpointOption, RegionOption
from stockroom.cli.render.commit import short_id
from stockroom.cli.render.units import format_part
from stockroom.cli.verb import verb
from stockroom.cli.verbs.fetch import tell_left_out

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.remotes.progress import OnProgress


@verb(example="stock clone s3://bucket/pets --metadata-only")
def clone(
    console: Console,
    url: Annotated[
        str | None, typer.Argument(help="A folder, also of another repository, or an s3, gs, az, https or http URL.")
    ] = None,
    directory: Annotated[Path | None, typer.Argument(help="A new folder; by default named after the URL.")] = None,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Fetch samples only when they are read.")
    ] = False,
    here: Annotated[
        bool,
        typer.Option("--here", help="In a git clone: clone the data of head.stock, from URL or remote.stock."),
    ] = False,
    ref: Annotated[str | None, typer.Option("-b", "--branch", "--ref", help="The branch or tag to check out.")] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Clone only this many commits, of one branch unless --no-single-branch.")
    ] = None,
    single_branch: Annotated[
        bool | None, typer.Option("--single-branch/--no-single-branch", help="Follow only that branch, or all.")
    ] = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Clone a repository. To resume an interrupted clone, run the same command again."""
    if here and (directory is not None or ref is not None or single_branch is not None):
        raise CommandLineError(
            "--here cannot be combined with a folder, --branch or --single-branch: it clones into this folder, at its "
            "head.stock"
        )
    if url is None and not here:
        raise CommandLineError("expected the URL or folder to clone, found none; --here reads it from remote.stock")
    options = {"depth": depth, "endpoint_url": endpoint_url, "region": region}
    with console.transfer("clone") as show:
        if here:
            opened = _clone_here(console, url, metadata_only, options, show)
        else:
            opened = _clone(url or "", directory, metadata_only, ref, options | {"single_branch": single_branch}, show)
        with opened as stock:
            presence, commit, branch = stock.measure_presence(), stock.commit_id, stock.branch
            left_out = stock.list_left_out()
    sizes = {"nbytes": presence.nbytes, "present_nbytes": presence.present_nbytes}
    console.answer({"path": str(stock.path), "branch": branch, "commit": commit, **sizes})
    tell_left_out(console, "origin", left_out)
    where = f"{branch or 'no branch'} at {short_id(commit) if commit else 'no commit yet'}"
    folder = directory or stock.path.name
    console.say(f"cloned into {folder}, on {where}; present: {format_part(presence.present_nbytes, presence.nbytes)}")


def _clone(
    url: str, directory: Path | None, metadata_only: bool, ref: str | None, options: dict[str, Any], show: OnProgress
) -> StockRoom:
    from stockroom import StockRoom

    target = directory or Path(url.rstrip("/").removesuffix("/.stockroom").rpartition("/")[2] or "clone")
    return StockRoom.clone(url, target, metadata_only, ref, on_progress=show, **options)


def _clone_here(
    console: Console, url: str | None, metadata_only: bool, options: dict[str, Any], show: OnProgress
) -> StockRoom:
    """Clone beside the `head.stock` of this folder; first print the URL that this contacts."""
    from stockroom import StockRoom
    from stockroom.shelves.stock.remotes import choose_remote, locate_head

    if url is None:
        found = choose_remote(locate_head(Path()), None, endpoint_url=None, region=None)
        console.say(f"cloning from {found.url}, which remote.stock names")
    return StockRoom.clone_here(Path(), url, metadata_only, on_progress=show, **options)

"""`stock remote`: list, add, change, rename and remove remotes."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import EndpointOption, RegionOption
from stockroom.cli.verb import verb

_USAGE = {
    "list": "stock remote [list]",
    "add": "stock remote add NAME URL",
    "get-url": "stock remote get-url NAME",
    "set-url": "stock remote set-url NAME URL",
    "rename": "stock remote rename OLD NEW",
    "remove": "stock remote remove NAME",
    "trust": "stock remote trust NAME",
}


@verb(example="stock remote add origin s3://bucket/pets", complete={"name": "remotes"})
def remote(
    console: Console,
    action: Annotated[
        str,
        typer.Argument(
            help="list, add NAME URL, get-url NAME, set-url NAME URL, rename OLD NEW, remove NAME, or trust NAME."
        ),
    ] = "list",
    name: Annotated[str | None, typer.Argument(help="The remote's name.")] = None,
    url: Annotated[
        str | None, typer.Argument(help="A folder, or an s3, gs, az, https or http URL; or the new name.")
    ] = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """List, add, change, rename, remove or trust remotes.

    Never give credentials here: they are read from the environment or the provider's own files.

    Hosts that you name here are trusted. If the settings of a remote came with a copied folder or from git, its host is
    contacted, with your credentials, only after `stock remote trust NAME`.
    """
    action = "remove" if action == "rm" else action
    takes = {"list": 0, "add": 2, "get-url": 1, "set-url": 2, "rename": 2, "remove": 1, "trust": 1}
    if action not in takes:
        raise CommandLineError(f"expected one of {', '.join(takes)}, found {action!r}")
    if sum(value is not None for value in (name, url)) != takes[action]:
        raise CommandLineError(f"expected `{_USAGE[action]}`")
    with console.open_stock(needs_head=False) as stock:
        if action == "list":
            remotes = stock.remotes.items()
            listed = [{"name": each, "url": its_url} for each, its_url in remotes]
            console.answer({"remotes": listed}, (f"{each}\t{its_url}" for each, its_url in remotes))
            return
        assert name is not None
        if action == "get-url":
            found = stock.get_remote_url(name)
            console.answer({"action": action, "remote": name, "url": found}, [found])
            return
        if action == "trust":
            host = stock.trust_remote(name)
            console.say(f"{host} is now trusted" if host else f"remote {name} is on no host that needs to be trusted")
        elif action == "remove":
            stock.remove_remote(name)
        elif action == "rename":
            stock.rename_remote(name, url or "")
            name = url or ""
        else:
            change = stock.add_remote if action == "add" else stock.set_remote
            change(name, url or "", endpoint_url=endpoint_url, region=region)
        console.answer({"action": action, "remote": name, "url": stock.remotes.get(name)})

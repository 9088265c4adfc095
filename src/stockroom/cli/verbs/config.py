"""`stock config`: show or change the repository's own settings."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.verb import verb

Value: TypeAlias = str | bool | float | None


@verb(example="stock config user.name 'Ada Lovelace'", complete={"key": "settings"})
def config(
    console: Console,
    key: Annotated[str | None, typer.Argument(help="A setting such as user.name; all by default.")] = None,
    value: Annotated[str | None, typer.Argument(help="The new value.")] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Remove KEY, so that its default applies.")] = False,
    list_: Annotated[bool, typer.Option("-l", "--list", help="List the settings.")] = False,
) -> None:
    """Show or change this repository's settings.

    The settings are user.name, user.email, fetch.lazy and fetch.timeout. The environment and a command's options
    override them. For remotes, use `stock remote`.
    """
    if (list_ and (key is not None or unset)) or (unset and (key is None or value is not None)):
        raise CommandLineError("expected KEY, KEY VALUE, --unset KEY or --list; do one thing at a time")
    from stockroom.repository.config import get_setting  # here for start-up time

    with console.open_stock(needs_head=False) as stock:
        if key is not None and (unset or value is not None):
            stock.change_setting(key, value)
        settings = stock.settings
        shown = settings if key is None else {key.lower(): settings[get_setting(key).name]}
    document, known = {"settings": dict(shown)}, {name: value for name, value in shown.items() if value is not None}
    if key is None:
        console.answer(document, (f"{name}={format_setting(setting)}" for name, setting in known.items()))
        if unset_names := [name for name in shown if name not in known]:
            console.say(f"not set: {', '.join(unset_names)}")
    elif value is None and not unset:
        console.answer(document, map(format_setting, known.values()))
        if not known:
            console.say(f"{key} is not set")
    else:
        console.answer(document)


def format_setting(value: Value) -> str:
    """Return a setting as it is typed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)

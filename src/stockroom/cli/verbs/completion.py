"""`stock completion`: the script that has a shell complete verbs, options and names."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.completion import SHELLS, make_script
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.verb import verb


@verb
def completion(
    console: Console,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Which shell's.")],
) -> None:
    """Print the script that has a shell complete verbs, options, refs, columns and models.

    For bash, put source <(stock completion bash) into ~/.bashrc; for zsh the like into ~/.zshrc, after compinit; for
    fish, stock completion fish | source into config.fish.
    """
    if shell not in SHELLS:
        raise CommandLineError(f"expected one of {', '.join(SHELLS)}, found {shell!r}")
    script = make_script(shell)
    if console.json:
        console.document({"shell": shell, "script": script})
    else:
        console.line(script)

"""`stock completion`: print the script that lets a shell complete verbs, options and names."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.global_options import COMPLETE_VARIABLE
from stockroom.cli.verb import verb

PROGRAMS: Final = ("stock", "stockroom")
SHELLS: Final = ("bash", "zsh", "fish")

_BASH: Final = """\
_stock_completion() {
    local IFS=$'\\n' words=() word last=""
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do  # bash splits REV:PATH at its colon: join it again
        if [[ -n $last && ($word == :* || $last == *:) ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        last=${words[${#words[@]}-1]}
    done
    COMPREPLY=($(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _STOCK_COMPLETE=complete_bash \\
        "$1" 2>/dev/null))
    if [[ $last == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${last%:*}:"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -o default -F _stock_completion stock stockroom"""


@verb(example="stock completion bash >> ~/.bashrc")
def completion(
    console: Console, shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")]
) -> None:
    """Print a completion script for a shell.

    It completes verbs, options, refs, columns and models.

    For bash, add source <(stock completion bash) to ~/.bashrc. For zsh, add source <(stock completion zsh) to ~/.zshrc,
    after compinit. For fish, add stock completion fish | source to config.fish.
    """
    if shell not in SHELLS:
        raise CommandLineError(f"expected one of {', '.join(SHELLS)}, found {shell!r}")
    script = _make_script(shell)
    console.answer({"shell": shell, "script": script}, script.split("\n"))


def _make_script(shell: str) -> str:
    """Return the script for one of `SHELLS`."""
    if shell == "bash":
        return _BASH
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # typer does not list it

    return "\n".join(
        get_completion_script(prog_name=name, complete_var=COMPLETE_VARIABLE, shell=shell) for name in PROGRAMS
    )

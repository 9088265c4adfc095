"""The scripts that have shells complete verbs, options and names, and the answers they ask for."""

from __future__ import annotations

from typing import Final

from stockroom.cli.global_options import COMPLETE_VARIABLE

PROGRAMS: Final = ("stock", "stockroom")
SHELLS: Final = ("bash", "zsh", "fish")

_BASH: Final = """\
_stock_completion() {
    local IFS=$'\\n' words=() word last=""
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do  # bash cuts REV:PATH at its colon: put it together again
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


def make_script(shell: str) -> str:
    """The script for one of `SHELLS`."""
    if shell == "bash":
        return _BASH
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # typer does not list it

    return "\n".join(
        get_completion_script(prog_name=name, complete_var=COMPLETE_VARIABLE, shell=shell) for name in PROGRAMS
    )


def answer_shell() -> None:
    """Print what a script asked for through the environment, and exit."""
    from typer.completion import completion_init  # type: ignore[attr-defined] # typer does not list it

    from stockroom.cli.app import make_program

    completion_init()
    make_program().main(args=[], prog_name=PROGRAMS[0], complete_var=COMPLETE_VARIABLE)

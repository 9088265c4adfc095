"""Every verb's help ends with a real example, and every example is a command line that the verb understands."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from stockroom.cli import main
from stockroom.cli.app import GROUPS, VERBS, make_program
from stockroom.cli.examples import EXAMPLES, PROGRAM_EXAMPLE

BELOW = {
    module.replace(".", "_").removesuffix("_"): f"{group} {name}"
    for group, entry in GROUPS.items()
    for name, module in entry.verbs.items()
}
PATHS = {module: name for name, module in VERBS.items()} | BELOW | {name: name for name in GROUPS}


def find_command(words: list[str]) -> tuple[Any, Any, list[str]]:
    """The command that these words call, the context above it, and the words left to it."""
    program = make_program()
    context = program.make_context("stock", list(words), resilient_parsing=True)
    command, name = program, ""
    while hasattr(command, "list_commands"):
        name, words = words[0], words[1:]
        command = command.get_command(context, name)
        assert command is not None
    return command, context, words


def test_every_verb_and_group_has_an_example_and_nothing_else_does() -> None:
    assert set(EXAMPLES) == set(PATHS)


@pytest.mark.parametrize("module", EXAMPLES)
def test_help_ends_with_the_example(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PATHS[module].split(), "--help"]) == 0
    *_, heading, example = capsys.readouterr().out.rstrip().splitlines()
    assert (heading.strip(), example.strip()) == ("Example:", EXAMPLES[module])


@pytest.mark.parametrize("example", [*EXAMPLES.values(), PROGRAM_EXAMPLE])
def test_examples_parse(example: str) -> None:
    words = shlex.split(example.partition(" >> ")[0])
    assert words[0] == "stock"
    command, parent, rest = find_command(words[1:])
    command.make_context(words[1], rest, parent=parent)  # raises for what it does not understand


@pytest.mark.parametrize("module", [module for module in EXAMPLES if module not in GROUPS])
def test_examples_call_their_own_verb(module: str) -> None:
    assert EXAMPLES[module].startswith(f"stock {PATHS[module]}")

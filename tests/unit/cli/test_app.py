"""Every verb's help ends with a real example, and every example is a command line that the verb understands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from stockroom.cli import main
from stockroom.cli.app import EXAMPLE, GROUPS, VERBS, make_program
from stockroom.cli.global_options import COMPLETE_VARIABLE


def find_example(module: str) -> str:
    """The example of the verb in a module."""
    function = getattr(import_module(f"stockroom.cli.verbs.{module}"), module.rpartition(".")[2])
    return str(function.example)


MODULES = VERBS | {f"{group} {name}": module for group, own in GROUPS.items() for name, module in own.verbs.items()}
GROUP_EXAMPLES = {name: group.example for name, group in GROUPS.items()}
VERB_EXAMPLES = {path: find_example(module) for path, module in MODULES.items()}
EXAMPLES = VERB_EXAMPLES | GROUP_EXAMPLES


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


@pytest.mark.parametrize("path", EXAMPLES)
def test_help_ends_with_the_example(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path.split(), "--help"]) == 0
    *_, heading, example = capsys.readouterr().out.rstrip().splitlines()
    assert (heading.strip(), example.strip()) == ("Example:", EXAMPLES[path])


@pytest.mark.parametrize("example", [*EXAMPLES.values(), EXAMPLE])
def test_examples_parse(example: str) -> None:
    words = shlex.split(example.partition(" >> ")[0])
    assert words[0] == "stock"
    command, parent, rest = find_command(words[1:])
    command.make_context(words[1], rest, parent=parent)  # raises for what it does not understand


@pytest.mark.parametrize("path", VERB_EXAMPLES)
def test_examples_call_their_own_verb(path: str) -> None:
    assert EXAMPLES[path].startswith(f"stock {path}")


def test_everything_that_verbs_have_a_shell_complete_exists() -> None:
    loads = "".join(f"import stockroom.cli.verbs.{module};" for module in MODULES.values())
    subprocess.run([sys.executable, "-c", loads], env={**os.environ, COMPLETE_VARIABLE: "complete_bash"}, check=True)

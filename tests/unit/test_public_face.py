"""What programs import: the package itself has every name that they need."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import stockroom
from stockroom import Column, DataShelf, ExperimentShelf, ModelShelf, Session, State, StockRoom, errors

HANDLES_AND_SHELVES = (StockRoom, Session, DataShelf, Column, ModelShelf, State, ExperimentShelf)
OF_OTHER_ROOMS = {
    "Column.read_ahead",
    "DataShelf.get_edit",
    "DataShelf.take_out",
    "MetricSummary.tree",
    "State.get_leaf",
}
"""Methods and attributes that other rooms of the library use; programs need no name of what these give."""


def read_namespace(module: str) -> dict[str, Any]:
    """The names that a module's annotations may use, those imported for the type checker alone too."""
    namespace = dict(vars(importlib.import_module(module)))
    for node in ast.parse(inspect.getsource(importlib.import_module(module))).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(ast.unparse(ast.Module(node.body, [])), namespace)
    return namespace


def iter_given(owner: type) -> Iterator[tuple[str, object]]:
    """The types that a class gives, as (where, type): by methods and properties, of a report by its fields."""
    for base in owner.__mro__:
        if not base.__module__.startswith("stockroom."):
            continue
        namespace = read_namespace(base.__module__)
        for field in dataclasses.fields(base) if dataclasses.is_dataclass(base) else ():
            if not field.name.startswith("_"):
                yield f"{owner.__name__}.{field.name}", eval(str(field.type), namespace)
        for name, member in vars(base).items():
            function = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
            is_shown = name == "__getitem__" or (owner in HANDLES_AND_SHELVES and not name.startswith("_"))
            if is_shown and inspect.isfunction(function):
                yield f"{owner.__name__}.{name}", eval(function.__annotations__["return"], namespace)


def iter_classes(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from iter_classes(part)


def find_given() -> dict[type, str]:
    """Our classes that handles and shelves give, and those in what they give, each with one place."""
    found: dict[type, str] = {}
    waiting: list[type] = list(HANDLES_AND_SHELVES)
    while waiting:
        for where, annotation in iter_given(waiting.pop()):
            for each in iter_classes(annotation):
                if each.__module__.startswith("stockroom.") and each not in found and where not in OF_OTHER_ROOMS:
                    found[each] = where
                    waiting.append(each)
    return found


def test_every_class_that_handles_and_shelves_give_can_be_imported_from_the_package() -> None:
    found = find_given()
    assert {stockroom.Status, stockroom.ColumnDiff, stockroom.Conflict, stockroom.Damage, stockroom.Series} <= {*found}
    missing = {each.__name__: where for each, where in found.items() if each.__name__ not in stockroom.__all__}
    assert not missing
    assert all(getattr(stockroom, each.__name__) is each for each in found)


def test_the_names_of_the_package_are_sorted_and_all_there() -> None:
    assert stockroom.__all__ == sorted(set(stockroom.__all__)) == dir(stockroom)
    assert {*errors.__all__} <= {*stockroom.__all__}
    assert all(hasattr(stockroom, name) for name in stockroom.__all__)


def test_importing_the_package_loads_neither_numpy_nor_torch_nor_a_room_of_its_own() -> None:
    needless = ("numpy", "torch", "lmdb", "stockroom.")
    probe = f"import sys, stockroom; print(sorted(name for name in sys.modules if name.startswith({needless})))"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert answer.stdout == "['stockroom.errors', 'stockroom.lazy_names']\n"


def test_the_package_itself_runs_as_the_command_line(tmp_path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stockroom", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert run("--version").stdout.startswith(f"stock {stockroom.__version__}")
    refused = run("log")
    assert (refused.returncode, refused.stdout, refused.stderr.startswith("stock: ")) == (10, "", True)
    assert run("init").returncode == 0
    assert run("status").returncode == 0

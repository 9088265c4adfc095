"""Names: a class name stands once in the source, and a function called `find_` may return None."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "stockroom"

CLASSES_OF_ONE_NAME: dict[str, str] = {}
"""Class names that may be defined several times, each with the reason."""
FIND_WITHOUT_NONE = {"importers.restricted_pickle.find_class": "overrides the method of pickle.Unpickler"}
"""Functions called `find_` that always return something, each with the reason."""


def iter_nodes() -> Iterator[tuple[str, ast.AST]]:
    """Every node of every module, with the module's name in the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            yield module, node


def may_be_none(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Constant(None):
            return True
        case ast.BinOp(left, ast.BitOr(), right):
            return may_be_none(left) or may_be_none(right)
        case ast.Subscript(ast.Name("Optional")):
            return True
    return False


def test_no_class_name_is_defined_twice() -> None:
    modules = defaultdict(list)
    for module, node in iter_nodes():
        if isinstance(node, ast.ClassDef):
            modules[node.name].append(module)
    twice = {name: found for name, found in modules.items() if len(found) > 1}
    assert len(modules) > 100
    assert {name: found for name, found in twice.items() if name not in CLASSES_OF_ONE_NAME} == {}
    assert CLASSES_OF_ONE_NAME.keys() <= twice.keys()


def test_what_is_called_find_may_return_none() -> None:
    found, others = 0, set()
    for module, node in iter_nodes():
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith("find_"):
            found += 1
            if not may_be_none(node.returns):
                others.add(f"{module}.{node.name}")
    assert found > 20
    assert others == FIND_WITHOUT_NONE.keys()

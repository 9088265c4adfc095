"""The laws of the house: who imports whom, how large a module and a folder may be, and where its tests are."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parents[1] / "src"
PACKAGE = "stockroom"

MAX_MODULES_A_FOLDER = 32
MAX_LINES = 400
MIN_LINES = 40
KEPT_APART = "Kept apart:"
"""Begins the line of a module's docstring that says why it is so small and yet not a part of its one importer."""

TESTS_OF_NO_MODULE = {
    "test_imports": "is about all of them",
    "test_names": "is about all of them",
    "test_public_face": "is about the names that the package itself gives",
    "content/test_state_diff": "is the part of the tests of content.diff that is about states",
    "importers/test_archives": "is about web_dataset, zarr_arrays and safetensors_files, which are tested alike",
    "importers/test_tables": "is about csv_files, parquet_files and hugging_face, which are tested alike",
    "repository/test_asks": "counts what commits and merges ask, across modules",
    "repository/upkeep/test_verify_states": "is the part of the tests of verify that is about states",
}
"""Test files of `tests/unit` that are named for no module, each with the reason."""
TESTED_ELSEWHERE = {
    "cli.verbs": "tests/integration runs every verb",
    "cli.verbs.exp": "tests/integration/test_cli_exp.py runs them",
    "cli.verbs.git": "tests/integration/test_git_install.py runs them",
    "cli.verbs.history": "tests/integration/test_git_hands.py and test_stash_and_blame.py run them",
    "cli.verbs.model": "tests/integration/test_cli_model.py runs them",
    "cli.verbs.operations": "tests/integration/test_where_one_is.py runs them",
    "cli.verbs.stage": "tests/integration/test_git_hands.py runs them",
    "cli.verbs.stash": "tests/integration/test_git_hands.py and test_stash_and_blame.py run them",
    "importers.torchvision": "tests/unit/importers/test_vision.py reads by them",
    "repository.merging": "tests/integration/test_scenario_merge.py merges by them",
    "shelves.stock": "tests/integration/test_scenario_*.py and test_sessions.py use its handles",
    "testing": "is what tests are made of",
}
"""Packages without a folder in `tests/unit`, each with the reason."""


@dataclass(frozen=True)
class Module:
    """A module of the source, or a package's `__init__`."""

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        return len(self.path.read_text().splitlines())

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())


def find_name(path: Path) -> str:
    """`stockroom.kv.gate` for its file, `stockroom.kv` for that of the package."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def read_modules() -> dict[str, Module]:
    """Every module and package by its full name."""
    found = [Module(find_name(path), path) for path in sorted((SOURCE / PACKAGE).rglob("*.py"))]
    return {module.name: module for module in found}


def find_imports(module: Module, modules: Collection[str]) -> Iterator[str]:
    """The modules that one imports anywhere in it: in functions and under TYPE_CHECKING too.

    A name that a package's `__init__` gives counts as the package, a submodule only as itself.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_origin(node, module)
            for alias in node.names:
                submodule = f"{origin}.{alias.name}"
                if submodule in modules:
                    yield submodule
                elif origin in modules:
                    yield origin


def resolve_origin(node: ast.ImportFrom, module: Module) -> str:
    """The full name of what `from ... import` names, relative or not."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*base, *filter(None, [node.module])])


@cache
def read_graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    modules = read_modules()
    return {name: set(find_imports(module, modules)) - {name} for name, module in modules.items()}


def find_circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The groups of nodes that all lead to one another (Tarjan's strongly connected components), each sorted."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in order:
                visit(target)
            if target in stack:
                lowest[node] = min(lowest[node], lowest[target])
        if lowest[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                circles.append(sorted(group))

    for node in graph:
        if node not in order:
            visit(node)
    return sorted(circles)


def find_packages() -> list[Module]:
    return [module for module in read_modules().values() if module.is_package]


def draw_children(package: str) -> dict[str, set[str]]:
    """Child -> the children of the same package that it, or a module below it, imports."""
    children: defaultdict[str, set[str]] = defaultdict(set)
    for name, targets in read_graph().items():
        child = find_child(package, name)
        if child is not None:
            found = {find_child(package, target) for target in targets}
            children[child] |= {target for target in found if target is not None} - {child}
    return children


def find_child(package: str, name: str) -> str | None:
    """The child of a package that a module is or lies below; None for the package itself and others."""
    below = name.removeprefix(f"{package}.")
    return None if below == name else below.partition(".")[0]


def tell(offenders: Iterable[str]) -> str:
    return "\n".join(["", *offenders])


# -- imports


def test_no_modules_import_one_another_in_a_circle() -> None:
    circles = find_circles(read_graph())
    edges = [
        f"{name} -> {target}"
        for circle in circles
        for name in circle
        for target in sorted(read_graph()[name] & set(circle))
    ]
    assert not circles, tell(edges)


def test_no_children_of_a_package_import_one_another_in_a_circle() -> None:
    offenders = []
    for package in find_packages():
        graph = draw_children(package.name)
        for circle in find_circles(graph):
            edges = [f"{name} -> {target}" for name in circle for target in sorted(graph[name] & set(circle))]
            offenders.append(f"{package.name}: {', '.join(edges)}")
    assert not offenders, tell(offenders)


def test_the_graph_has_what_the_laws_are_about() -> None:
    """So that no law holds because nothing was read."""
    graph = read_graph()
    assert "stockroom.errors" in graph["stockroom.digest"]
    assert "stockroom.remotes.agent.fetcher" in graph["stockroom.remotes.lazy"]  # in a function
    assert not graph["stockroom.errors"]
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_imports_are_absolute() -> None:
    offenders = [
        f"{module.name}: line {node.lineno}"
        for module in read_modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not offenders, tell(offenders)


# -- sizes


def test_no_folder_holds_more_than_32_modules() -> None:
    counts = Counter(module.path.parent for module in read_modules().values() if not is_empty_package(module))
    offenders = [f"{folder}: {count} modules" for folder, count in counts.items() if count > MAX_MODULES_A_FOLDER]
    assert not offenders, tell(offenders)


def is_empty_package(module: Module) -> bool:
    """Whether it is an `__init__` with nothing in it but a docstring."""
    return module.is_package and len(module.tree.body) == (ast.get_docstring(module.tree) is not None)


def test_no_module_has_more_than_400_lines() -> None:
    offenders = [
        f"{module.name}: {module.lines} lines" for module in read_modules().values() if module.lines > MAX_LINES
    ]
    assert not offenders, tell(offenders)


def test_a_small_module_with_one_importer_says_why_it_is_kept_apart() -> None:
    importers: defaultdict[str, list[str]] = defaultdict(list)
    for name, targets in read_graph().items():
        for target in targets:
            importers[target].append(name)
    offenders = [
        f"{module.name}: {module.lines} lines, imported by {importers[module.name][0]} alone"
        for module in read_modules().values()
        if module.lines < MIN_LINES
        and not module.is_package
        and len(importers[module.name]) == 1
        and not says_why(module)
    ]
    assert not offenders, tell(offenders)


def says_why(module: Module) -> bool:
    lines = (ast.get_docstring(module.tree) or "").splitlines()
    return any(line.startswith(KEPT_APART) and line != KEPT_APART for line in lines)


# -- tests


def list_test_files() -> list[Path]:
    return [path.relative_to(TESTS).with_suffix("") for path in sorted(TESTS.rglob("test_*.py"))]


def find_tested(path: Path) -> str:
    """The module that a test file is named for, which need not be there."""
    return ".".join([PACKAGE, *path.parts[:-1], path.name.removeprefix("test_")])


def test_every_test_file_is_named_for_the_module_that_it_tests() -> None:
    strays = {path.as_posix() for path in list_test_files() if find_tested(path) not in read_modules()}
    assert strays == set(TESTS_OF_NO_MODULE), tell(sorted(strays ^ set(TESTS_OF_NO_MODULE)))


def test_every_package_has_tests_in_the_mirror() -> None:
    folders = {path.parent for path in list_test_files()}
    packages = [module.name for module in read_modules().values() if module.is_package and module.name != PACKAGE]
    untested = {name.removeprefix(f"{PACKAGE}.") for name in packages if not has_tests(name, folders)}
    assert untested == set(TESTED_ELSEWHERE), tell(sorted(untested ^ set(TESTED_ELSEWHERE)))


def has_tests(package: str, folders: Iterable[Path]) -> bool:
    mirror = Path(*package.split(".")[1:])
    return any(folder.is_relative_to(mirror) for folder in folders)

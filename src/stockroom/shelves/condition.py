"""Conditions on named values, such as `label == 3 and split != "test"`; parsed, never evaluated as code.

The same language selects samples by columns of single values, all rows at once, and rows of a table one by one.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, StockroomError

_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MAX_NODES: Final = 500
_QUOTED: Final = re.compile(r"`([^`]+)`")

_Compare: TypeAlias = Callable[[ast.cmpop, Any, Any], Any]


def choose_where(condition: str, read_column: Callable[[str], NDArray[Any]]) -> NDArray[np.bool_]:
    """Return a mask `(n,)` of the samples that meet a condition in the language of `parse_where`.

    `read_column` returns the values `(n,)` of a column. Raises `InvalidInputError` if the condition cannot be parsed,
    or names an unknown column.
    """
    return parse_where(condition).choose(read_column)


def parse_where(text: str) -> Condition:
    """Parse a condition; raises `InvalidInputError` if `text` is not one.

    A condition compares names with numbers, strings, None or lists of them (`== != < <= > >= in`, `not in`). `and`,
    `or` and `not` join comparisons. Names may have dots, as in optimizer.lr. Write a name that is not an identifier,
    such as train-label, between backticks.
    """
    quoted: dict[str, str] = {}
    plain = _QUOTED.sub(lambda match: quoted.setdefault(match[1], f"_quoted_{len(quoted)}"), text.strip())
    try:
        tree = ast.parse(plain, mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _refused(text, "it cannot be parsed") from error
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise _refused(text, "it is too long")
    return Condition(text, _Parser(text, {word: name for name, word in quoted.items()}).parse(tree.body))


@dataclass(frozen=True, slots=True)
class _Name:
    """One side of a comparison: the value that has this name."""

    name: str

    def take(self, values: Mapping[str, Any]) -> Any:
        return values[self.name]

    def list_names(self) -> list[str]:
        return [self.name]


@dataclass(frozen=True, slots=True)
class _Literal:
    """One side of a comparison: a number, a string, None, or a list of them."""

    value: Any

    def take(self, values: Mapping[str, Any]) -> Any:  # noqa: ARG002 - a side is either of the two
        return self.value

    def list_names(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class _Comparison:
    op: ast.cmpop
    left: _Name | _Literal
    right: _Name | _Literal

    def ask(self, values: Mapping[str, Any], compare: _Compare) -> Any:
        return compare(self.op, self.left.take(values), self.right.take(values))

    def list_names(self) -> list[str]:
        return self.left.list_names() + self.right.list_names()


@dataclass(frozen=True, slots=True)
class _Joined:
    """Conditions combined by the ufunc `join` (`and`, `or`), perhaps negated."""

    join: np.ufunc
    parts: Sequence[_Comparison | _Joined]
    negates: bool = False

    def ask(self, values: Mapping[str, Any], compare: _Compare) -> Any:
        joined = self.join.reduce([part.ask(values, compare) for part in self.parts])
        return ~joined if self.negates else joined

    def list_names(self) -> list[str]:
        return [name for part in self.parts for name in part.list_names()]


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition, which can be evaluated any number of times."""

    text: str
    _top: _Comparison | _Joined

    @property
    def names(self) -> list[str]:
        """The names in the condition, each once, in order."""
        return list(dict.fromkeys(self._top.list_names()))

    def choose(self, read_column: Callable[[str], NDArray[Any]]) -> NDArray[np.bool_]:
        """Return a mask `(n,)` of the samples that meet the condition; reads each column once."""
        columns: dict[str, NDArray[Any]] = {}
        for name in self.names:
            try:
                columns[name] = read_column(name)
            except KeyError as error:
                if isinstance(error, StockroomError):  # has a better message
                    raise
                raise _refused(self.text, f"there is no {name!r}") from error
        return np.asarray(self._top.ask(columns, self._compare_columns), bool)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether a row meets the condition; False if values cannot be compared. `values` needs all `names`."""
        return bool(self._top.ask(values, _compare_values))

    def _compare_columns(self, op: ast.cmpop, a: Any, b: Any) -> NDArray[np.bool_]:
        if isinstance(op, ast.In | ast.NotIn):
            found = np.isin(a, np.asarray(b))
            return found if isinstance(op, ast.In) else ~found
        try:
            return np.asarray(_COMPARISONS[type(op)](a, b), bool)
        except TypeError as error:
            raise _refused(self.text, str(error)) from error


def _compare_values(op: ast.cmpop, a: Any, b: Any) -> np.bool_:
    """Return the result of a comparison; False if such values cannot be compared."""
    try:
        if isinstance(op, ast.In | ast.NotIn):
            return np.bool_((a in b) is isinstance(op, ast.In))
        return np.bool_(_COMPARISONS[type(op)](a, b))
    except (TypeError, ValueError, OverflowError):
        return np.False_


@dataclass(frozen=True, slots=True)
class _Parser:
    """Converts the AST of a condition, and refuses whatever is not in the language."""

    text: str
    quoted: Mapping[str, str]

    def parse(self, node: ast.expr) -> _Comparison | _Joined:
        match node:
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return _Joined(join, [self.parse(part) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _Joined(np.logical_and, [self.parse(operand)], negates=True)
            case ast.Compare(left=left, ops=ops, comparators=right):
                sides = [self._parse_side(side) for side in (left, *right)]
                pairs = zip(ops, sides, sides[1:], strict=False)
                return _Joined(np.logical_and, [self._compare(op, a, b) for op, a, b in pairs])
        raise _refused(self.text, "expected comparisons joined by and, or, not")

    def _compare(self, op: ast.cmpop, left: _Name | _Literal, right: _Name | _Literal) -> _Comparison:
        if isinstance(left, _Literal) and isinstance(right, _Literal):
            raise _refused(self.text, "each comparison needs a name, in backticks if it is not an identifier")
        if type(op) not in _COMPARISONS and not isinstance(op, ast.In | ast.NotIn):
            raise _refused(self.text, "unknown comparison operator")
        return _Comparison(op, left, right)

    def _parse_side(self, node: ast.expr) -> _Name | _Literal:
        name = self._find_name(node)
        if name is not None:
            return _Name(name)
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, RecursionError) as error:
            raise _refused(self.text, "values must be numbers, strings, or lists of them") from error
        if value is None or isinstance(value, str | int | float | bool):
            return _Literal(value)
        if isinstance(value, list | tuple | set):
            return _Literal(list(value))
        raise _refused(self.text, "values must be numbers, strings, or lists of them")

    def _find_name(self, node: ast.expr) -> str | None:
        """Return the name that a node spells, including dots; None for any other node."""
        if isinstance(node, ast.Name):
            return self.quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            before = self._find_name(node.value)
            return None if before is None else f"{before}.{self.quoted.get(node.attr, node.attr)}"
        return None


def _refused(condition: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"condition {condition[:80]!r}: {why}; write it like `label == 3 and split in ('a', 'b')`")

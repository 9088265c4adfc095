"""Conditions on columns of small values, such as `label == 3 and split != "test"`: parsed, never evaluated as code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError

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


def choose_where(condition: str, read_column: Callable[[str], NDArray[Any]]) -> NDArray[np.bool_]:
    """`(n,)`: which samples meet a condition.

    Args:
        condition: comparisons (`== != < <= > >= in`, `not in`) of column names with numbers, strings or lists of them,
            joined by `and`, `or`, `not`. A name that is no word, as train-label, stands between backticks.
        read_column: gives a column's values, `(n,)`, one for each sample.

    Raises:
        InvalidInputError: it is not such a condition.
    """
    quoted: dict[str, str] = {}

    def take_name(match: re.Match[str]) -> str:
        return quoted.setdefault(match[1], f"_quoted_{len(quoted)}")

    plain = _QUOTED.sub(take_name, condition.strip())
    names = {word: name for name, word in quoted.items()}
    try:
        tree = ast.parse(plain, mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _refused(condition, "it cannot be parsed") from error
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise _refused(condition, "it is too long")
    chosen = _Condition(condition, lambda word: read_column(names.get(word, word))).choose(tree.body)
    return np.asarray(chosen, bool)


class _Condition:
    """One condition and the columns it reads, each once."""

    def __init__(self, text: str, read_column: Callable[[str], NDArray[Any]]) -> None:
        self._text = text
        self._read_column = read_column
        self._columns: dict[str, NDArray[Any]] = {}

    def choose(self, node: ast.expr) -> NDArray[np.bool_]:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _reduce(np.logical_and, [self.choose(value) for value in values])
            case ast.BoolOp(op=ast.Or(), values=values):
                return _reduce(np.logical_or, [self.choose(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.choose(operand)
            case ast.Compare(left=left, ops=ops, comparators=right):
                sides = [left, *right]
                pairs = zip(ops, sides, sides[1:], strict=False)
                return _reduce(np.logical_and, [self._compare(op, a, b) for op, a, b in pairs])
        raise _refused(self._text, "expected comparisons joined by and, or, not")

    def _compare(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> NDArray[np.bool_]:
        if not isinstance(left, ast.Name) and not isinstance(right, ast.Name):
            raise _refused(self._text, "each comparison needs the name of a column, between backticks if it is no word")
        a, b = self._read(left), self._read(right)
        if isinstance(op, ast.In | ast.NotIn):
            found = np.isin(a, np.asarray(b))
            return found if isinstance(op, ast.In) else ~found
        if type(op) not in _COMPARISONS:
            raise _refused(self._text, "it compares in a way that is not known")
        try:
            return np.asarray(_COMPARISONS[type(op)](a, b), bool)
        except TypeError as error:
            raise _refused(self._text, str(error)) from error

    def _read(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if node.id not in self._columns:
                self._columns[node.id] = self._read_column(node.id)
            return self._columns[node.id]
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, RecursionError) as error:
            raise _refused(self._text, "values must be numbers, strings, or lists of them") from error
        if isinstance(value, str | int | float | bool | list | tuple | set):
            return list(value) if isinstance(value, list | tuple | set) else value
        raise _refused(self._text, "values must be numbers, strings, or lists of them")


def _reduce(join: np.ufunc, parts: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    joined: NDArray[np.bool_] = join.reduce(parts)
    return joined


def _refused(condition: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"condition {condition[:80]!r}: {why}; write it like `label == 3 and split in ('a', 'b')`")

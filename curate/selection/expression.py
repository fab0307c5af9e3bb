"""Conditions and scores over columns, as a person writes them: ``ifd_ppl_ratio < 1 and response_tokens >= 5``.

The text may come from a certificate that somebody else wrote. Python's parser reads it, nothing runs it, and only what
is listed here has a meaning; polars' own SQL would open files.

What is computed is computed in float64, as whole numbers of 8 to 64 bits wrap around without a word; and what comes out
infinite or is no number is no value: to polars it is larger than any other.
"""

import ast
import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import polars as pl
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray

LONGEST = 1_000
MEANING = "comparisons (< <= > >= == !=), and, or, not, + - * /, abs(…), log(…), columns, numbers, 'texts'"
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.Not: operator.invert,
    ast.And: operator.and_,
    ast.Or: operator.or_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[[pl.Expr], pl.Expr]] = {"abs": pl.Expr.abs, "log": pl.Expr.log}
_ONE = pl.lit(1.0, dtype=pl.Float64)
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class Expression:
    """What was written, the columns that it names, and what polars makes of it."""

    text: str
    columns: tuple[str, ...]
    polars: pl.Expr

    def of(self, table: pl.DataFrame) -> pl.Series:
        """One value a row; null where a column that it names is null or not finite. UsageError if types do not fit."""
        present = pl.all_horizontal(_present(table.schema, name) for name in self.columns)
        try:
            return table.select(pl.when(present).then(self.polars)).to_series()
        except pl.exceptions.PolarsError as error:
            raise UsageError(f"{self.text!r} cannot be computed: {error}", remedy="compare like with like") from error

    def mask(self, table: pl.DataFrame) -> pl.Series:
        """The expression as a condition: true, false, or null."""
        return self._of_kind(table, pl.Boolean, "a condition, such as loss < 2")

    def numbers(self, table: pl.DataFrame) -> NDArray[np.float64]:
        """The expression as numbers; NaN where it is null, or not finite."""
        values = self._of_kind(table, None, "a number, such as loss").cast(pl.Float64).to_numpy()
        return np.where(np.isfinite(values), values, np.nan)

    def order(self, table: pl.DataFrame) -> NDArray[np.float64]:
        """Numbers that order the rows as the expression does; NaN where ``numbers`` has it.

        As floats, whole numbers beyond 2^53 would be equal that are not.
        """
        values = self.of(table)
        if not values.dtype.is_integer():
            return self.numbers(table)
        return values.rank("dense").cast(pl.Float64).to_numpy()

    def _of_kind(self, table: pl.DataFrame, kind: type[pl.Boolean] | None, wanted: str) -> pl.Series:
        values = self.of(table)
        if (values.dtype != kind) if kind else not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            raise UsageError(f"{self.text!r} gives values of type {values.dtype}", remedy=f"write {wanted}")
        return values


def parse(text: str, table_columns: Collection[str]) -> Expression:
    """Read an expression over the ``table_columns``; UsageError for anything else."""
    if len(text) > LONGEST:
        raise UsageError(f"an expression of {len(text):,} characters", remedy=f"write at most {LONGEST:,}")
    reader = _Reader(text, table_columns)
    try:
        read = reader.read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{text!r} is not an expression", remedy=f"there are: {MEANING}") from error
    if not reader.columns:
        raise UsageError(f"{text!r} names no column", remedy=nearest(text, table_columns))
    return Expression(text, tuple(dict.fromkeys(reader.columns)), read)


@dataclass
class _Reader:
    text: str
    table_columns: Collection[str]

    def __post_init__(self) -> None:
        self.columns: list[str] = []

    def read(self, node: ast.expr) -> pl.Expr:
        match node:
            case ast.Name(id=name):
                return self._name(name)
            case ast.Constant(value=bool() | float() | str() as value):
                return pl.lit(value)
            case ast.Constant(value=int() as value):
                return _whole(value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)) if not isinstance(value, bool):
                return _whole(-value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _finite(-self._operand(operand))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self.read(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _finite(_OPERATORS[type(op)](self._operand(left), self._operand(right)))
            case ast.BoolOp(op=op, values=values):
                return reduce(_OPERATORS[type(op)], map(self.read, values))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _OPERATORS for op in ops):
                sides = [self.read(side) for side in (left, *others)]
                pairs = zip(ops, sides, sides[1:], strict=False)
                return reduce(operator.and_, (_OPERATORS[type(op)](one, other) for op, one, other in pairs))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
                return _finite(_FUNCTIONS[name](self._operand(argument)))
        part = ast.get_source_segment(self.text.strip(), node)
        raise UsageError(f"{part!r} in {self.text!r} has no meaning", remedy=f"there are: {MEANING}")

    def _operand(self, node: ast.expr) -> pl.Expr:
        """What something is computed from: float64, whatever the type of a column. A text is none."""
        return self.read(node) * _ONE

    def _name(self, name: str) -> pl.Expr:
        if name not in self.table_columns and name in _WORDS:
            return pl.lit(_WORDS[name])
        if name not in self.table_columns:
            raise UsageError(f"there is no column {name!r}", remedy=nearest(name, self.table_columns))
        self.columns.append(name)
        return pl.col(name)


def _whole(value: int) -> pl.Expr:
    """A whole number that every column of such can be compared with: -1 is none of those without a sign."""
    return pl.lit(value, dtype=pl.Int128) if -(2**127) <= value < 2**127 else pl.lit(float(value))


def _finite(value: pl.Expr) -> pl.Expr:
    return pl.when(value.is_finite()).then(value)


def _present(schema: pl.Schema, name: str) -> pl.Expr:
    """Whether a row has a value: not null, and finite."""
    column = pl.col(name)
    return column.is_finite().fill_null(False) if schema[name].is_float() else column.is_not_null()

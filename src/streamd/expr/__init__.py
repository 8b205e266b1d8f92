"""Expressions: a subset of Python's own syntax, checked against an allow-list and compiled into the chain.

text → `parse` (syntax tree) → `check`, `calls` (allow-list: our own `nodes`) → `source`, `loops` (Python for generated
code) or `interpret` (the reference). `limits` says what keeps one evaluation small; `functions` holds the library.
"""

from __future__ import annotations

from streamd.expr.aggregates import AGGREGATES, Aggregate, AggregateFunction, parse_aggregate
from streamd.expr.compiled import compile_expression
from streamd.expr.errors import ExpressionError, UnknownError, failure
from streamd.expr.expression import METADATA, Expression, Resolver, Scope, StaticType
from streamd.expr.functions import FUNCTIONS, Function
from streamd.expr.parameters import Argument, written_out
from streamd.expr.parse import parse
from streamd.expr.source import BUILTINS

__all__ = [
    "AGGREGATES",
    "BUILTINS",
    "FUNCTIONS",
    "METADATA",
    "Aggregate",
    "AggregateFunction",
    "Argument",
    "Expression",
    "ExpressionError",
    "Function",
    "Resolver",
    "Scope",
    "StaticType",
    "UnknownError",
    "compile_expression",
    "failure",
    "parse",
    "parse_aggregate",
    "written_out",
]

"""What several aggregates take of a record, as columns of its row: what two of them take alike is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamd.expr.aggregates.aggregate import Aggregate
from streamd.expr.expression import Expression


class Writer(Protocol):
    """What is written to: the part of `component.stage.Body` that is needed here."""

    def value(self, expression: Expression) -> str: ...
    def local(self, name_hint: str, source: str) -> str: ...
    def constant(self, name_hint: str, value: Any) -> str: ...
    def line(self, source: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Columns:
    """`names` of the columns, and for each aggregate the numbers of those that are its arguments."""

    names: tuple[str, ...]
    of: tuple[tuple[int, ...], ...]

    def arguments(self, number: int) -> list[str]:
        """The names of the columns that are the arguments of an aggregate."""
        return [self.names[column] for column in self.of[number]]


def columns_of(aggregates: Sequence[Aggregate], prefix: str = "agg_x") -> Columns:
    """The columns of aggregates, named `agg_x0`, `agg_x1` … for a kernel that unpacks them from a row."""
    texts = list(dict.fromkeys(argument.text for aggregate in aggregates for argument in aggregate.arguments))
    of = tuple(tuple(texts.index(argument.text) for argument in aggregate.arguments) for aggregate in aggregates)
    return Columns(tuple(f"{prefix}{number}" for number in range(len(texts))), of)


def write_columns(aggregates: Sequence[Aggregate], writer: Writer) -> list[str]:
    """Write the lines that compute and check the arguments of aggregates; the variables that hold the columns.

    They are in the order of `columns_of`. Whatever is wrong with a record's arguments is raised by these lines.
    """
    names: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    for aggregate in aggregates:
        for part in aggregate.parts:
            text = part.expression.text
            if text not in names:
                # In parentheses, so that it is a variable of its own: checks may put a copy there.
                hint = getattr(part.expression.node, "name", "value")
                names[text] = writer.local(hint, f"({writer.value(part.expression)})")
            if (text, part.check) not in done:
                done.add((text, part.check))
                for line in part.lines(names[text], writer.constant):
                    writer.line(line)
    return list(names.values())

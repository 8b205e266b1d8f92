"""The two sides of a join as its expressions see them, and what a row of a side carries for them.

An expression names a field of a side: `orders.price`, or `left.price`. Only the fields that are named so are carried,
each as a column of the row; a side that is used as a whole (`{order: orders}`) carries its document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from streamd.errors import MissingFieldError
from streamd.expr import Expression
from streamd.expr.facts import required
from streamd.expr.nodes import Document, Each, Field, Get, Has, Item, Literal, Metadata, Node, Piece, walk
from streamd.expr.source import write

LEFT, RIGHT = 0, 1
SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Carried:
    """What a row of one side carries behind its time. `whole`: the document; else columns.

    `sure`: fields that each record of the side must have. `maybe`: fields that may be absent: such a column is a list
    with the value, or None.
    """

    whole: bool
    sure: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()


def names_of(inputs: tuple[str, str]) -> dict[str, int]:
    """{name: side} that expressions may use: `left`, `right`, and the ids of the inputs where they tell them apart."""
    names = {"left": LEFT, "right": RIGHT}
    if inputs[LEFT] != inputs[RIGHT]:
        names |= {name: side for side, name in enumerate(inputs)}
    return names


def check_names(expression: Expression, names: Mapping[str, int]) -> None:
    """Raise ValueError where an expression reads anything but fields of the two sides."""
    for part in walk(expression.node):
        if isinstance(part, Metadata | Document):
            name = part.name if isinstance(part, Metadata) else "_value"
            raise ValueError(f"expected fields of the two inputs: {name} does not say of which of them")
        if isinstance(part, Field) and part.name not in names:
            known = " or ".join(f"`{name}.{part.name}`" for name in sorted(names, key=lambda n: n in SIDES)[:2])
            raise ValueError(f"expected a field with its input, such as {known}, not {part.name!r} alone")


class Sides:
    """The expressions of a join: where each of their fields is found in a row. `first`: index of a row's first column.

    `expressions`: all that are evaluated over both sides.
    """

    def __init__(self, names: Mapping[str, int], expressions: Sequence[Expression]) -> None:
        self._names = names
        nodes = [_rewritten(expression.node, names) for expression in expressions]
        used = [part.name for node in nodes for part in walk(node) if isinstance(part, Field)]
        sure = {name for node in nodes for name in required(node)}
        self.whole = tuple(any(names.get(name) == side for name in used) for side in (LEFT, RIGHT))
        self.carried = tuple(
            Carried(True) if self.whole[side] else self._columns(side, used, sure) for side in (LEFT, RIGHT)
        )

    def _columns(self, side: int, used: Sequence[str], sure: set[str]) -> Carried:
        dotted = {name: _parts(name) for name in used if "\0" in name}
        wanted = dict.fromkeys(field for which, field in dotted.values() if which == side and field)
        certain = {field for name, (which, field) in dotted.items() if which == side and name in sure}
        return Carried(False, tuple(f for f in wanted if f in certain), tuple(f for f in wanted if f not in certain))

    def source(self, expression: Expression, resolver: Columns) -> str:
        """Source of an expression's value for two rows; with a side that is absent, null where it needs that side."""
        node = _rewritten(expression.node, self._names)
        if resolver.absent is not None:
            needed = {_parts(name)[0] if "\0" in name else self._names[name] for name in required(node)}
            if resolver.absent in needed:
                return "None"
        return write(node, resolver)


class Columns:
    """Finds fields of the two sides in rows: the resolver of a join's expressions.

    `rows`: the variables that hold the rows of left and right; `first`: where their columns begin; `absent`: the side
    that is not there.
    """

    def __init__(
        self,
        sides: Sides,
        names: Mapping[str, int],
        rows: tuple[str, str],
        first: tuple[int, int],
        namespace: dict[str, Any],
        absent: int | None = None,
    ) -> None:
        self.absent = absent
        self._sides, self._names, self._rows, self._first, self._namespace = sides, names, rows, first, namespace

    def field(self, name: str) -> str:
        side, field, place = self._place(name)
        if side == self.absent:
            return "None"
        if field in self._sides.carried[side].maybe:
            return f"{self.constant('need_column', need_column)}({place}, {field!r})"
        return place

    def field_or(self, name: str, default: str) -> str:
        side, field, place = self._place(name)
        carried = self._sides.carried[side]
        if side == self.absent:
            return default
        if carried.whole and field:
            return f"{self._document(side)}.get({field!r}, {default})"
        return f"({place}[0] if {place} is not None else {default})" if field in carried.maybe else place

    def has_field(self, name: str) -> str:
        side, field, place = self._place(name)
        carried = self._sides.carried[side]
        if side == self.absent:
            return "False"
        if carried.whole and field:
            return f"({field!r} in {self._document(side)})"
        return f"({place} is not None)" if field in carried.maybe else "True"

    def metadata(self, name: str) -> str:
        raise NotImplementedError(name)

    def document(self) -> str:
        raise NotImplementedError

    def constant(self, hint: str, value: object) -> str:
        number, name = 1, hint
        while self._namespace.setdefault(name, value) is not value:
            number += 1
            name = f"{hint}_{number}"
        return name

    def _document(self, side: int) -> str:
        return f"{self._rows[side]}[{self._first[side]}]"

    def _place(self, name: str) -> tuple[int, str, str]:
        """(side, field or "" for the side as a whole, source of its column)"""
        side, field = _parts(name) if "\0" in name else (self._names[name], "")
        carried, first = self._sides.carried[side], self._first[side]
        if carried.whole or not field:
            return side, field, self._document(side) + (f"[{field!r}]" if field else "")
        return side, field, f"{self._rows[side]}[{first + (*carried.sure, *carried.maybe).index(field)}]"


def need_column(column: list[Any] | None, name: str) -> Any:
    """The value in a column that may be absent, or the error that says which one is."""
    if column is None:
        raise MissingFieldError(f"field {name!r} is missing")
    return column[0]


def _parts(name: str) -> tuple[int, str]:
    side, _, field = name.partition("\0")
    return int(side), field


def _rewritten(node: Node, names: Mapping[str, int]) -> Any:
    """The node with `side.field` as one field, named so that the sides' fields are told apart.

    A side that is used as a whole anywhere stays as it is there.
    """
    match node:
        case Item(Field(side), Literal(str() as name)) if side in names:
            return Field(f"{names[side]}\0{name}", node.kind)
        case Has(Field(side), ()) if side in names:
            # Whether the side is there at all: no field of it, and nothing to carry.
            return Has(Field(f"{names[side]}\0"), ())
        case Has(Field(side), (Literal(str() as name), *rest)) if side in names:
            return Has(Field(f"{names[side]}\0{name}"), tuple(_rewritten(key, names) for key in rest))
        case Get(Field(side), (Literal(str() as name), *rest), default) if side in names:
            keys = tuple(_rewritten(key, names) for key in rest)
            return Get(Field(f"{names[side]}\0{name}"), keys, _rewritten(default, names), node.kind)
    changed = {f.name: _mapped(getattr(node, f.name), names) for f in fields(node)}
    return replace(node, **changed)


def _mapped(value: Any, names: Mapping[str, int]) -> Any:
    if isinstance(value, tuple):
        return tuple(_mapped(item, names) for item in value)
    if isinstance(value, Piece | Each):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), names) for f in fields(value)})
    if is_dataclass(value) and type(value).__module__ == Field.__module__:
        return _rewritten(value, names)  # type: ignore[arg-type]
    return value

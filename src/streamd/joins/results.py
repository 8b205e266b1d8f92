"""What a pair of rows becomes: the result's document, as source for a kernel, and what that calls by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import orjson

from streamd.component.state import LARGEST, SMALLEST, key_of
from streamd.errors import LateRecordError, TransformError
from streamd.expr import Expression
from streamd.joins.sides import Carried, Columns, Sides, names_of

CARRIED_WHOLE = Carried(True)


class Results:
    """The documents of a join: of `fields`, or without them the flat one of both sides' fields.

    With `into` instead of `fields`, the right one is a field of the left one.

    `inputs`: ids of left and right. `where`: what must hold besides the keys being equal. `first`: for left and right,
    where a row's columns begin.
    """

    def __init__(
        self,
        inputs: tuple[str, str],
        fields: Mapping[str, Expression] | None,
        where: Expression | None,
        first: tuple[int, int],
        into: str | None = None,
    ) -> None:
        self._fields, self._where, self._first, self._into = fields, where, first, into
        self._names = names_of(inputs)
        expressions = [*(fields or {}).values(), *([] if where is None else [where])]
        self._sides = Sides(self._names, expressions)
        self.carried = self._sides.carried if fields is not None else (CARRIED_WHOLE, CARRIED_WHOLE)
        self._sides.carried = self.carried
        # Names that error messages may tell.
        self.words: frozenset[str] = frozenset().union(*(expression.names for expression in expressions))

    def where(self, rows: tuple[str, str], namespace: dict[str, Any]) -> str | None:
        """Source of the condition for two rows; None where there is none."""
        if self._where is None:
            return None
        return self._sides.source(self._where, self._columns(rows, namespace))

    def pair(self, rows: tuple[str, str], namespace: dict[str, Any]) -> str:
        """Source of the document of two rows."""
        columns = self._columns(rows, namespace)
        if self._fields is None:
            left, right = (f"{row}[{first}]" for row, first in zip(rows, self._first, strict=True))
            if self._into is not None:
                return f"{{**{left}, {self._into!r}: {right}}}"
            return f"{columns.constant('merged', merged)}({left}, {right})"
        return self._literal(columns)

    def alone(self, side: int, row: str, namespace: dict[str, Any]) -> str:
        """Source of the document of a row whose other side is not there."""
        if self._fields is None:
            document = f"{row}[{self._first[side]}]"
            if self._into is not None:
                return f"{{{self._into!r}: {document}}}" if side else f"{{**{document}, {self._into!r}: None}}"
            return f"{{**{document}}}"
        rows = (row, "None") if side == 0 else ("None", row)
        return self._literal(self._columns(rows, namespace, absent=1 - side))

    @property
    def alone_may_fail(self) -> bool:
        """Whether a row alone may have no document: then that is to be found out when it comes."""
        if self._fields is None:
            return False
        indirect = any(carried.maybe or carried.whole for carried in self.carried)
        return indirect or not all(map(_is_path, self._fields.values()))

    def _columns(self, rows: tuple[str, str], namespace: dict[str, Any], absent: int | None = None) -> Columns:
        return Columns(self._sides, self._names, rows, self._first, namespace, absent)

    def _literal(self, columns: Columns) -> str:
        assert self._fields is not None
        values = [f"{name!r}: {self._sides.source(e, columns)}" for name, e in self._fields.items()]
        return "{" + ", ".join(values) + "}"


def _is_path(expression: Expression) -> bool:
    return expression.text.replace(".", "").replace("_", "").isalnum() and expression.text.count(".") == 1


def merged(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of both, left's first. Raises TransformError for a field that both have with different values."""
    both = {**left, **right}
    if len(both) < len(left) + len(right):
        for name in left.keys() & right.keys():
            mine, other = left[name], right[name]
            if mine != other or isinstance(mine, bool) != isinstance(other, bool):
                raise TransformError(
                    f"both inputs have a field {name!r}, with different values; say with `fields` what the result has"
                )
    return both


def key_bytes(key: Hashable) -> bytes:
    """A store's key as the key of a record."""
    if key.__class__ is str:
        return key.encode()
    return key if isinstance(key, bytes) else orjson.dumps(key)


def keys_of_tombstone(key: bytes) -> Sequence[Hashable]:
    """The store's keys that a record's key may stand for: `17` is that of the number and of the text."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise TransformError("the key of a record without a value is not UTF-8 text") from None
    try:
        value = orjson.loads(key)
    except orjson.JSONDecodeError:
        return (text,)
    return (text,) if value is None or value.__class__ is str else (text, key_of(value))


def storable(value: Any) -> Any:
    """The value, if a store can keep it: JSON has no integers of more than 64 bits here."""
    if value.__class__ is int:
        if not SMALLEST <= value <= LARGEST:
            raise TransformError("an integer of more than 64 bits cannot be kept for a join")
    elif value.__class__ is dict:
        for inner in value.values():
            if inner.__class__ is int and not SMALLEST <= inner <= LARGEST:
                raise TransformError("an integer of more than 64 bits cannot be kept for a join")
    elif value.__class__ is list:
        try:
            orjson.dumps(value)
        except TypeError:
            raise TransformError("a value that is no JSON cannot be kept for a join") from None
    return value


def late(milliseconds: int) -> LateRecordError:
    """What becomes of a row that lies so far behind what its watermark allows."""
    return LateRecordError(f"the record is {milliseconds} ms too late for the join")

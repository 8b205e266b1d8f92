"""CSV: a record is one row. With known columns its document has a field for each; alone it is {"values": [...]}."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import orjson

from streamd.codecs.codec import Codec, CodecContext, FormatSpec, NoSettings, PlainCodec
from streamd.codecs.undecodable import Undecodable, refuse
from streamd.errors import ExtractError, LoadError

ColumnType = Literal["text", "int", "float", "bool", "json"]

# Python's own limit for a field is 128 KiB, for the whole process; here the source bounds the size of a record.
csv.field_size_limit(2**31 - 1)

_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})


def decode(value: Any) -> dict[str, Any]:
    """{"values": [text, …]} of the bytes of one row.

    A document that the source has already made (the file source knows the columns) is returned as it is. Raises
    ExtractError when the bytes are not UTF-8 or not one row.
    """
    if type(value) is dict:
        return value
    if not isinstance(value, bytes):
        refuse(value, "a row of CSV")
    try:
        rows = list(csv.reader(io.StringIO(value.decode(), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise ExtractError(f"not valid UTF-8 at byte {error.start}: {error.reason}") from None
    except csv.Error as error:
        raise ExtractError(f"not valid CSV: {error}") from None
    if len(rows) != 1:
        raise ExtractError(f"expected one row of CSV in a record, got {len(rows)}")
    return {"values": rows[0]}


def encode(document: Any) -> bytes:
    """One row without line end: the list in the field `values` where that is all there is, else all fields in order."""
    values = document.get("values") if len(document) == 1 else None
    return format_row(values if isinstance(values, list) else list(document.values()))


def format_row(values: Sequence[Any], delimiter: str = ",") -> bytes:
    """One row without line end. None is empty, booleans are true/false, objects and lists JSON. Raises LoadError."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow([_cell(value) for value in values])
    try:
        return out.getvalue().encode()
    except UnicodeEncodeError as error:
        raise LoadError(f"the row has no UTF-8 form: {error.reason}") from None


def _cell(value: Any) -> Any:
    if value is None or type(value) in (str, int, float):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError) as error:
        raise LoadError(f"a value cannot be written as CSV: {error}") from None


def parse_header(row: bytes, delimiter: str = ",") -> tuple[str, ...]:
    """The column names in a file's first row; () when it has an empty one, or is not CSV in UTF-8."""
    try:
        names = next(csv.reader(io.StringIO(row.decode(), newline=""), delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error):
        return ()
    stripped = tuple(name.strip() for name in names)
    return stripped if all(stripped) else ()


class RowReader:
    """Rows of one file to documents: knows the columns, their types and the delimiter."""

    def __init__(self, columns: Sequence[str], types: Mapping[str, ColumnType], delimiter: str = ",") -> None:
        self.columns = tuple(columns)
        self._delimiter = delimiter
        self._typed = tuple((name, _PARSERS[kind]) for name, kind in types.items() if kind != "text")

    def documents(self, rows: Sequence[bytes]) -> list[dict[str, Any] | Undecodable]:
        """One document for each row (bytes without line end, quotes balanced)."""
        try:
            text = [row.decode() for row in rows]
            parsed = (
                [next(csv.reader((line,), delimiter=self._delimiter)) for line in text]
                if _multiline(rows)
                else list(csv.reader(text, delimiter=self._delimiter))
            )
        except (UnicodeDecodeError, csv.Error, StopIteration):
            parsed = []
        if len(parsed) != len(rows):
            return [self._one(row) for row in rows]
        columns, typed, width = self.columns, self._typed, len(self.columns)
        documents: list[dict[str, Any] | Undecodable] = []
        for cells, row in zip(parsed, rows, strict=True):
            if len(cells) != width:
                documents.append(self._wrong_width(len(cells), row))
                continue
            document: dict[str, Any] = dict(zip(columns, cells, strict=True))
            documents.append(self._convert(document, row) if typed else document)
        return documents

    def _one(self, row: bytes) -> dict[str, Any] | Undecodable:
        """The slow way, for a batch that holds a bad row: says what is wrong with this one."""
        try:
            cells = next(csv.reader(io.StringIO(row.decode(), newline=""), delimiter=self._delimiter), [])
        except UnicodeDecodeError as error:
            return Undecodable(f"not valid UTF-8 at byte {error.start} of the row: {error.reason}", row)
        except csv.Error as error:
            return Undecodable(f"not valid CSV: {error}", row)
        if len(cells) != len(self.columns):
            return self._wrong_width(len(cells), row)
        return self._convert(dict(zip(self.columns, cells, strict=True)), row)

    def _wrong_width(self, found: int, row: bytes) -> Undecodable:
        return Undecodable(f"the row has {found} values, the file has {len(self.columns)} columns", row)

    def _convert(self, document: dict[str, Any], row: bytes) -> dict[str, Any] | Undecodable:
        for name, parse in self._typed:
            try:
                document[name] = parse(document[name])
            except (ValueError, KeyError):
                return Undecodable(f"column {name!r} does not hold {_WANTED[parse]}", row)
        return document


def _multiline(rows: Sequence[bytes]) -> bool:
    return any(b"\n" in row or b"\r" in row for row in rows)


def _integer(text: str) -> int | None:
    return int(text) if text else None


def _number(text: str) -> float | None:
    return float(text) if text else None


def _boolean(text: str) -> bool | None:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    if not text:
        return None
    raise ValueError


def _json(text: str) -> Any:
    return orjson.loads(text) if text else None


_PARSERS: Mapping[str, Callable[[str], Any]] = {"int": _integer, "float": _number, "bool": _boolean, "json": _json}
_WANTED: Mapping[Callable[[str], Any], str] = {
    _integer: "an integer",
    _number: "a number",
    _boolean: "true or false",
    _json: "JSON",
}


def _codec(settings: NoSettings, context: CodecContext) -> Codec:
    return PlainCodec(decode, encode)


FORMAT = FormatSpec("csv", _codec, lines=True)

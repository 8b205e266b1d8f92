"""CSV: a record is one row. With known columns its document has a field for each; alone it is {"values": [...]}.

```yaml
source:
  kafka:
    topic: orders
    format: {csv: {columns: [id, amount, paid], types: {amount: float, paid: bool}, delimiter: ";"}}
```

A message of a topic has no header: `columns` names its values, in order. A sink writes these columns, null where a
document lacks one; a field that is no column is an error of the record. Without `columns` it writes {"values": [...]}
with at least one value, and refuses any other document. What is typed may be empty, which is null.
Files have `columns`, `types` and `delimiter` of their own.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeAlias

import orjson
from pydantic import AfterValidator, Field, model_validator

from streamd.codecs.codec import Codec, CodecContext, Document, FormatSpec, PlainCodec
from streamd.codecs.undecodable import Undecodable, refuse
from streamd.component.model import Model
from streamd.errors import ExtractError, LoadError

ColumnType = Literal["text", "int", "float", "bool", "json"]

# Python's own limit for a field is 128 KiB, for the whole process; here the source bounds the size of a record.
csv.field_size_limit(2**31 - 1)

_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})
# Python also takes underscores, other scripts' digits, nan and inf.
_INT = re.compile(r"\s*[+-]?[0-9]+\s*")
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")


def _no_line_end(value: str) -> str:
    if value in "\r\n":
        raise ValueError("expected a character other than a line end")
    return value


# What stands between values, or around them.
CsvCharacter: TypeAlias = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_no_line_end)]


def check_form(columns: Sequence[str], types: Iterable[str], delimiter: str, quote: str = '"') -> None:
    """Raises ValueError where these do not fit together."""
    if delimiter == quote:
        raise ValueError("delimiter, quote: expected two different characters")
    if len(set(columns)) != len(columns) or not all(columns):
        raise ValueError("columns: expected each name once, and none empty")
    if unknown := [name for name in types if name not in columns]:
        raise ValueError(f"types: {', '.join(unknown)} is none of the columns")


def check_form_of_files(settings: Model, form: str) -> None:
    """The same for a source or sink of files, where the form is said beside `format`. Raises ValueError."""
    if form != "csv" and (given := {"columns", "types", "delimiter"} & settings.model_fields_set):
        raise ValueError(f"{', '.join(sorted(given))}: only with format: csv, the format is {form}")
    # Without columns the file's first row has them.
    columns = getattr(settings, "columns", None)
    types = () if columns is None else getattr(settings, "types", ())
    check_form(columns or (), types, getattr(settings, "delimiter", ","))


class CsvSettings(Model):
    """Settings of the format csv."""

    columns: list[str] | None = Field(
        None,
        min_length=1,
        description="The names of the values, in order; without them a document has the one field `values`, a list.",
        examples=[["id", "amount"]],
    )
    types: dict[str, ColumnType] = Field(
        default_factory=dict,
        description="What columns hold, other than text: int, float, bool or json. What is empty there is null.",
        examples=[{"amount": "float"}],
    )
    delimiter: CsvCharacter = Field(",", description="What stands between values.", examples=[";"])
    quote: CsvCharacter = Field('"', description="What stands around a value that needs it.", examples=["'"])
    null_text: str | None = Field(
        None,
        description="The text that stands for null, in every column and on both sides. Without it null is written as "
        "an empty value, and an empty value of a column of text is an empty text.",
        examples=["NULL"],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_form(self.columns or (), self.types, self.delimiter, self.quote)
        return self


def decode(value: Any) -> dict[str, Any]:
    """{"values": [text, …]} of the bytes of one row.

    A document that the source has already made (the file source knows the columns) is returned as it is. Raises
    ExtractError when the bytes are not UTF-8 or not one row.
    """
    if type(value) is dict:
        return value
    return {"values": _cells(value)}


_PLAIN = partial(csv.reader, strict=True)


def _cells(value: Any, reader: Callable[[io.StringIO], Iterable[list[str]]] = _PLAIN) -> list[str]:
    if not isinstance(value, bytes):
        refuse(value, "a row of CSV")
    try:
        rows = list(reader(io.StringIO(value.decode(), newline="")))
    except UnicodeDecodeError as error:
        raise ExtractError(f"not valid UTF-8 at byte {error.start}: {error.reason}") from None
    except csv.Error as error:
        raise ExtractError(f"not valid CSV: {error}") from None
    if len(rows) != 1:
        raise ExtractError(f"expected one row of CSV in a record, got {len(rows)}")
    return rows[0]


def encode(document: Any) -> bytes:
    """One row without line end, of {"values": [at least one value]}. Raises LoadError for any other document."""
    return format_row(_values(document))


def _values(document: Document) -> list[Any]:
    values = document.get("values") if len(document) == 1 else None
    if not isinstance(values, list) or not values:
        raise LoadError(
            "without `columns` the format csv writes only {values: [...]} with at least one value; name the `columns`"
        )
    return values


def in_columns(document: Document, columns: Sequence[str], place: str) -> list[Any]:
    """The values of the columns, None where there is no such field. Raises LoadError for a field that is no column of
    the place, which is "the file" or "the format".
    """
    if not document.keys() <= set(columns):
        unknown = next(name for name in document if name not in columns)
        raise LoadError(f"field {unknown!r} is not among the columns of {place}: {', '.join(columns)}")
    return [document.get(name) for name in columns]


def format_row(values: Sequence[Any], delimiter: str = ",", quote: str = '"') -> bytes:
    """One row without line end. None is empty, booleans are true/false, objects and lists JSON. Raises LoadError."""
    out = io.StringIO(newline="")
    cells = [_cell(value) for value in values]
    # Line ends within a value are quoted only where they are the writer's own.
    csv.writer(out, delimiter=delimiter, quotechar=quote, lineterminator="\r\n").writerow(cells)
    try:
        return out.getvalue()[:-2].encode()
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
            documents.append(self.converted(document, row) if typed else document)
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
        return self.converted(dict(zip(self.columns, cells, strict=True)), row)

    def _wrong_width(self, found: int, row: bytes) -> Undecodable:
        return Undecodable(f"the row has {found} values for {len(self.columns)} columns", row)

    def converted(self, document: dict[str, Any], row: bytes) -> dict[str, Any] | Undecodable:
        """The document with its columns' types in place of texts; nulls stay."""
        for name, parse in self._typed:
            try:
                document[name] = parse(document[name])
            except (ValueError, KeyError):
                return Undecodable(f"column {name!r} does not hold {_WANTED[parse]}", row)
        return document


def _multiline(rows: Sequence[bytes]) -> bool:
    return any(b"\n" in row or b"\r" in row for row in rows)


def _integer(text: str | None) -> int | None:
    if not text:
        return None
    if (text.isdigit() and text.isascii()) or _INT.fullmatch(text):
        return int(text)
    raise ValueError


def _number(text: str | None) -> float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    raise ValueError


def _boolean(text: str | None) -> bool | None:
    if not text:
        return None
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError


def _json(text: str | None) -> Any:
    return orjson.loads(text) if text else None


_PARSERS: Mapping[str, Callable[[str | None], Any]] = {
    "int": _integer,
    "float": _number,
    "bool": _boolean,
    "json": _json,
}
_WANTED: Mapping[Callable[[str | None], Any], str] = {
    _integer: "an integer",
    _number: "a number",
    _boolean: "true or false",
    _json: "JSON",
}


class _CsvCodec(Codec):
    """Rows in a form of the user's."""

    def __init__(self, settings: CsvSettings) -> None:
        self._settings = settings
        self._columns = settings.columns
        self._rows = RowReader(settings.columns or (), settings.types)
        self._reader = partial(csv.reader, delimiter=settings.delimiter, quotechar=settings.quote, strict=True)

    def decode(self, value: Any) -> Document:
        """The document of a row. Raises ExtractError."""
        if value.__class__ is dict:
            return value  # the source knew the columns
        settings, columns = self._settings, self._columns
        cells: list[Any] = _cells(value, self._reader)
        if settings.null_text is not None:
            cells = [None if cell == settings.null_text else cell for cell in cells]
        if columns is None:
            return {"values": cells}
        if len(cells) != len(columns):
            raise ExtractError(f"the row has {len(cells)} values for {len(columns)} columns")
        document = self._rows.converted(dict(zip(columns, cells, strict=True)), value)
        if isinstance(document, Undecodable):
            raise ExtractError(document.reason)
        return document

    def encode(self, document: Any) -> bytes:
        """A row. Raises LoadError."""
        settings, columns = self._settings, self._columns
        values = _values(document) if columns is None else in_columns(document, columns, "the format")
        null = settings.null_text
        if null is not None:
            if null in values:
                raise LoadError("a text is the same as `null_text`: it would be read as null")
            values = [null if value is None else value for value in values]
        return format_row(values, settings.delimiter, settings.quote)

    def passes(self, read: Codec) -> bool:
        """Whether it is the same form."""
        return isinstance(read, _CsvCodec) and read._settings == self._settings


def _codec(settings: CsvSettings, context: CodecContext) -> Codec:
    return _CsvCodec(settings) if settings.model_fields_set else PlainCodec(decode, encode)


FORMAT = FormatSpec("csv", _codec, settings=CsvSettings, lines=True)

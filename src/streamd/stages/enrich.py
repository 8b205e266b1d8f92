"""Looks a key up in a table read from a CSV or JSON file, and adds what it finds to the record.

    - enrich: {file: users.csv, key: user_id, match: id, as: user}   # user: {"id": …, "name": …}
    - enrich: {file: rates.json, key: currency, match: code, fields: [rate], missing: drop}

CSV files have a header line, or `columns`; their values, and so the keys, are text: a number is looked up by its
digits, true and false by these words. JSON files hold a list of objects, or one object a line. Without `as` the row's
fields are set in the document itself. A key that is null is one that the table does not have. The file is read once,
when the pipeline starts; relative paths start at the pipeline's folder.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField, parse_local_path
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import FatalError, NotFoundError, TransformError

Row = dict[str, Any]
JSON_LINES = (".ndjson", ".jsonl")
SUFFIXES = (".csv", ".json", *JSON_LINES)


_MISSING_SCHEMA = {"enum": ["error", "null", None, "drop"]}


def _null(value: object) -> object:
    """The word, where YAML sees a value."""
    return "null" if value is None else value


Missing = Annotated[Literal["error", "null", "drop"], BeforeValidator(_null), WithJsonSchema(_MISSING_SCHEMA)]


class EnrichConfig(Model):
    """Settings of `enrich`."""

    file: Annotated[Path, BeforeValidator(parse_local_path)] = Field(
        description="The table: .csv, .json or .ndjson.", examples=["users.csv"]
    )
    key: ExpressionField = Field(description="What to look up.", examples=["user_id"])
    match: str = Field(description="Column that holds the keys; each key is there once.", examples=["id"])
    as_: str | None = Field(None, alias="as", description="Field that gets the row as an object.", examples=["user"])
    fields: tuple[str, ...] | None = Field(
        None, description="Columns to take; all but the key's when not given.", examples=[["name", "country"]]
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Column names of a CSV file without a header line.", examples=[["key", "value"]]
    )
    missing: Missing = Field(
        "error", description="A key that the table does not have: an error of the record, null, or drop the record."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EnrichConfig:
        suffix = self.file.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"file {self.file.name!r}: expected a name that ends in {', '.join(SUFFIXES)}")
        if self.columns is not None and suffix != ".csv":
            raise ValueError(f"`columns` is only for .csv files, the file is {self.file.name!r}")
        for name in ("columns", "fields"):
            given = getattr(self, name) or ()
            twice = next((column for column in given if given.count(column) > 1), None)
            if twice is not None:
                raise ValueError(f"`{name}` has {twice!r} twice: expected each column once")
        return self


def _keeps(config: EnrichConfig, field: str) -> bool:
    if config.as_ is not None:
        return field != config.as_.partition(".")[0]
    return config.fields is not None and field not in config.fields


@stage("enrich", config=EnrichConfig, keeps=_keeps)
class Enrich:
    """The stage `enrich`."""

    spec: Any

    def __init__(self, config: EnrichConfig, context: PipelineContext) -> None:
        self.config = config
        self.path = config.file if config.file.is_absolute() else context.base_dir / config.file
        self.suffix = config.file.suffix.lower()
        self.table: dict[Any, Row] = {}
        # True and False are equal to 1 and 0, and must not find their rows.
        self.flags: dict[bool, Row] = {}
        self.columns: tuple[str, ...] = config.fields or ()
        self.nested = False

    async def prepare(self) -> None:
        """Read the table. Raises NotFoundError, FatalError."""
        if not self.path.is_file():
            raise NotFoundError(f"The table {self.path} of an enrich stage does not exist or is not a file.")
        try:
            rows = list(self._csv_rows() if self.suffix == ".csv" else self._json_rows())
        except (OSError, ValueError, csv.Error) as error:
            raise FatalError(f"The table {self.path} cannot be read: {error}.") from None
        names = dict.fromkeys(name for _, row in rows for name in row)
        self._check_columns(names, there=bool(rows))
        match = self.config.match
        if self.config.fields is None:
            self.columns = tuple(name for name in names if name != match or self.config.as_ is not None)
        for place, row in rows:
            self._add(place, row.get(match), {name: row.get(name) for name in self.columns})

    def _check_columns(self, names: Row, *, there: bool) -> None:
        """A column that no row has is misspelt. An empty table has none, and that is no error."""
        wanted = (self.config.match, *(self.config.fields or ()))
        unknown = next((name for name in wanted if name not in names), None) if there else None
        if unknown is not None:
            raise FatalError(f"The table {self.path} has no column {unknown!r}: it has {', '.join(names)}.")

    def _add(self, place: str, key: Any, row: Row) -> None:
        match = self.config.match
        if key is None or key.__class__ not in (str, int, float, bool):
            raise FatalError(
                f"{self.path}, {place}: no usable value in the key column {match!r}: expected text or a number, got "
                f"{_type(key)}."
            )
        table: dict[Any, Row] = self.flags if key.__class__ is bool else self.table
        if key in table:
            raise FatalError(
                f"{self.path}, {place}: its key is there twice; expected a column for `match` that is different in "
                f"each row, {match!r} is not."
            )
        table[key] = row
        self.nested = self.nested or any(isinstance(value, dict | list) for value in row.values())

    def _csv_rows(self) -> Iterator[tuple[str, Row]]:
        """(place, row) for each row; raises also csv.Error, OSError, ValueError."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = list(self.config.columns) if self.config.columns is not None else next(reader, [])
            if len(set(columns)) != len(columns):
                raise ValueError("its header has a column name twice")
            for values in reader:
                if not values:
                    continue
                place = f"line {reader.line_num}"
                if len(values) != len(columns):
                    raise FatalError(
                        f"{self.path}, {place}: expected {len(columns)} values ({', '.join(columns)}), got "
                        f"{len(values)}."
                    )
                yield place, dict(zip(columns, values, strict=True))

    def _json_rows(self) -> Iterator[tuple[str, Row]]:
        data = self.path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        if self.suffix in JSON_LINES or not data.lstrip().startswith(b"["):
            parsed = [(f"line {number}", line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
            rows = [(place, _parsed(self.path, place, line)) for place, line in parsed]
        else:
            rows = [(f"row {number}", row) for number, row in enumerate(orjson.loads(data), 1)]
        for place, row in rows:
            if not isinstance(row, dict):
                raise FatalError(f"{self.path}, {place}: expected an object, got {_type(row)}.")
            yield place, row

    def fuse(self, body: Body) -> None:
        find = body.constant(f"find_{self.path.stem}", self._finder())
        row = body.local(self.config.as_ or "row", f"{find}({body.value(self.config.key)})")
        if self.config.missing == "drop":
            body.keep_if(f"{row} is not None")
        absent = f" if {row} is not None else None" if self.config.missing == "null" else ""
        if self.config.as_ is not None:
            # A copy: what later stages do to the record must not reach the table.
            body.set_field(self.config.as_.split("."), f"({{**{row}}}{absent})")
            return
        for name in self.columns:
            body.set_field([name], f"({row}[{name!r}]{absent})")

    def _finder(self) -> Callable[[Any], Row | None]:
        """A function key → row or None; with `missing: error` one that raises."""
        table, flags, name, nested = self.table, self.flags, self.path.name, self.nested
        error, text = self.config.missing == "error", self.suffix == ".csv"

        def find(key: Any) -> Row | None:
            if text:
                key = as_text(key)
            try:
                row = flags.get(key) if key.__class__ is bool else table.get(key)
            except TypeError:
                raise TransformError(
                    f"the key for the table {name} must be text or a number, got {_type(key)}"
                ) from None
            if row is None and error:
                raise TransformError(f"the key is not in the table {name}")
            return deepcopy(row) if nested else row

        return find


def as_text(key: Any) -> Any:
    """A key as a CSV file would hold it: 7 and 7.0 as "7", true as "true"."""
    kind = key.__class__
    if kind is int:
        return str(key)
    if kind is bool:
        return "true" if key else "false"
    if kind is float:
        return str(int(key)) if key.is_integer() and abs(key) < 1e16 else repr(key)
    return key


def _parsed(path: Path, place: str, line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FatalError(f"{path}, {place}: not JSON: {error}.") from None


def _type(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)

"""A table read whole from a CSV or JSON file, whose rows are found by the key in one of its columns.

CSV files have a header line, or their columns are given; their values, and so the keys, are text: a number is looked up
by its digits, true and false by these words. JSON files hold a list of objects, or one object a line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from streamd.component.table import type_name
from streamd.errors import FatalError, NotFoundError

Row = dict[str, Any]
JSON_LINES = (".ndjson", ".jsonl")
SUFFIXES = (".csv", ".json", *JSON_LINES)


class FileTable:
    """Rows by their keys. `read` fills it.

    `match`: the column of the keys. `fields`: the columns of the rows; None for all that the file has, that of the key
    among them where `with_key`. `columns`: those of a CSV file without a header line. `unique`: each key is there once,
    and in every row. `text`: keys are text, and what is looked up is to be made such by `as_text`.
    """

    def __init__(
        self,
        path: Path,
        match: str,
        fields: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        with_key: bool = True,
        unique: bool = True,
    ) -> None:
        self.path, self.match, self.fields = path, match, fields
        self.suffix = path.suffix.lower()
        self.text = self.suffix == ".csv"
        self.columns: tuple[str, ...] = tuple(fields or ())
        self.rows: dict[Any, Row] = {}
        # True and False are equal to 1 and 0, and must not find their rows.
        self.flags: dict[bool, Row] = {}
        self.nested = False
        self._header, self._with_key, self._unique = columns, with_key, unique

    def read(self) -> None:
        """Read the file. Raises NotFoundError, FatalError."""
        if not self.path.is_file():
            raise NotFoundError(f"The table {self.path} does not exist or is not a file.")
        try:
            rows = list(self._csv_rows() if self.text else self._json_rows())
        except (OSError, ValueError, csv.Error) as error:
            raise FatalError(f"The table {self.path} cannot be read: {error}.") from None
        names = dict.fromkeys(name for _, row in rows for name in row)
        self._check_columns(names, there=bool(rows))
        if self.fields is None:
            self.columns = tuple(name for name in names if name != self.match or self._with_key)
        for place, row in rows:
            self._add(place, row.get(self.match), {name: row.get(name) for name in self.columns})

    def find(self, key: Any) -> Row | None:
        """The row of a key that is as the table's are. Raises TypeError for an object or a list."""
        return self.flags.get(key) if key.__class__ is bool else self.rows.get(key)

    def _check_columns(self, names: Row, *, there: bool) -> None:
        """A column that no row has is misspelt. An empty table has none, and that is no error."""
        wanted = (self.match, *(self.fields or ()))
        unknown = next((name for name in wanted if name not in names), None) if there else None
        if unknown is not None:
            raise FatalError(f"The table {self.path} has no column {unknown!r}: it has {', '.join(names)}.")

    def _add(self, place: str, key: Any, row: Row) -> None:
        if key is None and not self._unique:
            return
        if key is None or key.__class__ not in (str, int, float, bool):
            raise FatalError(
                f"{self.path}, {place}: no usable value in the key column {self.match!r}: expected text or a number, "
                f"got {type_name(key)}."
            )
        table: dict[Any, Row] = self.flags if key.__class__ is bool else self.rows
        if self._unique and key in table:
            raise FatalError(
                f"{self.path}, {place}: its key is there twice; expected a column for `match` that is different in "
                f"each row, {self.match!r} is not."
            )
        table[key] = row
        self.nested = self.nested or any(isinstance(value, dict | list) for value in row.values())

    def _csv_rows(self) -> Iterator[tuple[str, Row]]:
        """(place, row) for each row; raises also csv.Error, OSError, ValueError."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = list(self._header) if self._header is not None else next(reader, [])
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
            rows = [(place, self._parsed(place, line)) for place, line in parsed]
        else:
            rows = [(f"row {number}", row) for number, row in enumerate(orjson.loads(data), 1)]
        for place, row in rows:
            if not isinstance(row, dict):
                raise FatalError(f"{self.path}, {place}: expected an object, got {type_name(row)}.")
            yield place, row

    def _parsed(self, place: str, line: bytes) -> Any:
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise FatalError(f"{self.path}, {place}: not JSON: {error}.") from None


def check_suffix(path: Path) -> str:
    """The ending of a table's name, in small letters. Raises ValueError for one that no table has."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"file {path.name!r}: expected a name that ends in {', '.join(SUFFIXES)}")
    return suffix

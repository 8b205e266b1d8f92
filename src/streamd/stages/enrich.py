"""Looks a key up in a table read from a CSV or JSON file, and adds what it finds to the record.

    - enrich: {file: users.csv, key: user_id, match: id, as: user}   # user: {"id": …, "name": …}
    - enrich: {file: rates.json, key: currency, match: code, fields: [rate], missing: drop}

CSV files have a header line, or `columns`; their values, and so the keys, are text: a number is looked up by its
digits. JSON files hold a list of objects, or one object a line. Without `as` the row's fields are set in the document
itself. The file is read once, when the pipeline starts; relative paths start at the pipeline's folder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import FatalError, NotFoundError, TransformError


class EnrichConfig(Model):
    """Settings of `enrich`."""

    file: Path = Field(description="The table: .csv, .json or .ndjson.", examples=["users.csv"])
    key: ExpressionField = Field(description="What to look up.", examples=["user_id"])
    match: str = Field(description="Column that holds the keys; each key is there once.", examples=["id"])
    as_: str | None = Field(None, alias="as", description="Field that gets the row as an object.", examples=["user"])
    fields: tuple[str, ...] | None = Field(
        None, description="Columns to take; all but the key's when not given.", examples=[["name", "country"]]
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Column names of a CSV file without a header line.", examples=[["key", "value"]]
    )
    missing: Literal["error", "null", "drop"] = Field(
        "error", description="A key that the table does not have: an error of the record, null, or drop the record."
    )


@stage("enrich", config=EnrichConfig)
class Enrich:
    """The stage `enrich`."""

    spec: Any

    def __init__(self, config: EnrichConfig, context: PipelineContext) -> None:
        self.config = config
        self.path = config.file if config.file.is_absolute() else context.base_dir / config.file
        self.table: dict[Any, dict[str, Any]] = {}
        self.columns: tuple[str, ...] = config.fields or ()

    async def prepare(self) -> None:
        """Read the table. Raises NotFoundError, FatalError."""
        if not self.path.is_file():
            raise NotFoundError(f"The table {self.path} of an enrich stage does not exist or is not a file.")
        rows = list(self._rows())
        match = self.config.match
        for number, row in enumerate(rows, 1):
            key = row.get(match)
            if key is None or key.__class__ not in (str, int, float, bool):
                raise FatalError(f"{self.path}, row {number}: no usable value in the key column {match!r}.")
            if key in self.table:
                raise FatalError(f"{self.path}, row {number}: its key is there twice; `match` needs a unique column.")
            self.table[key] = row
        if self.config.fields is None:
            names = dict.fromkeys(name for row in rows for name in row)
            self.columns = tuple(name for name in names if name != match or self.config.as_ is not None)
        self.table = {key: {name: row.get(name) for name in self.columns} for key, row in self.table.items()}

    def _rows(self) -> Iterable[dict[str, Any]]:
        try:
            if self.path.suffix == ".csv":
                with self.path.open(newline="", encoding="utf-8-sig") as file:
                    yield from csv.DictReader(file, fieldnames=self.config.columns)
                return
            data = self.path.read_bytes()
            parsed = (
                [orjson.loads(line) for line in data.splitlines() if line.strip()]
                if self._is_lines(data)
                else orjson.loads(data)
            )
        except (OSError, ValueError) as error:
            raise FatalError(f"The table {self.path} cannot be read: {error}.") from None
        rows = parsed if isinstance(parsed, list) else [parsed]
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise FatalError(f"{self.path}, row {number}: expected an object, got {type(row).__name__}.")
            yield row

    def _is_lines(self, data: bytes) -> bool:
        return self.path.suffix in (".ndjson", ".jsonl") or not data.lstrip().startswith(b"[")

    def fuse(self, body: Body) -> None:
        key = body.value(self.config.key)
        if self.path.suffix == ".csv":
            key = f"{body.constant('digits', digits)}({key})"
        find = body.constant(f"find_{self.path.stem}", self._finder())
        row = body.local(self.config.as_ or "row", f"{find}({key})")
        if self.config.missing == "drop":
            body.keep_if(f"{row} is not None")
        if self.config.as_ is not None:
            copied = row if self.config.missing == "null" else f"{{**{row}}}"
            body.set_field([self.config.as_], copied)
            return
        for name in self.columns:
            some = f"{row}[{name!r}]"
            body.set_field(
                [name], f"({some} if {row} is not None else None)" if self.config.missing == "null" else some
            )

    def _finder(self) -> Any:
        """A function key → row or None; with `missing: error` one that raises."""
        table = self.table
        if self.config.missing != "error":
            return table.get
        name = self.path.name

        def find(key: Any) -> dict[str, Any]:
            row = table.get(key)
            if row is None:
                raise TransformError(f"the key is not in the table {name}")
            return row

        return find


def digits(key: Any) -> Any:
    """A key as a CSV file would hold it."""
    return str(key) if key.__class__ is int else key

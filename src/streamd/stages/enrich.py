"""Looks a key up in a table read from a CSV or JSON file, and adds what it finds to the record.

    - enrich: {file: users.csv, key: user_id, match: id, as: user}   # user: {"id": …, "name": …}
    - enrich: {file: rates.json, key: currency, match: code, fields: [rate], missing: drop}

CSV files have a header line, or `columns`; their values, and so the keys, are text: a number is looked up by its
digits, true and false by these words. JSON files hold a list of objects, or one object a line. Without `as` the row's
fields are set in the document itself. A key that is null is one that the table does not have. The file is read once,
when the pipeline starts; relative paths start at the pipeline's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField, parse_local_path
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import TransformError
from streamd.transport.files.table import FileTable, Row, as_text, check_suffix, type_name

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
        suffix = check_suffix(self.file)
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
        self.table = FileTable(
            self.path, config.match, config.fields, config.columns, with_key=config.as_ is not None
        )  # fmt: skip

    async def prepare(self) -> None:
        """Read the table. Raises NotFoundError, FatalError."""
        self.table.read()

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
        for name in self.table.columns:
            body.set_field([name], f"({row}[{name!r}]{absent})")

    def _finder(self) -> Callable[[Any], Row | None]:
        """A function key → row or None; with `missing: error` one that raises."""
        find_row, name, nested = self.table.find, self.path.name, self.table.nested
        error, text = self.config.missing == "error", self.table.text

        def find(key: Any) -> Row | None:
            if text:
                key = as_text(key)
            try:
                row = find_row(key)
            except TypeError:
                raise TransformError(
                    f"the key for the table {name} must be text or a number, got {type_name(key)}"
                ) from None
            if row is None and error:
                raise TransformError(f"the key is not in the table {name}")
            return deepcopy(row) if nested else row

        return find

"""Looks a key up in a table, of a CSV or JSON file or of a topic, and adds what it finds to the record.

    - enrich: {file: users.csv, key: user_id, match: id, as: user}   # user: {"id": …, "name": …}
    - enrich: {file: rates.json, key: currency, match: code, fields: [rate], missing: drop}
    - enrich: {table: users, key: user_id, as: user}

CSV files have a header line, or `columns`; their values, and so the keys, are text: a number is looked up by its
digits, true and false by these words. JSON files hold a list of objects, or one object a line. Without `as` the row's
fields are set in the document itself. A key that is null is one that the table does not have. The file is read once,
when the pipeline starts; relative paths start at the pipeline's folder.

`table` names a source with `table:` beside it, for instance a compacted topic, where a record without a value deletes
its row:

    sources:
      orders: {kafka: {topic: orders}}
      users:  {kafka: {topic: users}, table: {key: id}}

Each worker reads the whole topic, all partitions of it, before its tasks read anything, and follows it then: the stream
need not be partitioned as the table is. A lookup takes the newest row at hand, between two batches at the earliest; so
a batch that is done again after a crash may see newer rows. Keys are compared as text.
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
from streamd.component.table import LookupTable, as_text, type_name
from streamd.errors import TransformError
from streamd.transport.files.table import FileTable, Row, check_suffix

_MISSING_SCHEMA = {"enum": ["error", "null", None, "drop"]}


def _null(value: object) -> object:
    """The word, where YAML sees a value."""
    return "null" if value is None else value


Missing = Annotated[Literal["error", "null", "drop"], BeforeValidator(_null), WithJsonSchema(_MISSING_SCHEMA)]


class EnrichConfig(Model):
    """Settings of `enrich`."""

    file: Annotated[Path | None, BeforeValidator(parse_local_path)] = Field(
        None, description="A file with the table: .csv, .json or .ndjson.", examples=["users.csv"]
    )
    table: str | None = Field(None, description="Id of a source with `table:`, instead of a file.", examples=["users"])
    key: ExpressionField = Field(description="What to look up.", examples=["user_id"])
    match: str | None = Field(
        None, description="Column of the file that holds the keys; each key is there once.", examples=["id"]
    )
    as_: str | None = Field(None, alias="as", description="Field that gets the row as an object.", examples=["user"])
    fields: tuple[str, ...] | None = Field(
        None,
        description="Columns to take; all but the key's when not given. Of a `table`, with `as`: the whole row.",
        examples=[["name", "country"]],
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Column names of a CSV file without a header line.", examples=[["key", "value"]]
    )
    missing: Missing = Field(
        "error", description="A key that the table does not have: an error of the record, null, or drop the record."
    )
    as_of: Literal["latest", "event_time"] = Field(
        "latest",
        description="Which version of a row: the newest at hand. That of the record's own time is given by `join`.",
        examples=["latest"],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EnrichConfig:
        if self.as_of == "event_time":
            raise ValueError(
                "`as_of: event_time` is for `join`, which keeps the versions of each row: {join: {left: …, right: "
                "{table: …}, as_of: event_time}}, with a source without `table:`; enrich takes the newest row at hand"
            )
        if self.file is None:
            self._of_a_table()
        else:
            self._of_a_file(self.file)
        for name in ("columns", "fields"):
            given = getattr(self, name) or ()
            twice = next((column for column in given if given.count(column) > 1), None)
            if twice is not None:
                raise ValueError(f"`{name}` has {twice!r} twice: expected each column once")
        return self

    def _of_a_file(self, file: Path) -> None:
        if self.table is not None:
            raise ValueError("`file` and `table` are both given: expected one of them")
        if self.match is None:
            raise ValueError("`match` is missing: expected the column of the file that holds the keys")
        suffix = check_suffix(file)
        if self.columns is not None and suffix != ".csv":
            raise ValueError(f"`columns` is only for .csv files, the file is {file.name!r}")

    def _of_a_table(self) -> None:
        if self.table is None:
            raise ValueError("expected `file`, or `table` with the id of a source that has `table:` beside it")
        if self.match is not None:
            raise ValueError("`match` is for files: the key of a table's rows stands at its source, `table: {key: …}`")
        if self.columns is not None:
            raise ValueError("`columns` is only for .csv files: a table's rows have names of their own")
        if self.as_ is None and self.fields is None:
            raise ValueError("what the rows of a table hold is not known before: expected `as`, or `fields`")


def _keeps(config: EnrichConfig, field: str) -> bool:
    if config.as_ is not None:
        return field != config.as_.partition(".")[0]
    return config.fields is not None and field not in config.fields


def _tables(config: EnrichConfig) -> dict[str, tuple[str, ...] | None]:
    return {} if config.table is None else {config.table: config.fields}


@stage("enrich", config=EnrichConfig, keeps=_keeps, tables=_tables)
class Enrich:
    """The stage `enrich`."""

    spec: Any

    def __init__(self, config: EnrichConfig, context: PipelineContext) -> None:
        self.config = config
        # An absolute path stays as it is.
        self.path = context.base_dir / (config.file or "")
        self.lookup: LookupTable | None = None if config.table is None else context.table(config.table)
        self.table = FileTable(
            self.path, config.match or "", config.fields, config.columns, with_key=config.as_ is not None
        )  # fmt: skip

    async def prepare(self) -> None:
        """Read the file. Raises NotFoundError, FatalError."""
        if self.lookup is None:
            self.table.read()

    def fuse(self, body: Body) -> None:
        name = self.config.table or self.path.stem
        find = body.constant(f"find_{name}", self._finder() if self.lookup is None else self._looker_up(self.lookup))
        row = body.local(self.config.as_ or "row", f"{find}({body.value(self.config.key)})")
        if self.config.missing == "drop":
            body.keep_if(f"{row} is not None")
        absent = f" if {row} is not None else None" if self.config.missing == "null" else ""
        if self.config.as_ is not None:
            # A copy: what later stages do to the record must not reach the table of a file.
            whole = row if self.lookup is not None else f"({{**{row}}}{absent})"
            body.set_field(self.config.as_.split("."), whole)
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

    def _looker_up(self, table: LookupTable) -> Callable[[Any], Row | None]:
        """The same for the table of a source, whose rows are of their own at each lookup."""
        look_up, fields, error = table.find, self.config.fields, self.config.missing == "error"
        # Others may take more of the same rows.
        fits = fields is None or table.columns == fields
        if fits and not error:
            return look_up

        def find(key: Any) -> Row | None:
            row = look_up(key)
            if row is None:
                if error:
                    raise TransformError(f"the key is not in the table {table.name}")
                return None
            return row if fits else {name: row.get(name) for name in fields or ()}

        return find

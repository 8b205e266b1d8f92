"""Rules for the quality of records, as a user writes them."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from streamd.component.fields import Duration, ExpressionField, parse_field_path, parse_local_path
from streamd.component.grouping import Grouping, GroupingField
from streamd.component.model import Model
from streamd.expr.functions.pattern import Pattern, read_pattern
from streamd.transport.files.table import check_suffix

Severity: TypeAlias = Literal["info", "warning", "error", "critical"]
Action: TypeAlias = Literal["pass", "tag", "drop", "dead_letter", "stop"]

# What a record that breaks a rule of this severity meets, where no `action` is written; None: the stage's `on_error`.
BY_SEVERITY: dict[Severity, Action | None] = {"info": "pass", "warning": "pass", "error": None, "critical": "stop"}

KINDS = ("not_null", "range", "pattern", "in", "references", "freshness", "unique", "check")
_OF_A_FIELD = ("range", "pattern", "in", "references")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


def _bounds(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2 and any(bound is not None for bound in value):
        low, high = value
        if all(bound is None or _is_number(bound) for bound in value):
            if low is not None and high is not None and low > high:
                raise ValueError("expected the smaller number first")
            return (low, high)
    raise ValueError("expected [least, greatest], two numbers, one of which may be null")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pattern(value: object) -> Pattern:
    if isinstance(value, Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a regular expression, written as one text")
    return read_pattern(value)


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


_NUMBER_OR_NULL = {"type": ["number", "null"]}
_RANGE_SCHEMA = {"type": "array", "items": _NUMBER_OR_NULL, "minItems": 2, "maxItems": 2}
_NAMES_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}

Bounds = Annotated[
    tuple[float | int | None, float | int | None], PlainValidator(_bounds), WithJsonSchema(_RANGE_SCHEMA)
]
PatternField = Annotated[Any, PlainValidator(_pattern), WithJsonSchema({"type": "string"})]
Names = Annotated[list[str], BeforeValidator(_names), WithJsonSchema(_NAMES_SCHEMA)]
Scalar = str | int | float | bool


class References(Model):
    """A table that must have the value: a file, or a source with `table:`."""

    file: Annotated[Path | None, BeforeValidator(parse_local_path)] = Field(
        None,
        description="A file with the table: .csv, .json or .ndjson. It is read once, when the pipeline starts; a "
        "relative path starts at the pipeline's folder.",
        examples=["countries.csv"],
    )
    column: str | None = Field(None, description="The file's column that must have the value.", examples=["code"])
    table: str | None = Field(
        None, description="Id of a source with `table:`, instead of a file: one of its rows must have the value as its "
        "key.", examples=["countries"],
    )  # fmt: skip
    columns: tuple[str, ...] | None = Field(
        None, description="Column names of a CSV file without a header line.", examples=[["code", "name"]]
    )

    @field_validator("file")
    @classmethod
    def _a_table(cls, file: Path | None) -> Path | None:
        if file is not None:
            check_suffix(file)
        return file

    @model_validator(mode="after")
    def _one_table(self) -> References:
        if (self.file is None) == (self.table is None):
            raise ValueError("it names no table, or two: write either file and column, or table")
        if self.file is None:
            if self.column is not None or self.columns is not None:
                what = "column" if self.column is not None else "columns"
                raise ValueError(
                    f"`{what}` is for files: the key of a table's rows stands at its source, `table: {{key: …}}`"
                )
            return self
        if self.column is None:
            raise ValueError("`column` is missing: expected the column of the file that must have the value")
        if self.columns is not None and self.file.suffix.lower() != ".csv":
            raise ValueError(f"`columns` is only for .csv files, the file is {self.file.name!r}")
        return self


class Judged(Model):
    """What every check has."""

    severity: Severity = Field(
        "error", description="How bad it is to break it; decides what happens where no `action` says it.",
        examples=["warning"],
    )  # fmt: skip
    action: Action | None = Field(
        None,
        description="What becomes of a record that breaks it: it passes and is only counted, it is tagged, dropped, "
        "sent to the dead letters, or stops the pipeline.",
        examples=["dead_letter"],
    )


class Rule(Judged):
    """One rule: exactly one of its kinds, and for most a `field`."""

    name: str | None = Field(
        None,
        description="What messages and metrics call it: letters, digits, `_` and `-`. Made of the field and the kind "
        "where it is not written.",
        examples=["amount_in_range"],
    )
    field: ExpressionField | None = Field(
        None,
        description="What is looked at: a field or an expression. Where it is missing or null the rule holds; "
        "`not_null` is there for that.",
        examples=["amount", "user.country"],
    )
    not_null: Names | None = Field(
        None, description="Fields that must be there and not null.", examples=[["order_id", "user.id"]]
    )
    range: Bounds | None = Field(
        None, description="Least and greatest number that `field` may be; null for no bound.", examples=[[0, 10000]]
    )
    pattern: PatternField | None = Field(
        None,
        description="Regular expression that must be found in the text of `field`; `^…$` for the whole of it.",
        examples=["^[A-Z]{2}$"],
    )
    in_: list[Scalar] | None = Field(
        None, alias="in", description="The values that `field` may have.", examples=[["DE", "FR"]], min_length=1
    )
    references: References | None = Field(
        None,
        description="A table that must have the value of `field`.",
        examples=[{"file": "countries.csv", "column": "code"}, {"table": "countries"}],
    )
    freshness: Duration | None = Field(
        None,
        gt=0,
        description="How old a record may be when it comes here: this machine's clock less `field` (ms since the "
        "epoch, or ISO 8601 text), or less the record's own time.",
        examples=["1h"],
    )
    unique: GroupingField | None = Field(
        None,
        description="A key that no two records have within `within` of each other, by their times: a field, a list of "
        "fields, or names with their expressions.",
        examples=["order_id", ["device", "reading"]],
    )
    within: Duration | None = Field(
        None, ge=0.001, description="How far apart in time two records with one `unique` may be.", examples=["10m"]
    )
    check: ExpressionField | None = Field(
        None,
        description="A condition that must hold. It is broken as well where it has no value for a record.",
        examples=["total == sum([item.price for item in items])"],
    )

    @field_validator("not_null")
    @classmethod
    def _paths(cls, names: list[str] | None) -> list[str] | None:
        for name in names or ():
            if not all(part.isidentifier() for part in parse_field_path(name)):
                raise ValueError(f"{name!r} is no field's name: expected one like `user` or `user.country`")
        return names

    @field_validator("name")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError("expected letters, digits, `_` and `-`, not starting with a digit")
        return name

    @field_validator("unique")
    @classmethod
    def _one_key(cls, by: Grouping | None) -> Grouping | None:
        if by is not None and (by.sets is not None or not by.fields):
            raise ValueError("expected at least one field, and no `sets`")
        return by

    @model_validator(mode="after")
    def _one_kind(self) -> Rule:
        given = [kind for kind in KINDS if getattr(self, "in_" if kind == "in" else kind) is not None]
        if len(given) != 1:
            if given:
                raise ValueError(f"{' and '.join(given)} are two rules: write each as one of its own")
            raise ValueError(f"it says nothing that is to hold: write one of {', '.join(KINDS)}")
        [kind] = given
        if (kind in _OF_A_FIELD) and self.field is None:
            raise ValueError(f"`{kind}` needs a `field` to look at")
        if self.field is not None and kind not in (*_OF_A_FIELD, "freshness"):
            raise ValueError(f"`{kind}` takes no `field`")
        if (self.within is not None) != (kind == "unique"):
            raise ValueError("`unique` and `within` belong together: expected both or none")
        return self

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, "in_" if kind == "in" else kind) is not None)

    @property
    def called(self) -> str:
        """Its name, or the one that it gets."""
        if self.name is not None:
            return self.name
        kind = self.kind
        if self.not_null is not None:
            of = "_".join(self.not_null)
        elif self.unique is not None:
            of = "_".join(self.unique.fields)
        else:
            of = str(self.field if self.field is not None else self.check or "")
        words = re.findall(r"[A-Za-z0-9]+", of)
        name = "_".join([*words, kind])[-100:].lstrip("_0123456789")
        return name or kind


def _library() -> Any:
    try:
        return importlib.import_module("jsonschema_rs")
    except ModuleNotFoundError:
        return None


def _mistake(error: ValueError) -> ValidationError:
    message = str(getattr(error, "message", error)).split("\n")[0]
    custom = PydanticCustomError("schema", "{message}", {"message": f"no JSON Schema: {message}"})
    place = tuple(getattr(error, "instance_path", ()))
    details = [InitErrorDetails(type=custom, loc=place, input=None)]
    return ValidationError.from_exception_data("json_schema", details, hide_input=True)


class Schema(Judged):
    """A schema that the whole document must fit."""

    json_schema: dict[str, Any] | Annotated[str, BeforeValidator(parse_local_path)] | None = Field(
        None,
        description="A JSON Schema, drafts 4 to 2020-12: a file, whose relative path starts at the pipeline's folder, "
        "or the schema itself. `$ref` may lead to other files beside it.",
        examples=["order.schema.json", {"type": "object", "required": ["order_id"]}],
    )
    avro: dict[str, Any] | Annotated[str, BeforeValidator(parse_local_path)] | None = Field(
        None, description="An Avro schema of a record: a file, or the schema itself.", examples=["order.avsc"]
    )
    formats: bool = Field(
        True,
        description="Whether `format` of a JSON Schema (date-time, email, uuid, …) is checked, or says only what is "
        "meant.",
        examples=[False],
    )

    @field_validator("json_schema")
    @classmethod
    def _a_schema(cls, schema: Any) -> Any:
        """Tell what is wrong with a schema that is written here at its place. Without the library loading it tells."""
        library = None if not isinstance(schema, dict) else _library()
        if library is not None:
            try:
                library.meta.validate(schema)
            except ValueError as error:
                raise _mistake(error) from None
        return schema

    @model_validator(mode="after")
    def _one_language(self) -> Schema:
        if (self.json_schema is None) == (self.avro is None):
            raise ValueError("it names no schema, or two: write either json_schema or avro")
        return self

"""The settings of the format avro."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from streamd.codecs.avro.schema import Schema, schema_text
from streamd.codecs.avro.values import Forms
from streamd.codecs.registered import RegistrySettings
from streamd.component.fields import LocalPath
from streamd.component.model import Model
from streamd.errors import ConfigError

# Fields of both models.
_SCHEMA: Any = Field(
    None,
    alias="schema",
    description="The schema, as YAML or as JSON text.",
    examples=[{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]}],
    json_schema_extra={"type": ["object", "string"]},
)
_SCHEMA_FILE: Any = Field(
    None,
    min_length=1,
    description="The file with the schema, as JSON. A relative path begins at the folder of the pipeline's file.",
    examples=["order.avsc"],
)
_TIMESTAMPS: Any = Field(
    "ms",
    description="What a timestamp is in a document: ms since the epoch, or ISO 8601 text in UTC. Sinks take both.",
    examples=["iso"],
)
_DECIMALS: Any = Field(
    "text",
    description="What a decimal is in a document: exact text, or a number that may be rounded. Sinks take both.",
    examples=["float"],
)
_UNIONS: Any = Field(
    "plain",
    description="What a value of a union is in a document: itself, or {TYPE: value} as in Avro's own JSON, for "
    "unions whose types cannot be told apart.",
    examples=["tagged"],
)


def _is_schema(value: Any) -> Any:
    """The JSON text of a schema as it was given. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str | Mapping | list):
        raise ValueError("expected an Avro schema, as YAML or as JSON text")
    text = schema_text(value)
    try:
        json.loads(text)
        Schema(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected an Avro schema, not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise ValueError("expected an Avro schema, this one is nested too deeply") from None
    except ConfigError as error:
        # Types that it names may be in schemas that the registry's subjects refer to.
        raise ValueError(str(error)) from None
    return text


class AvroFileSettings(Model):
    """Settings of the format avro of container files, whose header has the schema that they were written with."""

    registry: ClassVar[bool] = False
    writer_schema_file: ClassVar[str | None] = None

    schema_: Any = _SCHEMA
    schema_file: LocalPath | None = _SCHEMA_FILE
    on_schema_change: Literal["fail", "ignore"] = Field(
        "fail",
        description="Sinks: what becomes of a document with fields that the schema lacks: `fail`, an error of that "
        "record; `ignore`, such fields are left out and counted.",
        examples=["ignore"],
    )
    timestamps: Literal["ms", "iso"] = _TIMESTAMPS
    decimals: Literal["text", "float"] = _DECIMALS
    unions: Literal["plain", "tagged"] = _UNIONS

    _is_schema = field_validator("schema_", mode="after")(_is_schema)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schema_ is not None and self.schema_file is not None:
            raise ValueError("schema, schema_file: expected one of the two")
        return self

    @property
    def forms(self) -> Forms:
        """How values stand in documents."""
        return Forms(self.timestamps, self.decimals, self.unions)


class AvroSettings(RegistrySettings):
    """Settings of the format avro."""

    schema_: Any = _SCHEMA
    schema_file: LocalPath | None = _SCHEMA_FILE
    writer_schema_file: LocalPath | None = Field(
        None,
        min_length=1,
        description="Sources without a registry: the file with the schema that records were written with, where it is "
        "another one.",
        examples=["order-v1.avsc"],
    )
    on_schema_change: Literal["fail", "evolve", "ignore"] = Field(
        "fail",
        description="Sinks: what becomes of a document with fields that the schema lacks, or wider values: `fail`, an "
        "error of that record; `evolve`, a new version of the schema with these fields, nullable, is registered before "
        "the record is written; `ignore`, such fields are left out and counted. `evolve` leaves out and counts a field "
        "of which no value has told the type yet.",
        examples=["evolve"],
    )
    timestamps: Literal["ms", "iso"] = _TIMESTAMPS
    decimals: Literal["text", "float"] = _DECIMALS
    unions: Literal["plain", "tagged"] = _UNIONS

    _is_schema = field_validator("schema_", mode="after")(_is_schema)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schema_ is not None and self.schema_file is not None:
            raise ValueError("schema, schema_file: expected one of the two")
        own = self.schema_ is not None or self.schema_file is not None
        if not self.registry and not own:
            raise ValueError("expected a schema: `schema`, `schema_file`, or `registry: true`")
        self.check_registry(has_schema=own)
        evolves = self.on_schema_change == "evolve"
        if not self.registry and evolves:
            raise ValueError("on_schema_change: evolve needs registry: true; who reads would not know the schema")
        if not self.register_ and evolves:
            raise ValueError("on_schema_change: evolve registers schemas, which register: false keeps it from")
        if self.registry and self.writer_schema_file is not None:
            raise ValueError("writer_schema_file: only without registry: true, which knows what each was written with")
        return self

    @property
    def forms(self) -> Forms:
        """How values stand in documents."""
        return Forms(self.timestamps, self.decimals, self.unions)

"""The settings of the format json."""

from __future__ import annotations

from typing import Any, Self

import orjson
from pydantic import Field, field_validator, model_validator

from streamd.codecs.registered import RegistrySettings
from streamd.component.fields import LocalPath


class JsonSettings(RegistrySettings):
    """Settings of the format json, all of which are for `registry: true`."""

    schema_: Any = Field(
        None,
        alias="schema",
        description="The JSON Schema, as YAML or as JSON text. A sink registers it, and writes what fits it; a source "
        "with `validate: true` checks by it in place of the writers' schemas.",
        examples=[{"title": "Order", "type": "object", "required": ["id"]}],
        json_schema_extra={"type": ["object", "string"]},
    )
    schema_file: LocalPath | None = Field(
        None,
        min_length=1,
        description="The file with the JSON Schema. A relative path begins at the folder of the pipeline's file.",
        examples=["order.schema.json"],
    )
    validate_: bool = Field(
        False,
        alias="validate",
        description="Sources: check each record by the schema that it was written with; one that does not fit is an "
        "error of that record. Sinks always check.",
        examples=[True],
    )

    @field_validator("schema_", mode="after")
    @classmethod
    def _is_schema(cls, value: Any) -> Any:
        if value is None:
            return None
        try:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            parsed = orjson.loads(text)
        except (orjson.JSONDecodeError, TypeError):
            parsed = None
        if not isinstance(parsed, dict):
            raise ValueError("expected a JSON Schema, as YAML or as JSON text")
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        own = self.schema_ is not None or self.schema_file is not None
        if self.schema_ is not None and self.schema_file is not None:
            raise ValueError("schema, schema_file: expected one of the two")
        if not self.registry and (own or self.validate_):
            raise ValueError(
                "schema, schema_file, validate: only with registry: true; the stage `validate`, or `validate:` beside "
                "a sink, checks plain JSON"
            )
        self.check_registry(has_schema=own)
        return self

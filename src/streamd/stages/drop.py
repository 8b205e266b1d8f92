"""Removes fields from the document. A field that is not there is not an error.

- drop: [email, address.street]
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from streamd.component.context import PipelineContext
from streamd.component.fields import parse_field_path
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body


class DropConfig(Model):
    """Settings of `drop`."""

    fields: list[str] = Field(
        description="Names of the fields to remove; a dotted name removes inside an object.",
        examples=[["email", "address.street"]],
        min_length=1,
    )

    @field_validator("fields", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("fields")
    @classmethod
    def _names(cls, fields: list[str]) -> list[str]:
        for name in fields:
            parse_field_path(name)
        return fields


def _keeps(config: DropConfig, field: str) -> bool:
    return field not in {name.partition(".")[0] for name in config.fields}


@stage("drop", config=DropConfig, shorthand="fields", shorthand_always=True, keeps=_keeps)
class Drop:
    """The stage `drop`."""

    spec: Any

    def __init__(self, config: DropConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        for name in self.config.fields:
            body.drop_field(name.split("."))

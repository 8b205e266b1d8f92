"""Sets fields of the document, each to the value of an expression; the other fields stay as they are.

    - set:
        eur: round(amount * 1.1, 2)
        address.country: upper(country)

Fields are set in the order written, and an expression sees the fields set before it. A dotted name sets a field inside
an object, which is made where it is missing.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField, parse_field_path
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body


class SetConfig(Model):
    """Settings of `set`."""

    fields: dict[str, ExpressionField] = Field(
        description="Field names, each with the expression of its value.",
        examples=[{"eur": "round(amount * 1.1, 2)"}],
        min_length=1,
    )

    @field_validator("fields")
    @classmethod
    def _names(cls, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields:
            parse_field_path(name)
        return fields


def _keeps(config: SetConfig, field: str) -> bool:
    return field not in {name.partition(".")[0] for name in config.fields}


@stage("set", config=SetConfig, shorthand="fields", shorthand_always=True, keeps=_keeps)
class Set:
    """The stage `set`."""

    spec: Any

    def __init__(self, config: SetConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        for name, expression in self.config.fields.items():
            body.set_field(name.split("."), body.value(expression))

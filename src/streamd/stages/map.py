"""Makes a new document with just the fields written here, each the value of an expression over the old document.

    - map:
        id: order.id
        total: round(amount * 1.1, 2)

A dotted name makes an object: `a.b: 1` gives `{"a": {"b": 1}}`; so `a` and `a.b` cannot both be there. All expressions
see the old document.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField, parse_field_path
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body


class MapConfig(Model):
    """Settings of `map`."""

    fields: dict[str, ExpressionField] = Field(
        description="Fields of the new document, each with the expression of its value.",
        examples=[{"id": "order.id", "total": "round(amount * 1.1, 2)"}],
        min_length=1,
    )

    @field_validator("fields")
    @classmethod
    def _fit_together(cls, fields: dict[str, Any]) -> dict[str, Any]:
        paths = {parse_field_path(name): name for name in fields}
        for path, name in paths.items():
            outer = next((paths[path[:n]] for n in range(1, len(path)) if path[:n] in paths), None)
            if outer is not None:
                raise _conflict(name, outer)
        return fields


def _conflict(name: str, outer: str) -> ValidationError:
    message = f"{outer!r} is one value and {name!r} a field inside it: expected one of them"
    error = PydanticCustomError("conflict", "{message}", {"message": message})
    details = [InitErrorDetails(type=error, loc=(name, "[key]"), input=None)]
    return ValidationError.from_exception_data("map", details, hide_input=True)


def _keeps(config: MapConfig, field: str) -> bool:
    return str(config.fields.get(field)) == field


@stage("map", config=MapConfig, shorthand="fields", shorthand_always=True, keeps=_keeps)
class Map:
    """The stage `map`."""

    spec: Any

    def __init__(self, config: MapConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        tree: dict[str, Any] = {}
        for name, expression in self.config.fields.items():
            *outer, last = name.split(".")
            node = tree
            for step in outer:
                node = node.setdefault(step, {})
            node[last] = body.value(expression)
        body.replace({name: _display(value) for name, value in tree.items()})


def _display(value: Any) -> str:
    """Python source of a nested object of expressions."""
    if isinstance(value, str):
        return value
    return "{" + ", ".join(f"{name!r}: {_display(inner)}" for name, inner in value.items()) + "}"

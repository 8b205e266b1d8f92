"""Makes a new document with just the fields written here, each the value of an expression over the old document.

    - map:
        id: order.id
        total: round(amount * 1.1, 2)

A dotted name makes an object: `a.b: 1` gives `{"a": {"b": 1}}`. All expressions see the old document.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField
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


@stage("map", config=MapConfig, shorthand="fields", shorthand_always=True)
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

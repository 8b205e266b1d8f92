"""Makes one record of each element of a list.

    - flatten: items                       # {"o": 7, "items": [a, b]} → {"o": 7, "items": a}, {"o": 7, "items": b}
    - flatten: {list: items, as: item}     # the element under another name; `items` is gone
    - flatten: {list: items, only: true}   # the element itself, an object, is the document

A record whose list is empty gives no record. A value that is not a list is an error of the record, and then no element
of it goes on.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import TransformError
from streamd.expr.limits import type_name


class FlattenConfig(Model):
    """Settings of `flatten`."""

    list_: ExpressionField = Field(
        alias="list", description="The list: a field, or an expression that gives one.", examples=["items"]
    )
    as_: str | None = Field(
        None,
        alias="as",
        description="Field that holds the element; without it the field that held the list.",
        examples=["item"],
    )
    only: bool = Field(False, description="The element itself, an object, becomes the document.", examples=[True])


@stage("flatten", config=FlattenConfig, shorthand="list")
class Flatten:
    """The stage `flatten`."""

    spec: Any

    def __init__(self, config: FlattenConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        path = str(self.config.list_).split(".")
        is_field = all(step.isidentifier() for step in path)
        items = f"{body.constant('elements', elements)}({body.value(self.config.list_)})"
        element = body.each(self.config.as_ or (path[-1] if is_field else "element"), items).__enter__()
        if self.config.only:
            body.replace_document(f"{body.constant('as_object', as_object)}({element})")
            return
        if self.config.as_ is not None and is_field and path != self.config.as_.split("."):
            body.drop_field(path)
        target = self.config.as_.split(".") if self.config.as_ else path if is_field else ["element"]
        body.set_field(target, element)


def elements(value: Any) -> list[Any]:
    """The list to flatten."""
    if type(value) is not list:
        raise TransformError(f"flatten needs a list, the value is of type {type_name(value)}")
    return value


def as_object(element: Any) -> dict[str, Any]:
    """The element as a document."""
    if type(element) is not dict:
        raise TransformError(f"flatten with `only` needs objects in the list, one is of type {type_name(element)}")
    return element

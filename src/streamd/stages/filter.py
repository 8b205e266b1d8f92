"""Keeps the records for which a condition holds; the others are dropped and counted as filtered.

- filter: type != "refund" and amount > 50
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.fields import ExpressionField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body


class FilterConfig(Model):
    """Settings of `filter`."""

    where: ExpressionField = Field(description="Condition for a record to go on.", examples=["amount > 50"])


@stage("filter", config=FilterConfig, shorthand="where", keeps=lambda config, field: True)
class Filter:
    """The stage `filter`."""

    spec: Any

    def __init__(self, config: FilterConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        body.keep_if(body.value(self.config.where))

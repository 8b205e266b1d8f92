"""Keeps the records for which a condition holds; the others are dropped and counted as filtered.

    - filter: type != "refund" and amount > 50
    - filter:
        all:
          - amount > 50
          - any: [country == "DE", {name: vip, with: {level: 3}}]
          - not: type == "refund"

A condition is an expression, `all` or `any` of a list of conditions, `not` of one, or a filter by its name, which
stands below `filters:` in the pipeline or in a file that it imports. Together they are one expression, as if written by
hand: what comes behind in a list is read only where it is needed.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.fields import ConditionField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body


class FilterConfig(Model):
    """Settings of `filter`."""

    where: ConditionField = Field(
        description="Condition for a record to go on: an expression, or several combined by `all`, `any` and `not`.",
        examples=["amount > 50"],
    )


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

"""Sends records to named outputs by condition. Others read an output as `from: ID.OUTPUT`.

    - id: region
      route:
        outputs:
          eu: country in ["DE", "FR"]
          us: country == "US"
        otherwise: rest
    sinks:
      - {from: region.eu, kafka: {topic: eu}}
      - {from: [region.us, region.rest], kafka: {topic: elsewhere}}

Conditions are tried in the order written, and the first that holds takes the record; with `match: all` every output
whose condition holds gets it. Records that no output takes, and those of an output that nobody reads, count as
filtered.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from streamd.component.context import PipelineContext
from streamd.component.fields import ConditionField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body


class RouteConfig(Model):
    """Settings of `route`."""

    outputs: dict[str, ConditionField] = Field(
        description="Names of outputs, each with the condition of a record to go there, as `filter` takes it.",
        examples=[{"eu": 'country in ["DE", "FR"]', "us": 'country == "US"'}],
        min_length=1,
    )
    otherwise: str | None = Field(None, description="Name of the output for all other records.", examples=["rest"])
    match: Literal["first", "all"] = Field(
        "first", description="Whether the first output that matches takes the record, or all do.", examples=["all"]
    )

    @model_validator(mode="after")
    def _names(self) -> RouteConfig:
        names = [*self.outputs, *([self.otherwise] if self.otherwise else [])]
        for name in names:
            if not name or "." in name:
                raise ValueError(f"output name {name!r}: expected a name without a dot")
        if self.otherwise in self.outputs:
            raise ValueError(f"`otherwise: {self.otherwise}` is also one of `outputs`: expected a name of its own")
        return self


def outputs(config: RouteConfig) -> tuple[str, ...]:
    """The names of the outputs, in the order they are tried."""
    return (*config.outputs, *([config.otherwise] if config.otherwise else []))


@stage("route", config=RouteConfig, outputs=outputs, keeps=lambda config, field: True)
class Route:
    """The stage `route`."""

    spec: Any

    def __init__(self, config: RouteConfig, context: PipelineContext) -> None:
        self.config = config

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        conditions = {name: body.value(condition) for name, condition in self.config.outputs.items()}
        if self.config.match == "first":
            for name, condition in conditions.items():
                body.output(name, condition)
            if self.config.otherwise:
                body.output(self.config.otherwise, None)
            return
        matched = {name: body.local(f"is_{name}", condition) for name, condition in conditions.items()}
        for name, variable in matched.items():
            body.output(name, variable, exclusive=False)
        if self.config.otherwise:
            body.output(self.config.otherwise, f"not ({' or '.join(matched.values())})", exclusive=False)

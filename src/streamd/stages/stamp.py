"""Stamps records with where they come from: pipeline, stage, source position, time of ingestion, a stable identity.

    - stamp: meta                              # a field `meta` with all of it
    - stamp: {headers: true, include: [pipeline, id]}

| fact | what |
| --- | --- |
| `pipeline` | name of the pipeline |
| `stage` | id of this stage |
| `topic`, `partition`, `offset` | where the record was read |
| `id` | `topic-partition-offset`: the same again when a record is processed again |
| `time` | when it was stamped, ms since the epoch |

As headers they are named `streamd.pipeline` and so on, as text.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from streamd.component.context import PipelineContext
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body

Fact = Literal["pipeline", "stage", "topic", "partition", "offset", "id", "time"]
ALL: tuple[Fact, ...] = ("pipeline", "stage", "topic", "partition", "offset", "id", "time")


class StampConfig(Model):
    """Settings of `stamp`."""

    as_: str | None = Field(
        None, alias="as", description="Field that gets an object with the facts.", examples=["meta"]
    )
    headers: bool = Field(False, description="Write the facts into the record's headers.", examples=[True])
    include: list[Fact] = Field(list(ALL), description="Which facts.", examples=[["pipeline", "id"]], min_length=1)


def _keeps(config: StampConfig, field: str) -> bool:
    written = config.as_ is not None or not config.headers
    return not written or field != (config.as_ or "meta").partition(".")[0]


@stage("stamp", config=StampConfig, shorthand="as", keeps=_keeps)
class Stamp:
    """The stage `stamp`."""

    spec: Any

    def __init__(self, config: StampConfig, context: PipelineContext) -> None:
        self.config, self.pipeline, self.clock = config, context.pipeline, context.clock

    async def prepare(self) -> None:
        pass

    def fuse(self, body: Body) -> None:
        facts = {name: self._fact(name, body) for name in self.config.include}
        if self.config.headers:
            pairs = "".join(f"('streamd.{name}', str({source}).encode()), " for name, source in facts.items())
            body.add_headers(f"({pairs})")
        if self.config.as_ is not None or not self.config.headers:
            display = ", ".join(f"{name!r}: {source}" for name, source in facts.items())
            body.set_field((self.config.as_ or "meta").split("."), f"{{{display}}}")

    def _fact(self, name: Fact, body: Body) -> str:
        if name == "pipeline":
            return repr(self.pipeline)
        if name == "stage":
            return repr(body.stage_id)
        if name == "time":
            return f"{body.constant('now_ms', self.clock.now_ms)}()"
        topic, partition, offset = (body.metadata(f"_{fact}") for fact in ("topic", "partition", "offset"))
        if name == "id":
            return (
                f"f'{{{topic}}}-{{{partition}}}-{{{offset}}}'"
                if "'" not in topic
                else _joined(topic, partition, offset)
            )
        return {"topic": topic, "partition": partition, "offset": offset}[name]


def _joined(*parts: str) -> str:
    """Source of the parts' text joined by dashes; quotes inside an f-string are not allowed before Python 3.12."""
    return "'-'.join((" + ", ".join(f"str({part})" for part in parts) + "))"

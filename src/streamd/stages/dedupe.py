"""Lets the first record of a key through, and drops others of it that lie within a time of it.

    - dedupe: {by: order_id, within: 1h}
    - dedupe: {by: [device, reading], within: 10m, late: dead_letter}

A record is a duplicate when one of its key was let through whose time (`event_time` of the source) is at most `within`
before or after its own. Which one that was is decided by the order in which they come. Duplicates count as filtered.

Kept are keys and times, until the watermark is `within` past them; so a record that lies before the watermark is late:
nobody knows any more what was there, and `late` says where it goes. What is kept is committed together with positions
and outputs. A tombstone is no record here, and is dropped.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import Duration, LateField, duration_text
from streamd.component.grouping import Grouping, GroupingField, lift_keys
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import LateRecordError
from streamd.record import Passed, RawRecord, Result


class DedupeConfig(Model):
    """Settings of `dedupe`."""

    by: GroupingField = Field(
        description="The key: a field, a list of fields, or names with the expressions of their values; no `sets`.",
        examples=["order_id", ["device", "reading"]],
    )
    within: Duration = Field(
        ge=0.001, description="How far apart in time two records of a key are not the same any more.", examples=["1h"]
    )
    late: LateField = Field("drop", description="What becomes of a record that is late.", examples=["dead_letter"])

    @property
    def remembers(self) -> str:
        """What is kept and for how long, for people."""
        return f"each key until the watermark is up to {duration_text(2 * self.within, ' ')} past it"

    @field_validator("by")
    @classmethod
    def _one_key(cls, by: Grouping) -> Grouping:
        if by.sets is not None or not by.fields:
            raise ValueError("expected at least one field, and no `sets`")
        return by


def _settings(config: DedupeConfig) -> dict[str, str]:
    return config.by.settings() | {"within": str(config.within)}


@stage(
    "dedupe",
    config=DedupeConfig,
    fused=False,
    keyed=True,
    state=_settings,
    keeps=lambda config, field: True,
    gives=lambda config: "as read",
    sifts=True,
)
class Dedupe:
    """The stage `dedupe`. It keeps {time: {key: time}}, by pieces of `within`, each with a key once at most."""

    spec: Any
    due: int | None = None

    def __init__(self, config: DedupeConfig, context: PipelineContext) -> None:
        self.config = config
        self._within = max(1, round(1000 * config.within))

    async def prepare(self) -> None:
        """Nothing is to be loaded."""

    def lift(self, body: Body, port: int) -> str:
        """`(r, time, watermark, key, record key, headers, document or its JSON)`"""
        [key] = lift_keys(body, self.config.by)
        time, watermark = body.metadata("_timestamp"), body.watermark()
        return f"(r, {time}, {watermark}, {key}, {body.key()}, {body.headers()}, {body.as_read()})"

    async def open(self, task: TaskContext) -> None:
        """Take the table from the task's store."""
        assert task.store is not None
        self._seen = task.store.times("seen")

    def restored(self) -> None:
        """Nothing is kept beside it."""

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """Let through what is new."""
        seen, within = self._seen, self._within
        give: Any = Passed if rows and rows[0][-1].__class__ is bytes else Result
        for r, time, watermark, key, record_key, headers, document in rows:
            if time < watermark:
                failed.append((r, LateRecordError(f"the record is {watermark - time} ms too late to be compared")))
                continue
            piece = time - time % within
            for start in (piece, piece - within, piece + within):
                if start in seen and (other := seen[start][key]) is not None and abs(other - time) <= within:
                    break
            else:
                table = seen[piece]
                table[key] = time
                table.dirty.add(key)
                out.append(give(document, record_key, time, headers))

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Forget what nothing that is to come can be a duplicate of."""
        for start in [start for start in self._seen if start + 2 * self._within <= watermark]:
            self._seen.drop(start)
        return watermark

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """It does not look at the clock."""

    async def close(self) -> None:
        """Nothing is held."""

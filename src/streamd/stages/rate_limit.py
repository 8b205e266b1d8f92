"""Lets only so many records through in a time: reading slows down, nothing is dropped and nothing piles up in memory.

    - rate_limit: 1000/s
    - rate_limit: {records: 600, per: 1m}

The limit is for the pipeline's part as a whole: each of its tasks gets an equal share. What is let through is committed
while the next records wait.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, model_validator

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import Duration, parse_duration
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.record import Record

# A task takes batches of at most this many seconds' worth of records, so that the rate is even.
BATCH_SECONDS = 0.1


_RECORDS_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*/\s*\w+\s*$"},
    ]
}


class RateLimitConfig(Model):
    """Settings of `rate_limit`."""

    records: Annotated[float, WithJsonSchema(_RECORDS_SCHEMA)] = Field(
        description="How many records, or a rate such as 1000/s.", examples=[1000], gt=0, allow_inf_nan=False
    )
    per: Duration = Field(1.0, description="In how long a time.", examples=["1s", "1m"], gt=0)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        records = value.get("records") if isinstance(value, dict) else None
        if isinstance(records, str):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\w+)\s*", records)
            if match is None:
                raise ValueError('expected a rate such as "1000/s" or "600/1m"')
            per = match.group(2)
            return {
                **value,
                "records": float(match.group(1)),
                "per": parse_duration(per if per[0].isdigit() else f"1{per}"),
            }
        return value


@stage("rate_limit", config=RateLimitConfig, shorthand="records", fused=False, keeps=lambda config, field: True)
class RateLimit:
    """The stage `rate_limit`. `ready_at` tells the task when to take the next batch, `max_batch` how large."""

    spec: Any

    def __init__(self, config: RateLimitConfig, context: PipelineContext) -> None:
        self.rate, self.clock = config.records / config.per, context.clock
        self.ready_at = 0.0

    async def prepare(self) -> None:
        pass

    async def open(self, task: TaskContext) -> None:
        self.rate /= task.tasks

    @property
    def max_batch(self) -> int:
        """Records that a batch should have at most."""
        return max(1, int(self.rate * BATCH_SECONDS))

    async def process(self, batch: list[Record]) -> list[Record]:
        # Time that was not used is not saved up: a limit of 1000/s never lets 5000 through in one second.
        self.ready_at = max(self.ready_at, self.clock.monotonic()) + len(batch) / self.rate
        return batch

    async def close(self) -> None:
        pass

"""A keyed stage small enough to see through: how many records each key has in each `size` ms, out when that is over."""

from __future__ import annotations

from typing import Any

from streamd.component.fields import ExpressionField, LateField
from streamd.component.model import Model
from streamd.component.registry import BUILT_IN, Registry
from streamd.component.spec import stage
from streamd.errors import LateRecordError
from streamd.record import Result


class CountedConfig(Model):
    """Settings of `counted`. `refuse`: a key that fails. Times in ms."""

    by: ExpressionField
    size: int = 10
    late: LateField = "drop"
    refuse: str | None = None


@stage("counted", config=CountedConfig, fused=False, keyed=True, state=lambda config: {"size": str(config.size)})
class Counted:
    """Counts."""

    spec: Any
    due = None

    def __init__(self, config: CountedConfig, context: Any) -> None:
        self.config = config
        self.advances: list[int] = []

    async def prepare(self) -> None: ...

    def lift(self, body: Any, port: int) -> str:
        key = body.local("key", body.value(self.config.by))
        return f"(r, {body.metadata('_timestamp')}, {body.watermark()}, {key})"

    async def open(self, task: Any) -> None:
        self.ends = task.store.times("counts")

    def restored(self) -> None: ...

    def process(self, rows: list[Any], out: list[Any], failed: list[Any]) -> None:
        for r, time, watermark, key in rows:
            end = time - time % self.config.size + self.config.size
            if end <= watermark:
                failed.append((r, LateRecordError("too late")))
            elif key == self.config.refuse:
                failed.append((r, ValueError("secret")))
            else:
                table = self.ends[end]
                table[key] = (table[key] or 0) + 1
                table.dirty.add(key)

    def advance(self, watermark: int, out: list[Any]) -> int:
        for end in sorted(end for end in self.ends if end <= watermark):
            for key, count in sorted(self.ends[end].scan()):
                out.append(Result({"key": key, "end": end, "count": count}, key.encode(), end - 1))
            self.ends.drop(end)
        return watermark

    def tick(self, now_ms: int, out: list[Any]) -> None: ...

    async def close(self) -> None: ...


REGISTRY = Registry(BUILT_IN, specs=[Counted.spec])

"""Takes records and forgets them: for measuring, and for pipelines that only count.

```yaml
sink: {discard: {}}
```

Delivery: exactly once, trivially: nothing is ever delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.model import Model
from streamd.component.sink import Writer
from streamd.component.spec import sink
from streamd.record import Row


class DiscardConfig(Model):
    """The discard sink has no settings."""


@sink("discard", config=DiscardConfig, delivery="exactly once")
class DiscardSink:
    """Nowhere."""

    def __init__(self, config: DiscardConfig, context: PipelineContext) -> None:
        pass

    async def prepare(self) -> None:
        """Nothing to check."""

    async def open(self, task: TaskContext, cursor: Any) -> Writer:
        """Nothing to open."""
        return _DiscardWriter()

    async def close(self) -> None:
        """Nothing to close."""


class _DiscardWriter:
    backlog = 0

    def write(self, rows: Sequence[Row]) -> list[tuple[int, Exception]]:
        """Forget the rows."""
        return []

    async def drain(self) -> None:
        """Nothing waits."""

    async def flush(self) -> Any:
        """Nothing to make durable."""
        return None

    async def committed(self) -> None:
        """Nothing was withheld."""

    async def close(self) -> None:
        """Nothing to release."""

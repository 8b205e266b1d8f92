"""Collecting output until it is worth writing, for sinks that write by themselves."""

from __future__ import annotations

from pydantic import Field

from streamd.clock import Clock
from streamd.component.fields import ByteSize, Duration
from streamd.component.model import Model


class Batch(Model):
    """When collected output is written, at the latest; every checkpoint writes out what is there."""

    max_bytes: ByteSize = Field(
        default=1024 * 1024, ge=1, description="Write when there is this much.", examples=["4MiB"]
    )
    max_wait: Duration = Field(
        default=1.0, description="Write when the oldest record has waited this long.", examples=["100ms"]
    )


class Collected:
    """Output that waits. `size` in bytes."""

    __slots__ = ("_batch", "_clock", "_since", "parts", "size")

    def __init__(self, batch: Batch, clock: Clock) -> None:
        self._batch = batch
        self._clock = clock
        self._since = 0.0
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, parts: list[bytes]) -> None:
        """Take more, in order."""
        if parts:
            if not self.parts:
                self._since = self._clock.monotonic()
            self.parts += parts
            self.size += sum(map(len, parts))

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        if not self.parts:
            return False
        return self.size >= self._batch.max_bytes or self._clock.monotonic() - self._since >= self._batch.max_wait

    def take(self) -> list[bytes]:
        """All of it; nothing waits any more."""
        parts, self.parts, self.size = self.parts, [], 0
        return parts

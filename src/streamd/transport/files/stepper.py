"""Blocking work in a thread, one step at a time, from which a cancelled wait takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Stepper(Generic[T]):
    """Calls `step` in a thread, never twice at once. A step whose `next` was cancelled goes on for the next call."""

    def __init__(self, step: Callable[[], T]) -> None:
        self._step = step
        self._pending: asyncio.Future[T] | None = None

    async def next(self) -> T:
        """The result of the next step."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().run_in_executor(None, self._step)
        try:
            result = await asyncio.shield(self._pending)
        except asyncio.CancelledError:
            # Also when the step is done already: its result has reached nobody.
            raise
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return result

    async def settle(self) -> None:
        """Wait until no step is running, and forget its result."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await asyncio.wait((pending,))
            # Asked for, so that asyncio does not report it as never seen.
            pending.exception()

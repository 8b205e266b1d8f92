"""Asking the coordinator of a group or of a transactional id until it answers, moved or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.client import CoordinationType

from streamd.errors import StreamdError, UnavailableError
from streamd.transport.kafka.client import KafkaClient, NotSentError
from streamd.transport.kafka.error_codes import CONCURRENT_TRANSACTIONS, COORDINATOR_MOVED, error_of, meaning

GROUP: Final = CoordinationType.GROUP
TRANSACTION: Final = CoordinationType.TRANSACTION

_OPERATION_NOT_ATTEMPTED: Final = 55  # another part of the same request failed, for the reason that counts
_UNSTABLE_OFFSETS: Final = 88
_SHORT_WAITS: Final = frozenset({CONCURRENT_TRANSACTIONS, _UNSTABLE_OFFSETS})
_FIRST_WAIT, _LONGEST_SHORT_WAIT, _LONGEST_WAIT = 0.002, 0.02, 0.3


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Who coordinates `key`, and over which connections it is asked."""

    client: KafkaClient
    kind: CoordinationType
    key: str
    connection: Hashable

    async def ask(
        self,
        request: Any,
        codes: Callable[[Any], Collection[int]],
        doing: str,
        deadline: float,
        *,
        repeatable: bool,
    ) -> Any:
        """The answer to a request, tried again for `deadline` seconds while its codes say that this can help.

        `repeatable`: whether the request may be sent again when an answer was lost. If not, that is raised at once as
        UnavailableError, since what the request did is unknown. `doing` is for messages: `commit …`.
        """
        until = time.monotonic() + deadline
        wait = _FIRST_WAIT
        while True:
            longest = _LONGEST_WAIT
            problem: StreamdError
            try:
                left = max(until - time.monotonic(), 0.05)
                node = await self.client.coordinator(self.kind, self.key, left)
                answer = await self.client.send(node, request, self.connection, left)
                found = set(codes(answer)) - {0}
                if not found:
                    return answer
                problem, again = self._judge(found, doing)
                if not again:
                    raise problem
                if found <= _SHORT_WAITS:
                    longest = _LONGEST_SHORT_WAIT
            except UnavailableError as error:
                self.client.forget_coordinator(self.kind, self.key)
                if not repeatable and not isinstance(error, NotSentError):
                    raise UnavailableError(f"cannot tell whether Kafka did {doing}: {error}") from error
                problem = error
            if time.monotonic() + wait > until:
                raise problem
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    def _judge(self, found: set[int], doing: str) -> tuple[StreamdError, bool]:
        """The error that stands for all codes, and whether asking again may help."""
        if found & COORDINATOR_MOVED:
            self.client.forget_coordinator(self.kind, self.key)
        causes = sorted(found - {_OPERATION_NOT_ATTEMPTED} or found)
        for code in causes:
            if not meaning(code).retriable:
                return error_of(code, doing), False
        return error_of(causes[0], doing), True

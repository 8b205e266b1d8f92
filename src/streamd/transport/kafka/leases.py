"""One client for all transactions of one cluster in a process: opened with the first user, closed with the last."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import Final

from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.options import Client
from streamd.transport.kafka.settings import KafkaSettings

_Place = tuple[int, int, Client]


@dataclass(slots=True)
class _Entry:
    settings: KafkaSettings  # kept alive, as its id is the key
    client: KafkaClient
    users: int


_ENTRIES: Final[dict[_Place, _Entry]] = {}
# {id of settings: its clients' record limits}. They outlive the client: the attempt that a refused batch ended gives
# its client back, and the next one must know the limit, or it would send the same batch again for ever.
_LIMITS: Final[dict[int, dict[str, int]]] = {}
_CLOSING: Final[set[asyncio.Task[None]]] = set()


class ClientLease:
    """The right to use the shared client of `settings` in the running event loop, until it is given back."""

    def __init__(self, settings: KafkaSettings, kind: Client) -> None:
        """Raises NotFoundError and FatalError when the settings' TLS files cannot be used. Connects nothing yet."""
        self._place: _Place = (id(asyncio.get_running_loop()), id(settings), kind)
        entry = _ENTRIES.get(self._place)
        if entry is None:
            client = KafkaClient(settings.client_arguments(kind), settings)
            client.record_limits = _limits_of(settings)
            entry = _ENTRIES[self._place] = _Entry(settings, client, 0)
        entry.users += 1
        self._returned = False
        self.client = entry.client

    def give_back(self) -> None:
        """The client is not needed any more; the last to say so has it closed in the background. Never raises."""
        if self._returned:
            return
        self._returned = True
        entry = _ENTRIES[self._place]
        entry.users -= 1
        if not entry.users:
            del _ENTRIES[self._place]
            task = asyncio.get_running_loop().create_task(entry.client.close())
            _CLOSING.add(task)
            task.add_done_callback(_CLOSING.discard)


def _limits_of(settings: KafkaSettings) -> dict[str, int]:
    if id(settings) not in _LIMITS:
        _LIMITS[id(settings)] = {}
        weakref.finalize(settings, _LIMITS.pop, id(settings), None).atexit = False
    return _LIMITS[id(settings)]


async def closed() -> None:
    """Return when the clients given back so far are closed."""
    while _CLOSING:
        await asyncio.wait(_CLOSING)

"""Dead letters in a topic of Kafka."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from streamd.dlq.marks import STORE, Done, marks_in, name_of
from streamd.dlq.places import Place, Span, TopicKept
from streamd.errors import PositionLostError, UnavailableError
from streamd.record import RawRecord
from streamd.transport.kafka.client import EARLIEST, LATEST, KafkaClient
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.stored import KafkaStored
from streamd.transport.kafka.stored import opened as stored_opened

_WITHIN: Final = 10.0  # seconds for one question
_STANDS_STILL: Final = 30.0  # seconds without anything new until a partition is given up
_AT_ONCE: Final = 2000


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[KafkaKept]:
    """See `Place.opened`."""
    client = KafkaClient(place.kafka.client_arguments("consumer"), place.kafka)
    async with stored_opened(place.kafka, place.app, name_of(place.name), {STORE: 0}, None, ()) as stored:
        try:
            await client.start(_WITHIN)
            kept = KafkaKept(client, place, stored)
            try:
                yield kept
            finally:
                await kept.close()
        finally:
            await client.close()


class KafkaKept(TopicKept):
    """`Kept` (places.py) of a topic. Reads what is committed."""

    def __init__(self, client: KafkaClient, place: Place, stored: KafkaStored) -> None:
        super().__init__(place)
        self._client, self._topic, self._stored = client, place.name, stored

    async def span(self) -> Span:
        """See `Kept.span`."""
        client, topic = self._client, self._topic
        found = {}
        for partition in range(await client.partition_count(topic, _WITHIN)):
            first = await client.find_offset(topic, partition, EARLIEST, deadline=_WITHIN)
            found[partition] = first, await client.find_offset(topic, partition, LATEST, deadline=_WITHIN)
        return found

    async def records(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[RawRecord]]:
        """See `Kept.records`."""
        if first >= end:
            return
        reader = PartitionReader(self._client, self._topic, partition, first)
        moved = time.monotonic()
        try:
            # The last offsets may be control records: the reader's position passes them, no record has them.
            while (before := reader.position()) < end:
                try:
                    read = await reader.read(_AT_ONCE, 1.0)
                except PositionLostError:
                    left = await self._client.find_offset(self._topic, partition, EARLIEST, deadline=_WITHIN)
                    if left <= before:
                        raise
                    await reader.close()
                    reader = PartitionReader(self._client, self._topic, partition, left)
                    continue
                if records := [one for one in read if one.offset < end]:
                    yield records
                if reader.position() > before:
                    moved = time.monotonic()
                elif time.monotonic() - moved > _STANDS_STILL:
                    raise UnavailableError(
                        f"{self._topic}[{partition}] could not be read from {before} to its end {end}"
                    )
        finally:
            await reader.close()

    async def marks(self) -> Mapping[int, Mapping[int, Done]]:
        """See `Kept.marks`."""
        return await marks_in(self._stored)

    async def delete(self, partition: int, before: int) -> bool:
        """See `Kept.delete`."""
        await self._client.delete_records(self._topic, partition, before)
        return True

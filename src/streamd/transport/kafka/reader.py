"""Reading one partition: a long poll always under way while the records of the one before are worked on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Literal

from streamd.errors import FatalError, NotFoundError, PositionLostError, TransientError, UnavailableError
from streamd.record import Position, RawRecord
from streamd.transport.kafka.client import KafkaClient, NotSentError
from streamd.transport.kafka.error_codes import OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION, error_of, meaning
from streamd.transport.kafka.protocol import READ_COMMITTED, READ_UNCOMMITTED, EpochEnd, Fetch, Fetched
from streamd.transport.kafka.records import FetchedRecords

log = logging.getLogger("streamd.kafka")

_ANSWER_WITHIN = 10.0  # seconds beyond the long poll's own wait
_LATE = 1.0  # seconds beyond it after which nothing is known of the end any more
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 1.0


class PartitionReader:
    """A `Reader` (component/source.py) of one Kafka partition, from offset `position` on.

    Holds at most the response being read and the next one: `max_bytes` each, or one batch that is larger. Routine
    trouble (leader moved, broker restarting, connection lost) is tried again with back-off and raised as
    UnavailableError only when it lasts `outage` seconds. A topic that is gone for so long: NotFoundError.
    """

    def __init__(
        self,
        client: KafkaClient,
        topic: str,
        partition: int,
        position: int,
        *,
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
        max_bytes: int = 2 << 20,
        min_bytes: int = 1,
        max_wait_ms: int = 500,
        check_crcs: bool = True,
        outage: float = 30.0,
    ) -> None:
        if position < 0:
            raise FatalError(f"cannot read {topic}[{partition}] from offset {position}: an offset is ≥ 0")
        self._client = client
        self._topic = topic
        self._partition = partition
        self._name = f"{topic}[{partition}]"
        self._isolation = READ_COMMITTED if isolation == "read_committed" else READ_UNCOMMITTED
        self._max_bytes = max_bytes
        self._min_bytes = min_bytes
        self._max_wait_ms = max_wait_ms
        self._check_crcs = check_crcs
        self._outage = outage
        self._group = ("fetch", id(self))
        self._position = position
        self._leader_epoch = -1  # of the last batch read
        self._records: FetchedRecords | None = None
        self._fetch: asyncio.Task[tuple[FetchedRecords, int]] | None = None
        self._end: int | None = None
        # Records between the last stable offset and the high watermark, that offset, and since when it is where it is.
        self._held_back = 0
        self._stable = -1
        self._stable_since = time.monotonic()
        self._ended = False
        self._failing = False
        self._asked = 0.0

    async def read(self, max_records: int, timeout: float) -> Sequence[RawRecord]:
        """See `Reader.read`. The records are aiokafka's own objects, not built anew."""
        until = 0.0
        if self._records is not None:
            # Others (the sender of this task's output among them) must get their turn when all is there already.
            await asyncio.sleep(0)
        while True:
            current = self._records
            if current is not None:
                try:
                    records = current.take(max_records)
                except (TransientError, FatalError):
                    await self._restart()
                    raise
                self._position = current.position
                if len(records) < max_records:
                    self._records = None
                if records:
                    return records
            fetch = self._fetch
            if fetch is None:
                fetch = self._fetch = asyncio.create_task(self._fetch_from(self._position))
            if not fetch.done():
                until = until or time.monotonic() + timeout
                await asyncio.wait((fetch,), timeout=max(until - time.monotonic(), 0))
                if not fetch.done():
                    return ()
            self._fetch = None
            self._records, self._end = fetch.result()
            self._fetch = asyncio.create_task(self._fetch_from(self._records.next_offset))

    def position(self) -> Position:
        """The offset to go on from; past the control records behind the last record, once those were seen."""
        return self._position

    def lag(self) -> int | None:
        """Offsets up to the last stable one (or the high watermark when uncommitted records are read) as last heard."""
        return None if self._end is None else max(self._end - self._position, 0)

    @property
    def unstable(self) -> tuple[int, float]:
        """Records there that open transactions hold back, and for how many seconds the oldest has."""
        return self._held_back, time.monotonic() - self._stable_since if self._held_back else 0.0

    @property
    def stale(self) -> bool:
        """Whether `lag` is of before an outage that goes on: a fetch has failed, or is not answered in time."""
        asking = self._fetch is not None and not self._fetch.done()
        late = time.monotonic() - self._asked > self._max_wait_ms / 1000 + _LATE
        return self._failing or (asking and late)

    @property
    def ended(self) -> bool:
        """A topic has no end."""
        return False

    async def close(self) -> None:
        """Stop the fetch under way and close its connection."""
        await self._restart()

    async def _restart(self) -> None:
        """Drop what was fetched ahead; the next `read` fetches again from the position."""
        fetch, self._fetch, self._records = self._fetch, None, None
        if fetch is not None:
            fetch.cancel()
            await asyncio.wait((fetch,))
            if not fetch.cancelled():
                fetch.exception()  # nobody else will ask for it
        self._client.release(self._group)

    async def _fetch_from(self, offset: int) -> tuple[FetchedRecords, int]:
        """The next response from `offset` on, and the end of what is readable."""
        client, topic, partition = self._client, self._topic, self._partition
        answer_within = self._max_wait_ms / 1000 + _ANSWER_WITHIN
        failing_since: float | None = None
        gone = False
        wait = _FIRST_WAIT
        while True:
            problem: Exception
            try:
                node = client.leader(topic, partition)
                if node is None:
                    await client.partition_count(topic, self._outage)
                    node = client.leader(topic, partition)
                if node is None:
                    raise NotSentError(f"{self._name} has no leader")
                self._asked = time.monotonic()
                response: Fetched = await client.send(node, self._request(offset), self._group, answer_within)
                if gone and response.error_code in (0, OFFSET_OUT_OF_RANGE):
                    # One that was deleted and made anew has other records at the same offsets, and no committed ones.
                    raise TransientError(f"{self._name} was not there for a while; it is opened anew")
                if not response.error_code:
                    if failing_since is not None:
                        await self._check_log(node, offset, answer_within)
                        log.info("reading %s again after %.1f s", self._name, time.monotonic() - failing_since)
                    self._failing = False
                    return self._accept(response, offset)
                gone = gone or (response.error_code == UNKNOWN_TOPIC_OR_PARTITION and self._end is not None)
                problem = self._refusal(response, offset)
                if not meaning(response.error_code).retriable:
                    raise problem
            except UnavailableError as error:
                problem = error
            now = time.monotonic()
            if failing_since is None:
                failing_since = now
                self._failing = True
                log.warning("reading %s: %s; trying again", self._name, problem)
            if now + wait - failing_since > self._outage:
                raise problem
            await asyncio.sleep(wait)
            await client.refresh()
            wait = min(wait * 2, _LONGEST_WAIT)

    def _request(self, offset: int) -> Fetch:
        return Fetch(
            self._topic,
            self._partition,
            offset,
            wait_ms=self._max_wait_ms,
            min_bytes=self._min_bytes,
            max_bytes=self._max_bytes,
            isolation=self._isolation,
        )

    def _accept(self, response: Fetched, offset: int) -> tuple[FetchedRecords, int]:
        _, high, stable, _, aborted, frame, start, end = response
        committed = self._isolation == READ_COMMITTED
        if stable >= 0:
            if stable != self._stable or high <= stable:
                self._stable, self._stable_since = stable, time.monotonic()
            self._held_back = max(high - stable, 0)
        records = FetchedRecords(
            frame, start, end, offset, aborted if committed else None, self._check_crcs, self._name
        )
        if records.leader_epoch >= 0:
            self._leader_epoch = records.leader_epoch
        return records, stable if committed and stable >= 0 else high

    async def _check_log(self, node: int, offset: int, timeout: float) -> None:
        """After an outage: whether what was read up to `offset` is still what the log has there.

        A replica that was out of sync may have been made leader, and what it had not got is gone. Others may have been
        written to the same offsets since, so that the broker does not refuse them. Raises PositionLostError.
        """
        if self._leader_epoch < 0:
            return
        request = EpochEnd(-1, [(self._topic, [(self._partition, -1, self._leader_epoch)])])
        answer = await self._client.send(node, request, self._group, timeout)
        code, _, epoch, end = answer.topics[0][1][0]
        if code:
            raise error_of(code, f"compare the log of {self._name} with what was read")
        if epoch < self._leader_epoch or end < offset:
            raise PositionLostError(
                f"{self._name} was read up to offset {offset}, and has lost what it had from offset {max(end, 0)} on: "
                "a replica that was not in sync has become its leader, or the topic was made anew; start from another "
                "position"
            )

    def _refusal(self, response: Fetched, offset: int) -> Exception:
        code = response.error_code
        error = error_of(code, f"give records of {self._name} from offset {offset}")
        if isinstance(error, PositionLostError):
            return PositionLostError(
                f"offset {offset} of {self._name} is not in the topic any more (or not yet): retention has passed it, "
                "or the topic was made anew; start from another position"
            )
        if code == UNKNOWN_TOPIC_OR_PARTITION:
            return NotFoundError(f"{self._name} does not exist in Kafka at {self._client.address}")
        return error

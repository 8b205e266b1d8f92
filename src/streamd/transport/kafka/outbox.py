"""What a task has to write to Kafka and has not yet: batches being filled, batches on their way, in order.

Rows are encoded straight into aiokafka's Cython batch builders, without a future or an object per record. Each
partition (lane) has at most one batch under way, so that its sequence numbers are in order whatever is tried again;
lanes of one leader share a request. A sender task pushes full batches out while the task goes on processing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from operator import length_hint
from typing import Any, Final, NamedTuple

from streamd.errors import LoadError, StreamdError, TransientError, UnavailableError
from streamd.record import Headers, Row
from streamd.transport.kafka.batches import CODECS, encode, new_builder
from streamd.transport.kafka.client import KafkaClient
from streamd.transport.kafka.error_codes import (
    DUPLICATE_SEQUENCE_NUMBER,
    MESSAGE_TOO_LARGE,
    UNKNOWN_TOPIC_OR_PARTITION,
    error_of,
    meaning,
)
from streamd.transport.kafka.protocol import Produce

log = logging.getLogger("streamd.kafka")

_NO_HEADERS: Final[list[Any]] = []
_KNOWN_KEYS: Final = 65536
_REQUEST_BYTES: Final = 8 << 20
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.5
_ANSWER_WITHIN: Final = 10.0


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """`batch_bytes`: when a batch is full. `max_record_bytes`: the largest record, before compression.

    `compression` is one of `CODECS`. `delivery`: seconds for which a batch is tried again.
    """

    batch_bytes: int = 512 << 10
    max_record_bytes: int = 1 << 20
    compression: str = "none"
    delivery: float = 10.0


@dataclass(frozen=True, slots=True)
class Producer:
    """Who writes, as Kafka knows it. `transactional_id` is None outside transactions."""

    id: int
    epoch: int
    transactional_id: str | None


class Batch(NamedTuple):
    """A batch as it is sent. `backlog`: the bytes that it took before compression."""

    parts: tuple[bytes | bytearray, ...]
    size: int
    records: int
    backlog: int


class Lane:
    """One output partition."""

    __slots__ = (
        "add", "attempts", "batch", "builder", "count", "deadline", "full", "joined", "not_before", "partition",
        "sending", "sequence", "topic",
    )  # fmt: skip

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.builder: Any = None
        self.add: Callable[..., Any] = _nothing_open  # the builder's append, bound
        self.count = 0  # records in the open builder; 0 means there is none
        self.full: deque[tuple[Any, int]] = deque()  # builders and their counts, waiting
        self.batch: Batch | None = None  # under way, or to be tried again
        self.sequence = 0  # of the first record in the next batch to be encoded
        self.sending = False
        self.joined = False  # the open transaction knows of this partition
        self.attempts = 0
        self.deadline = 0.0
        self.not_before = 0.0

    def __repr__(self) -> str:
        return f"{self.topic}[{self.partition}]"


async def join_nothing(lanes: Sequence[Lane]) -> None:
    """`join` of an `Outbox` without a transaction."""


def _nothing_open(*_: object) -> None:
    return None


class Outbox:
    """`join` is awaited with lanes that the open transaction does not know yet, before anything is sent to them."""

    def __init__(
        self,
        client: KafkaClient,
        connection_group: Hashable,
        options: OutboxOptions,
        join: Callable[[Sequence[Lane]], Awaitable[None]],
    ) -> None:
        self._client = client
        self._group = connection_group
        self._options = options
        self._codecs: dict[str, int] = {}
        self._join = join
        self._producer = Producer(-1, -1, None)
        self._lanes: dict[str, dict[int, Lane]] = {}
        self._open: dict[Lane, None] = {}  # an ordered set: lanes with a batch being filled
        self._waiting: dict[Lane, None] = {}  # lanes with something to send
        self._waiting_bytes = 0
        self._by_key: dict[str, tuple[Any, dict[bytes, Lane]]] = {}
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def compress(self, topic: str, compression: str) -> None:
        """How new batches for a topic are compressed, one of `CODECS`, where it is not as the options say."""
        self._codecs[topic] = CODECS[compression]

    def start(self, producer: Producer) -> None:
        """Begin to send as `producer`."""
        self._producer = producer
        self._spawn(self._send_always())

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers
    ) -> None:
        """One record. Raises LoadError when it alone is too large; nothing was added then."""
        lane = self._lane(topic, partition)
        if type(headers) is not list:
            headers = list(headers)
        count = lane.count
        if count and lane.add(count, timestamp, key, value, headers) is not None:
            lane.count = count + 1
        else:
            self._append_first(lane, timestamp, key, value, headers)

    def append_rows(
        self, topic: str, rows: Sequence[Row], partition_of: Callable[[bytes | None], int]
    ) -> list[tuple[int, Exception]]:
        """Many records. `partition_of` gives the partition of a key, always the same one for a key that is not None.

        Returns [(index, LoadError)…] of rows that are too large.
        """
        refused: list[tuple[int, Exception]] = []
        known = self._by_key.get(topic)
        if known is None or known[0] != partition_of or len(known[1]) > _KNOWN_KEYS:
            known = self._by_key[topic] = (partition_of, {})
        lanes = known[1]
        lane_of = lanes.get
        none = _NO_HEADERS
        left = iter(rows)
        for key, value, timestamp, headers in left:
            lane = lane_of(key)  # type: ignore[arg-type]  # None is never in it
            if lane is None:
                lane = self._lane(topic, partition_of(key))
                if key is not None:
                    lanes[key] = lane
            if not headers:
                headers = none
            elif type(headers) is not list:
                headers = list(headers)
            count = lane.count
            if count and lane.add(count, timestamp, key, value, headers) is not None:
                lane.count = count + 1
            else:
                try:
                    self._append_first(lane, timestamp, key, value, headers)
                except LoadError as error:
                    refused.append((len(rows) - length_hint(left) - 1, error))
        return refused

    @property
    def backlog(self) -> int:
        """Bytes appended and not yet acknowledged."""
        opened: int = sum(lane.builder.size() for lane in self._open)
        return self._waiting_bytes + opened

    async def drain(self, most: int) -> None:
        """Return when at most about `most` bytes are unacknowledged. Raises what made a batch fail."""
        if self.backlog > most and self._waiting_bytes <= most:
            self._seal_all()
        while self._waiting_bytes > most:
            await self._progress()
        self._check()

    async def flush(self) -> None:
        """Return when everything is acknowledged. Raises what made a batch fail."""
        self._seal_all()
        while self._waiting:
            await self._progress()
        self._check()

    async def discard(self) -> None:
        """Drop what is not on its way, and wait for what is. Sequence numbers stay whole."""
        for lane in self._open:
            lane.count, lane.builder, lane.add = 0, None, _nothing_open
        self._open.clear()
        for lane in list(self._waiting):
            lane.full.clear()
            if lane.batch is None:
                del self._waiting[lane]
        self._waiting_bytes = sum(lane.batch.backlog for lane in self._waiting if lane.batch)
        while self._waiting:
            await self._progress()
        self._check()

    def leave(self) -> list[Lane]:
        """The transaction has ended: no lane belongs to one. Returns those that did."""
        joined = [lane for lanes in self._lanes.values() for lane in lanes.values() if lane.joined]
        for lane in joined:
            lane.joined = False
        return joined

    def stop(self) -> None:
        """Send nothing more. What is unacknowledged may or may not have been written."""
        self.fail(UnavailableError("this transaction was given up"))
        for task in self._tasks:
            task.cancel()

    def fail(self, error: Exception) -> None:
        """Send nothing new, and raise this from now on; the first such error counts."""
        if self._failure is None:
            self._failure = error
        self._moved.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _progress(self) -> None:
        self._check()
        self._moved.clear()
        await self._moved.wait()
        self._check()

    def _lane(self, topic: str, partition: int) -> Lane:
        lanes = self._lanes.get(topic)
        if lanes is None:
            lanes = self._lanes[topic] = {}
        lane = lanes.get(partition)
        if lane is None:
            lane = lanes[partition] = Lane(topic, partition)
        return lane

    def _append_first(self, lane: Lane, timestamp: int, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """Begin a new batch with a record that did not fit into the open one."""
        if lane.count:
            self._seal(lane)
        options = self._options
        limit = min(self._client.record_limits.get(lane.topic, options.max_record_bytes), options.max_record_bytes)
        codec = self._codecs.get(lane.topic)
        if codec is None:
            codec = self._codecs[lane.topic] = CODECS[options.compression]
        builder = new_builder(min(options.batch_bytes, limit))
        if builder.append(0, timestamp, key, value, headers) is None:
            raise LoadError(f"a record for {lane} cannot be encoded")
        size = builder.size()
        if size > limit and not (codec and self._fits(limit, codec, timestamp, key, value, headers)):
            raise LoadError(
                f"a record for {lane} is too large: {size} bytes with its batch header, {limit} are allowed",
                excess=size - limit,
            )
        lane.builder, lane.add, lane.count = builder, builder.append, 1
        self._open[lane] = None

    def _fits(self, limit: int, codec: int, timestamp: int, key: bytes | None, value: Any, headers: Any) -> bool:
        """Whether a record alone is within the limit once it is compressed."""
        trial = new_builder(limit)
        trial.append(0, timestamp, key, value, headers)
        return sum(map(len, encode(trial, codec, -1, -1, 0, False))) <= limit

    def _seal(self, lane: Lane) -> None:
        self._waiting_bytes += lane.builder.size()
        lane.full.append((lane.builder, lane.count))
        lane.count, lane.builder, lane.add = 0, None, _nothing_open
        del self._open[lane]
        self._waiting[lane] = None
        self._wake.set()

    def _seal_all(self) -> None:
        for lane in list(self._open):
            self._seal(lane)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_always(self) -> None:
        try:
            while self._failure is None:
                await self._wake.wait()
                self._wake.clear()
                self._dispatch([lane for lane in self._waiting if lane.joined])
                strangers = [lane for lane in self._waiting if not lane.joined]
                if strangers:
                    for lane in strangers:
                        if self._client.leader(lane.topic, lane.partition) is None:
                            await self._client.partition_count(lane.topic, self._options.delivery)
                    await self._join(strangers)
                    for lane in strangers:
                        lane.joined = True
                    self._dispatch(strangers)
        except Exception as error:
            self.fail(error)

    def _dispatch(self, lanes: Sequence[Lane]) -> None:
        """Send the next batch of every lane that is ready: one request for each leader, more when it gets too large."""
        now = time.monotonic()
        requests: dict[int, list[Lane]] = {}
        for lane in lanes:
            if lane.sending or lane not in self._waiting or lane.not_before > now:
                continue
            node = self._client.leader(lane.topic, lane.partition)
            if node is None:
                self._again(lane, error_of(UNKNOWN_TOPIC_OR_PARTITION, f"write to {lane}", "it has no leader"))
            else:
                requests.setdefault(node, []).append(lane)
        for node, ready in requests.items():
            chosen: list[Lane] = []
            size = 0
            for lane in ready:
                batch = lane.batch or self._encode(lane)
                if chosen and size + batch.size > _REQUEST_BYTES:
                    self._spawn(self._produce(node, chosen))
                    chosen, size = [], 0
                lane.sending = True
                chosen.append(lane)
                size += batch.size
            self._spawn(self._produce(node, chosen))

    def _encode(self, lane: Lane) -> Batch:
        builder, count = lane.full.popleft()
        backlog = builder.size()
        who = self._producer
        codec = self._codecs[lane.topic]
        parts = encode(builder, codec, who.id, who.epoch, lane.sequence, who.transactional_id is not None)
        lane.batch = Batch(parts, sum(map(len, parts)), count, backlog)
        lane.deadline = lane.deadline or time.monotonic() + self._options.delivery
        return lane.batch

    async def _produce(self, node: int, lanes: Sequence[Lane]) -> None:
        topics: dict[str, list[tuple[int, int, tuple[bytes | bytearray, ...]]]] = {}
        for lane in lanes:
            if lane.batch is not None:
                topics.setdefault(lane.topic, []).append((lane.partition, lane.batch.size, lane.batch.parts))
        timeout = min(max(min(lane.deadline for lane in lanes) - time.monotonic(), 0.1), _ANSWER_WITHIN)
        try:
            request = Produce(self._producer.transactional_id, int(timeout * 1000), topics)
            response = await self._client.send(node, request, self._group, timeout)
            answers = {
                (topic, answer[0]): (answer[1], answer[6]) for topic, parts in response.topics for answer in parts
            }
            for lane in lanes:
                lane.sending = False
                await self._settle(lane, *answers.get((lane.topic, lane.partition), (-1, None)))
        except UnavailableError as error:
            for lane in lanes:
                lane.sending = False
                self._again(lane, error)
        except Exception as error:
            # Nobody awaits this: whoever flushes must hear of it, also when nobody thought of it.
            self.fail(error)

    async def _settle(self, lane: Lane, code: int, message: str | None) -> None:
        """A broker has answered for one lane."""
        if code in (0, DUPLICATE_SEQUENCE_NUMBER) and lane.batch is not None:
            sent, lane.batch = lane.batch, None
            lane.attempts, lane.deadline, lane.not_before = 0, 0.0, 0.0
            lane.sequence = (lane.sequence + sent.records) & 0x7FFFFFFF
            self._waiting_bytes -= sent.backlog
            if lane.full:
                self._wake.set()
            else:
                del self._waiting[lane]
            self._moved.set()
        elif meaning(code).retriable:
            self._again(lane, error_of(code, f"write to {lane}", message))
        elif code == MESSAGE_TOO_LARGE:
            self.fail(await self._too_large(lane))
        else:
            self.fail(error_of(code, f"write to {lane}", message))

    def _again(self, lane: Lane, problem: StreamdError) -> None:
        """Try the same batch once more after a while, under the same sequence number."""
        now = time.monotonic()
        lane.attempts += 1
        lane.deadline = lane.deadline or now + self._options.delivery
        wait = min(_FIRST_WAIT * 2 ** min(lane.attempts, 10), _LONGEST_WAIT)
        if now + wait > lane.deadline:
            self.fail(problem)
            return
        if lane.attempts == 1:
            log.info("writing to %s: %s; trying again", lane, problem)
        lane.not_before = now + wait
        self._client.refresh_soon(lane.topic)
        asyncio.get_running_loop().call_later(wait + 0.001, self._wake.set)

    async def _too_large(self, lane: Lane) -> StreamdError:
        """Learn the topic's limit, so that the record itself is refused when it comes again."""
        size = lane.batch.size if lane.batch else 0
        limit = await self._client.learn_record_limit(lane.topic, size)
        return TransientError(
            f"{lane.topic} takes batches of at most {limit} bytes (max.message.bytes), got one of {size}; "
            "the records are taken again, and one that is too large alone is refused"
        )

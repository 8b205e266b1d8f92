"""The requests of the data plane, in exactly the versions used; what aiokafka lacks, and what it encodes too slowly.

A request here has one version, and a broker that does not speak it is refused with a clear error; all of them exist
since Kafka 2.5. Fetch asks for one partition and Produce is joined from parts, so that the records in them are copied
as seldom as aiokafka's connection allows. No repr shows record contents: aiokafka logs requests at DEBUG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any, ClassVar, NamedTuple, Self

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.produce import ProduceResponse_v8
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest_v0,
    AddPartitionsToTxnRequest_v0,
    EndTxnRequest_v0,
    InitProducerIdRequest_v0,
)
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

READ_UNCOMMITTED = 0
READ_COMMITTED = 1

_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class OneVersion:
    """A request that is its own prepared form."""

    API_KEY: ClassVar[int]
    API_VERSION: ClassVar[int]

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        low, high = versions.get(self.API_KEY, (-1, -1))
        if not low <= self.API_VERSION <= high:
            raise IncompatibleBrokerVersion(
                f"the broker speaks versions {low} to {high} of {type(self).__name__} (request {self.API_KEY}), "
                f"streamd version {self.API_VERSION}: Kafka 2.5 or newer is needed"
            )
        return self

    def __repr__(self) -> str:
        return type(self).__name__


class InitProducerId(OneVersion, InitProducerIdRequest_v0):  # type: ignore[misc]
    """Arguments: transactional id or None, transaction timeout in ms."""


class AddPartitionsToTxn(OneVersion, AddPartitionsToTxnRequest_v0):  # type: ignore[misc]
    """Arguments: transactional id, producer id, epoch, [(topic, [partition…])…]."""


class AddOffsetsToTxn(OneVersion, AddOffsetsToTxnRequest_v0):  # type: ignore[misc]
    """Arguments: transactional id, producer id, epoch, group."""


class EndTxn(OneVersion, EndTxnRequest_v0):  # type: ignore[misc]
    """Arguments: transactional id, producer id, epoch, whether to commit."""


class _TxnOffsetCommitResponse(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TxnOffsetCommit(OneVersion, RequestStruct):  # type: ignore[misc]
    """Version 3, the first that names the group's member and generation (KIP-447), so that a stale one is refused.

    Arguments: transactional id, group, producer id, epoch, generation, member id, group instance id or None,
    [(topic, [(partition, offset, leader epoch, metadata, {})…], {})…], {}.
    """

    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT), _TAGS
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _OffsetFetchResponse(Response):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )


class OffsetFetch(OneVersion, RequestStruct):  # type: ignore[misc]
    """Version 7, the first that waits for pending transactions (`require_stable`, error 88 until they are settled).

    Arguments: group, [(topic, [partition…], {})…], require_stable, {}.
    """

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetFetchResponse
    SCHEMA = Schema(
        ("group_id", _TEXT),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class _OffsetDeleteResponse(Response):  # type: ignore[misc]
    API_KEY = 47
    API_VERSION = 0
    SCHEMA = Schema(
        ("error_code", Int16),
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(("topic", String("utf-8")), ("partitions", Array(("partition", Int32), ("error_code", Int16)))),
        ),
    )


class OffsetDelete(OneVersion, RequestStruct):  # type: ignore[misc]
    """Forget offsets of a group that reads none of the topics now. Arguments: group, [(topic, [partition…])…]."""

    API_KEY = 47
    API_VERSION = 0
    RESPONSE_TYPE = _OffsetDeleteResponse
    SCHEMA = Schema(
        ("group_id", String("utf-8")),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
    )


class _EpochEndResponse(Response):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64)),
                ),
            ),
        ),
    )


class EpochEnd(OneVersion, RequestStruct):  # type: ignore[misc]
    """OffsetForLeaderEpoch: the largest epoch up to one that was read, and where its records end in the log now.

    Arguments: replica id -1, [(topic, [(partition, current epoch or -1, epoch)…])…].
    """

    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = _EpochEndResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32))),
            ),
        ),
    )


def _text(value: str | None) -> bytes:
    if value is None:
        return b"\xff\xff"
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


class Produce(OneVersion, RequestStruct):  # type: ignore[misc]
    """Version 8, acks=all. `topics`: {topic: [(partition, bytes, parts of the encoded batch)…]}."""

    API_KEY = 0
    API_VERSION = 8
    RESPONSE_TYPE = ProduceResponse_v8
    SCHEMA = Schema()

    _HEAD: ClassVar = Struct(">hii")  # acks, timeout, topics
    _PARTITION: ClassVar = Struct(">ii")  # partition, bytes of records

    def __init__(
        self,
        transactional_id: str | None,
        timeout_ms: int,
        topics: Mapping[str, Sequence[tuple[int, int, Sequence[bytes | bytearray]]]],
    ) -> None:
        self._transactional_id = transactional_id
        self._timeout_ms = timeout_ms
        self._topics = topics

    def encode(self) -> bytes:
        parts: list[bytes | bytearray] = [
            _text(self._transactional_id),
            self._HEAD.pack(-1, self._timeout_ms, len(self._topics)),
        ]
        for topic, batches in self._topics.items():
            parts += (_text(topic), len(batches).to_bytes(4, "big"))
            for partition, size, batch in batches:
                parts += (self._PARTITION.pack(partition, size), *batch)
        return b"".join(parts)


class Fetched(NamedTuple):
    """What a broker answered for one partition. The records lie in `frame[start:end]`, which is not copied.

    `aborted`: [(producer id, first offset)…], None or empty when there are none.
    """

    error_code: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: list[tuple[int, int]]
    frame: bytes
    start: int
    end: int


class _FetchResponse:
    """Version 11, for exactly one topic partition; decoded by hand to leave the records where they are."""

    _HEAD: ClassVar = Struct(">ihii")  # throttle, error, session, topics
    _PARTITION: ClassVar = Struct(">iihqqqi")  # partitions, partition, error, high watermark, LSO, log start, aborted
    _ABORTED: ClassVar = Struct(">qq")
    _TAIL: ClassVar = Struct(">ii")  # preferred replica, bytes of records

    @classmethod
    def decode(cls, data: BytesIO) -> Fetched:
        frame = data.getvalue()
        at = data.tell()
        _, error, _, topics = cls._HEAD.unpack_from(frame, at)
        at += cls._HEAD.size
        if error or topics != 1:
            return Fetched(error or -1, -1, -1, -1, [], b"", 0, 0)
        at += 2 + int.from_bytes(frame[at : at + 2], "big")
        _, _, error, high, stable, start, aborted = cls._PARTITION.unpack_from(frame, at)
        at += cls._PARTITION.size
        transactions = []
        for _ in range(max(aborted, 0)):
            transactions.append(cls._ABORTED.unpack_from(frame, at))
            at += cls._ABORTED.size
        _, size = cls._TAIL.unpack_from(frame, at)
        at += cls._TAIL.size
        return Fetched(error, high, stable, start, transactions, frame, at, at + max(size, 0))


class Fetch(OneVersion, RequestStruct):  # type: ignore[misc]
    """Version 11, one topic partition, no fetch session; answered with `Fetched`."""

    API_KEY = 1
    API_VERSION = 11
    RESPONSE_TYPE = _FetchResponse
    SCHEMA = Schema()

    _HEAD: ClassVar = Struct(">iiiibiii")  # replica, wait, min, max bytes, isolation, session, epoch, topics
    _PARTITION: ClassVar = Struct(">iiiqqiih")  # count, partition, leader epoch, offset, start, bytes, forgotten, rack

    def __init__(
        self, topic: str, partition: int, offset: int, *, wait_ms: int, min_bytes: int, max_bytes: int, isolation: int
    ) -> None:
        self._topic = topic
        self._head = self._HEAD.pack(-1, wait_ms, min_bytes, max_bytes, isolation, 0, -1, 1)
        self._tail = self._PARTITION.pack(1, partition, -1, offset, -1, max_bytes, 0, 0)

    def encode(self) -> bytes:
        return self._head + _text(self._topic) + self._tail


def codes(response: Any) -> set[int]:
    """The error codes of a response to TxnOffsetCommit, AddPartitionsToTxn (or OffsetCommit), without 0."""
    topics = response.topics if hasattr(response, "topics") else response.errors
    return {partition[1] for topic in topics for partition in topic[1]} - {0}

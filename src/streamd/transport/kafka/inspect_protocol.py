"""Requests that only diagnosis sends: about transactions, producers, replicas and permissions.

aiokafka lacks them. Each has one version, as those of `protocol`; brokers know all of them since Kafka 3.0 (KIP-664).
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    Bytes,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

from streamd.transport.kafka.protocol import OneVersion

_TEXT = CompactString("utf-8")
_PLAIN = String("utf-8")
_TAGS = ("tags", TaggedFields)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node", Int32), ("host", _PLAIN), ("port", Int32), ("rack", _PLAIN))),
        ("cluster_id", _PLAIN),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", _PLAIN),
                ("internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("operations", Int32),
    )


class Metadata(OneVersion, RequestStruct):  # type: ignore[misc]
    """Version 8, with what the asker may do. Arguments: [topic…], make topics, cluster's and topics' operations."""

    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(_PLAIN)),
        ("allow_auto_topic_creation", Boolean),
        ("cluster_operations", Boolean),
        ("topic_operations", Boolean),
    )


class _DescribeGroupsResponse(Response):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", _PLAIN),
                ("state", _PLAIN),
                ("protocol_type", _PLAIN),
                ("protocol", _PLAIN),
                (
                    "members",
                    Array(
                        ("member_id", _PLAIN),
                        ("client_id", _PLAIN),
                        ("host", _PLAIN),
                        ("metadata", Bytes),
                        ("assignment", Bytes),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
    )


class DescribeGroups(OneVersion, RequestStruct):  # type: ignore[misc]
    """Version 3, with what the asker may do; aiokafka reads the answer as if it had no such field.

    Arguments: [group…], whether to say it.
    """

    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = _DescribeGroupsResponse
    SCHEMA = Schema(("groups", Array(_PLAIN)), ("group_operations", Boolean))


class _ListTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_states", CompactArray(_TEXT)),
        ("transactions", CompactArray(("id", _TEXT), ("producer_id", Int64), ("state", _TEXT), _TAGS)),
        _TAGS,
    )


class ListTransactions(OneVersion, RequestStruct):  # type: ignore[misc]
    """Those that a node coordinates. Arguments: [state…], [producer id…], {}; an empty list filters nothing."""

    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ListTransactionsResponse
    SCHEMA = Schema(("states", CompactArray(_TEXT)), ("producer_ids", CompactArray(Int64)), _TAGS)


class _DescribeTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("id", _TEXT),
                ("state", _TEXT),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeTransactions(OneVersion, RequestStruct):  # type: ignore[misc]
    """Sent to the coordinator of all of them. Arguments: [transactional id…], {}."""

    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeTransactionsResponse
    SCHEMA = Schema(("ids", CompactArray(_TEXT)), _TAGS)


class _DescribeProducersResponse(Response):  # type: ignore[misc]
    API_KEY = 61
    API_VERSION = 0
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
                        ("error_code", Int16),
                        ("error_message", _TEXT),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_ms", Int64),
                                ("coordinator_epoch", Int32),
                                ("start_offset", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeProducers(OneVersion, RequestStruct):  # type: ignore[misc]
    """Sent to the partitions' leader. Arguments: [(topic, [partition…], {})…], {}."""

    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeProducersResponse
    SCHEMA = Schema(("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)), _TAGS)


class _WriteTxnMarkersResponse(Response):  # type: ignore[misc]
    API_KEY = 27
    API_VERSION = 1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("topic", _TEXT),
                        ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class WriteTxnMarkers(OneVersion, RequestStruct):  # type: ignore[misc]
    """Sent to the partitions' leader: ends a transaction there that no coordinator will end.

    Arguments: [(producer id, epoch, whether to commit, [(topic, [partition…], {})…], coordinator epoch, {})…], {}.
    """

    API_KEY = 27
    API_VERSION = 1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _WriteTxnMarkersResponse
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("commit", Boolean),
                ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
                ("coordinator_epoch", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


def names_of(operations: int) -> set[str]:
    """What a field of authorized operations allows, by the names of Kafka's ACLs; nothing known gives nothing."""
    return {name for bit, name in _OPERATIONS.items() if operations & (1 << bit)} if operations > 0 else set()


_OPERATIONS: dict[int, str] = {
    3: "Read",
    4: "Write",
    5: "Create",
    6: "Delete",
    7: "Alter",
    8: "Describe",
    9: "ClusterAction",
    10: "DescribeConfigs",
    11: "AlterConfigs",
    12: "IdempotentWrite",
}


def by_topic(pairs: Any) -> list[tuple[str, list[int]]]:
    """[(topic, [partition…])…] of (topic, partition) pairs."""
    found: dict[str, list[int]] = {}
    for topic, partition in sorted(pairs):
        found.setdefault(topic, []).append(partition)
    return list(found.items())

"""What each of Kafka's error codes means here: its name, our class for it, and whether asking again can help."""

from __future__ import annotations

from typing import Final, NamedTuple

from streamd.errors import (
    AccessDeniedError,
    FatalError,
    FencedError,
    NotFoundError,
    NotMemberError,
    PositionLostError,
    StreamdError,
    TransientError,
    UnavailableError,
)


class Meaning(NamedTuple):
    """`error` is raised when the code is final; `retriable` codes are first asked again, within a deadline."""

    name: str
    error: type[StreamdError]
    retriable: bool


def _table() -> dict[int, Meaning]:
    rows: list[tuple[type[StreamdError], bool, dict[int, str]]] = [
        (
            UnavailableError,
            True,
            {
                3: "UNKNOWN_TOPIC_OR_PARTITION",
                5: "LEADER_NOT_AVAILABLE",
                6: "NOT_LEADER_OR_FOLLOWER",
                7: "REQUEST_TIMED_OUT",
                8: "BROKER_NOT_AVAILABLE",
                9: "REPLICA_NOT_AVAILABLE",
                13: "NETWORK_EXCEPTION",
                14: "COORDINATOR_LOAD_IN_PROGRESS",
                15: "COORDINATOR_NOT_AVAILABLE",
                16: "NOT_COORDINATOR",
                19: "NOT_ENOUGH_REPLICAS",
                20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
                27: "REBALANCE_IN_PROGRESS",
                41: "NOT_CONTROLLER",
                51: "CONCURRENT_TRANSACTIONS",
                56: "KAFKA_STORAGE_ERROR",
                70: "FETCH_SESSION_ID_NOT_FOUND",
                71: "INVALID_FETCH_SESSION_EPOCH",
                72: "LISTENER_NOT_FOUND",
                74: "FENCED_LEADER_EPOCH",
                75: "UNKNOWN_LEADER_EPOCH",
                77: "STALE_BROKER_EPOCH",
                78: "OFFSET_NOT_AVAILABLE",
                80: "PREFERRED_LEADER_NOT_AVAILABLE",
                84: "ELIGIBLE_LEADERS_NOT_AVAILABLE",
                88: "UNSTABLE_OFFSET_COMMIT",
                89: "THROTTLING_QUOTA_EXCEEDED",
                100: "UNKNOWN_TOPIC_ID",
                103: "INCONSISTENT_TOPIC_ID",
                106: "FETCH_SESSION_TOPIC_ID_ERROR",
                109: "OFFSET_MOVED_TO_TIERED_STORAGE",
            },
        ),
        # What these broke (a transaction, a sequence of batches, a producer id) is made good by opening anew.
        (
            TransientError,
            False,
            {
                -1: "UNKNOWN_SERVER_ERROR",
                2: "CORRUPT_MESSAGE",
                45: "OUT_OF_ORDER_SEQUENCE_NUMBER",
                48: "INVALID_TXN_STATE",
                49: "INVALID_PRODUCER_ID_MAPPING",
                52: "TRANSACTION_COORDINATOR_FENCED",
                55: "OPERATION_NOT_ATTEMPTED",
                59: "UNKNOWN_PRODUCER_ID",
                66: "DELEGATION_TOKEN_EXPIRED",
                79: "MEMBER_ID_REQUIRED",
                120: "TRANSACTION_ABORTABLE",
            },
        ),
        (NotMemberError, False, {22: "ILLEGAL_GENERATION", 25: "UNKNOWN_MEMBER_ID"}),
        (
            FencedError,
            False,
            {
                47: "INVALID_PRODUCER_EPOCH",
                82: "FENCED_INSTANCE_ID",
                90: "PRODUCER_FENCED",
                110: "FENCED_MEMBER_EPOCH",
                111: "UNRELEASED_INSTANCE_ID",
                113: "STALE_MEMBER_EPOCH",
            },
        ),
        (PositionLostError, False, {1: "OFFSET_OUT_OF_RANGE"}),
        (NotFoundError, False, {17: "INVALID_TOPIC_EXCEPTION", 69: "GROUP_ID_NOT_FOUND"}),
        (
            AccessDeniedError,
            False,
            {
                29: "TOPIC_AUTHORIZATION_FAILED",
                30: "GROUP_AUTHORIZATION_FAILED",
                31: "CLUSTER_AUTHORIZATION_FAILED",
                33: "UNSUPPORTED_SASL_MECHANISM",
                34: "ILLEGAL_SASL_STATE",
                53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
                54: "SECURITY_DISABLED",
                58: "SASL_AUTHENTICATION_FAILED",
                61: "DELEGATION_TOKEN_AUTH_DISABLED",
                65: "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
            },
        ),
        (
            FatalError,
            False,
            {
                4: "INVALID_FETCH_SIZE",
                10: "MESSAGE_TOO_LARGE",
                12: "OFFSET_METADATA_TOO_LARGE",
                18: "RECORD_LIST_TOO_LARGE",
                21: "INVALID_REQUIRED_ACKS",
                23: "INCONSISTENT_GROUP_PROTOCOL",
                24: "INVALID_GROUP_ID",
                26: "INVALID_SESSION_TIMEOUT",
                28: "INVALID_COMMIT_OFFSET_SIZE",
                32: "INVALID_TIMESTAMP",
                35: "UNSUPPORTED_VERSION",
                36: "TOPIC_ALREADY_EXISTS",
                37: "INVALID_PARTITIONS",
                38: "INVALID_REPLICATION_FACTOR",
                39: "INVALID_REPLICA_ASSIGNMENT",
                40: "INVALID_CONFIG",
                42: "INVALID_REQUEST",
                43: "UNSUPPORTED_FOR_MESSAGE_FORMAT",
                44: "POLICY_VIOLATION",
                50: "INVALID_TRANSACTION_TIMEOUT",
                67: "INVALID_PRINCIPAL_TYPE",
                68: "NON_EMPTY_GROUP",
                76: "UNSUPPORTED_COMPRESSION_TYPE",
                81: "GROUP_MAX_SIZE_REACHED",
                85: "ELECTION_NOT_NEEDED",
                87: "INVALID_RECORD",
                91: "RESOURCE_NOT_FOUND",
                107: "INELIGIBLE_REPLICA",
                112: "UNSUPPORTED_ASSIGNOR",
            },
        ),
    ]
    return {code: Meaning(name, error, again) for error, again, names in rows for code, name in names.items()}


MEANINGS: Final = _table()

_HINTS: Final = {
    12: "the broker's offset.metadata.max.bytes is below 4096",
    47: "a newer instance has taken over, or the transaction was open for longer than its timeout",
    48: "the broker has aborted the transaction",
    49: "the transactional id was not used for so long that the broker forgot it",
    50: "transaction.timeout.ms is above the broker's transaction.max.timeout.ms",
}

OFFSET_OUT_OF_RANGE: Final = 1
UNKNOWN_TOPIC_OR_PARTITION: Final = 3
MESSAGE_TOO_LARGE: Final = 10
DUPLICATE_SEQUENCE_NUMBER: Final = 46
REBALANCE_IN_PROGRESS: Final = 27
_MEMBER_ID_REQUIRED: Final = 79
CONCURRENT_TRANSACTIONS: Final = 51
COORDINATOR_MOVED: Final = frozenset({15, 16})
"""Codes after which the coordinator has to be looked up again."""


def meaning(code: int) -> Meaning:
    """What a code means; a code that is not known yet is final, and made good by opening anew if anything can."""
    return MEANINGS.get(code) or Meaning(f"error code {code}", TransientError, False)


def ends_aiokafka(code: int) -> bool:
    """Whether aiokafka's member of a group takes an error that passes for one that does not."""
    foreseen = COORDINATOR_MOVED | {0, REBALANCE_IN_PROGRESS, _MEMBER_ID_REQUIRED}
    return code not in foreseen and issubclass(meaning(code).error, TransientError)


def error_of(code: int, doing: str, detail: str | None = None) -> StreamdError:
    """The exception for a final code. `doing` says what was tried, such as `commit offsets of group orders`."""
    known = meaning(code)
    detail = detail or _HINTS.get(code)
    said = f": {detail}" if detail else ""
    return known.error(f"Kafka refused to {doing}: {known.name} ({code}){said}")

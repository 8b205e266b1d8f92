"""The table of Kafka client settings: which can be set under `options`, of what type and range, and why others cannot.

The names are those of Kafka's own consumer, producer and admin client. A name may carry the prefix `consumer.`,
`producer.` or `admin.` to speak of one kind of client only; without it the setting holds for every kind that knows it.
Every name that Kafka knows is either in `OPTIONS`, or in `FIXED` (exactly-once decides it) or refused by `elsewhere`
with the place where streamd has it, so that nothing is ever ignored in silence.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

Client = Literal["consumer", "producer", "admin"]
CLIENTS: tuple[Client, ...] = get_args(Client)
_INT = 2**31 - 1
_EVERY: tuple[Client, ...] = CLIENTS
_CONSUMER: tuple[Client, ...] = ("consumer",)
_PRODUCER: tuple[Client, ...] = ("producer",)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting that may be set. `argument` is what aiokafka calls it; `low` and `high` are inclusive.

    `default` is what streamd uses where nothing is said, None where that is decided elsewhere (by the pipeline's
    `commit_interval`, the sink's `compression`, …).
    """

    name: str
    clients: tuple[Client, ...]
    argument: str
    type: type[int | bool | str]
    default: int | bool | str | None
    doc: str
    low: int = 0
    high: int = _INT
    choices: tuple[str, ...] = ()

    def check(self, value: object) -> int | bool | str:
        """The value in the setting's type. Raises ValueError that says what would be right."""
        if self.type is bool:
            return _boolean(value)
        if self.type is str:
            if not isinstance(value, str):
                raise ValueError(f"expected text, got {value!r}")
            if self.choices and value not in self.choices:
                raise ValueError(
                    f"expected one of {', '.join(self.choices)}, got {value!r}{_meant(value, self.choices)}"
                )
            return value
        number = _integer(value)
        if not self.low <= number <= self.high:
            raise ValueError(f"expected a number from {self.low} to {self.high}, got {number}")
        return number


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"expected true or false, got {value!r}")


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    raise ValueError(f"expected a whole number (Kafka's own unit, without a suffix), got {value!r}")


def _meant(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option("request.timeout.ms", _EVERY, "request_timeout_ms", int, 10_000, "How long one answer may take.", 100),
        Option("retry.backoff.ms", _EVERY, "retry_backoff_ms", int, 20, "Pause before a request is tried again.", 1),
        Option(
            "metadata.max.age.ms",
            _EVERY,
            "metadata_max_age_ms",
            int,
            60_000,
            "Leaders and partition counts are asked for again at least this often.",
            100,
        ),
        Option(
            "connections.max.idle.ms",
            _EVERY,
            "connections_max_idle_ms",
            int,
            540_000,
            "A connection unused for this long is closed.",
            1000,
        ),
        Option(
            "default.api.timeout.ms",
            ("admin",),
            "",
            int,
            30_000,
            "How long an administrative call may take, retries included.",
            100,
        ),
        Option(
            "fetch.max.bytes", _CONSUMER, "fetch_max_bytes", int, 52_428_800, "Most bytes in one answer to a fetch.", 1
        ),
        Option(
            "fetch.max.wait.ms",
            _CONSUMER,
            "fetch_max_wait_ms",
            int,
            500,
            "How long the broker holds a fetch until there is something.",
        ),
        Option(
            "fetch.min.bytes",
            _CONSUMER,
            "fetch_min_bytes",
            int,
            1,
            "The broker answers a fetch once it has this many bytes.",
        ),
        Option(
            "max.partition.fetch.bytes",
            _CONSUMER,
            "max_partition_fetch_bytes",
            int,
            2_097_152,
            "Most bytes of one partition in one answer; a larger batch still comes, alone.",
            1,
        ),
        Option("check.crcs", _CONSUMER, "check_crcs", bool, True, "Check the checksum of every batch read."),
        Option(
            "session.timeout.ms",
            _CONSUMER,
            "session_timeout_ms",
            int,
            15_000,
            "A node silent for this long, a killed one for instance, loses its partitions to the others.",
            1000,
        ),
        Option(
            "heartbeat.interval.ms",
            _CONSUMER,
            "heartbeat_interval_ms",
            int,
            None,
            "How often a node says that it is alive; 2 s, and a fifth of the session at most, by default.",
            100,
        ),
        Option(
            "rebalance.timeout.ms",
            _CONSUMER,
            "rebalance_timeout_ms",
            int,
            None,
            "How long a rebalance waits for a node that does not join; session.timeout.ms without it. Tasks go on "
            "meanwhile.",
            1000,
        ),
        Option(
            "max.poll.interval.ms",
            _CONSUMER,
            "max_poll_interval_ms",
            int,
            300_000,
            "A node whose supervisor stands still for this long leaves the group.",
            10_000,
        ),
        Option(
            "batch.size", _PRODUCER, "max_batch_size", int, 524_288, "Most bytes in one batch for one partition.", 1024
        ),
        Option("linger.ms", _PRODUCER, "linger_ms", int, 0, "How long a batch waits for more records.", 0, 60_000),
        Option(
            "compression.type",
            _PRODUCER,
            "compression_type",
            str,
            None,
            "How batches are compressed, where the sink does not say.",
            choices=("none", "gzip", "snappy", "lz4", "zstd"),
        ),
        Option(
            "max.request.size",
            _PRODUCER,
            "max_request_size",
            int,
            1_048_576,
            "Largest record that may be written, before compression.",
            1024,
        ),
        Option(
            "transaction.timeout.ms",
            _PRODUCER,
            "transaction_timeout_ms",
            int,
            None,
            "The broker aborts a transaction open for longer; 10 commit intervals, at least 10 s, by default.",
            1000,
            900_000,
        ),
    )
}

# name: (values that say what holds anyway, why it cannot be another)
FIXED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "acks": (("all", "-1"), "a commit must mean that every in-sync replica has the records"),
    "enable.idempotence": (("true",), "a retry would write records twice"),
    "enable.auto.commit": (("false",), "positions are committed with the output, in one transaction"),
    "isolation.level": (("read_committed",), "records of aborted transactions would be processed"),
    "group.protocol": (("classic", "CLASSIC"), "the assignment must keep partitions of joined topics together"),
    "max.in.flight.requests.per.connection": (("1",), "records of one partition would change their order"),
    "exclude.internal.topics": (("true",), "Kafka's own topics are not input"),
    "allow.auto.create.topics": (("false",), "topics are made by `create_topics` alone, with settings that are known"),
    "partitioner.ignore.keys": (("false",), "records of one key must stay in one partition"),
    "transactional.id": ((), "each task has its own, which fences its older instances"),
    "auto.commit.interval.ms": ((), "positions are committed with the output; see the pipeline's `commit_interval`"),
    "partition.assignment.strategy": ((), "the assignment must keep partitions of joined topics together"),
    "group.remote.assignor": ((), "the assignment must keep partitions of joined topics together"),
    "group.instance.id": ((), "a node that comes back gets its partitions without it"),
    "partitioner.class": ((), "records of one key must go where every other Kafka client sends them"),
    "retries": (("2147483647",), "a request is tried again until the transaction has to be given up"),
    "transaction.two.phase.commit.enable": (("false",), "transactions are settled by the next instance of the task"),
}

_ELSEWHERE: Mapping[str, str] = {
    "bootstrap.servers": "say it as `kafka.bootstrap`",
    "bootstrap.controllers": "say the brokers as `kafka.bootstrap`",
    "client.id": "say it as `kafka.client_id`",
    "security.protocol": "it follows from `kafka.tls` and `kafka.sasl`",
    "sasl.mechanism": "say it as `kafka.sasl.mechanism`",
    "sasl.jaas.config": "say it as `kafka.sasl.username` and `kafka.sasl.password`",
    "sasl.oauthbearer.token.endpoint.url": "say it as `kafka.sasl.oauth.token_url`",
    "sasl.oauthbearer.client.credentials.client.id": "say it as `kafka.sasl.oauth.client_id`",
    "sasl.oauthbearer.client.credentials.client.secret": "say it as `kafka.sasl.oauth.client_secret`",
    "sasl.oauthbearer.scope": "say it as `kafka.sasl.oauth.scope`",
    "ssl.truststore.location": "say it as `kafka.tls.ca`, a PEM file",
    "ssl.truststore.certificates": "say it as `kafka.tls.ca`, a PEM file",
    "ssl.keystore.location": "say it as `kafka.tls.certificate` and `kafka.tls.key`, PEM files",
    "ssl.keystore.certificate.chain": "say it as `kafka.tls.certificate`, a PEM file",
    "ssl.keystore.key": "say it as `kafka.tls.key`, a PEM file",
    "ssl.key.password": "say it as `kafka.tls.key_password`",
    "ssl.endpoint.identification.algorithm": "say it as `kafka.tls.check_hostname`",
    "group.id": "say it as the source's `group`",
    "auto.offset.reset": "say it as the source's `start` and `on_position_lost`",
    "client.rack": "reads go to the leader of a partition, since only it knows what is committed at once",
    "max.poll.records": "say it as the pipeline's `batch.max_records`",
    "key.deserializer": "keys are bytes; see the source's `format`",
    "value.deserializer": "say it as the source's `format`",
    "key.serializer": "say it as the sink's `key`",
    "value.serializer": "say it as the sink's `format`",
    "delivery.timeout.ms": "a batch is given up, and its transaction with it, after `request.timeout.ms`",
    "max.block.ms": "nothing blocks here: reading stops while output waits",
    "buffer.memory": "memory is bounded by the pipeline, see `batch.max_bytes` of the sink",
    "socket.connection.setup.timeout.ms": "connecting is bounded by `request.timeout.ms`",
    "socket.connection.setup.timeout.max.ms": "connecting is bounded by `request.timeout.ms`",
    "reconnect.backoff.ms": "use `retry.backoff.ms`",
    "reconnect.backoff.max.ms": "use `retry.backoff.ms`",
    "retry.backoff.max.ms": "use `retry.backoff.ms`",
    "interceptor.classes": "use a `python` stage",
    "metric.reporters": "metrics are at `/metrics`",
    "enable.metrics.push": "metrics are at `/metrics`",
}
_JAVA_ONLY = frozenset(
    {
        "client.dns.lookup",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "metadata.max.idle.ms",
        "metadata.recovery.rebootstrap.trigger.ms",
        "metadata.recovery.strategy",
        "metrics.num.samples",
        "metrics.recording.level",
        "metrics.sample.window.ms",
        "partitioner.adaptive.partitioning.enable",
        "partitioner.availability.timeout.ms",
        "receive.buffer.bytes",
        "security.providers",
        "send.buffer.bytes",
        "share.acknowledgement.mode",
        "internal.leave.group.on.close",
        "internal.throw.on.fetch.stable.offset.unsupported",
    }
)


def elsewhere(name: str) -> str | None:
    """Where streamd has a setting that Kafka knows and `options` does not take; None for a name unknown to Kafka."""
    if place := _ELSEWHERE.get(name):
        return place
    if name.startswith("ssl."):
        return "see `kafka.tls`; protocol versions and ciphers are those that OpenSSL allows on this machine"
    if name.startswith("sasl."):
        return "see `kafka.sasl`"
    if name in _JAVA_ONLY:
        return "it has no meaning for this client"
    return None


def split(name: str) -> tuple[Client | None, str]:
    """`consumer.fetch.min.bytes` → ("consumer", "fetch.min.bytes"); (None, name) where there is no prefix."""
    prefix, _, rest = name.partition(".")
    if prefix in CLIENTS and rest:
        return prefix, rest
    return None, name


# What one source can have for itself. The rest belongs to what it shares: the group, the connections.
OF_A_SOURCE = frozenset(
    {"fetch.max.bytes", "fetch.max.wait.ms", "fetch.min.bytes", "max.partition.fetch.bytes", "check.crcs"}
)


def check_options(
    options: Mapping[str, Any], only: Client | None = None, allowed: frozenset[str] | None = None
) -> dict[str, int | bool | str]:
    """The options in their types, under the names they came with; those that say what holds anyway are left out.

    `only`: the kind of client that these options are for. `allowed`: those that can be said here; of the others it is
    said that they go into the `kafka:` section. Raises pydantic's ValidationError with every problem, each at the
    option's name.
    """
    checked: dict[str, int | bool | str] = {}
    problems: list[InitErrorDetails] = []
    for name, value in options.items():
        try:
            found = _check_option(name, value, only)
            if allowed is not None and found is not None and split(name)[1] not in allowed:
                raise ValueError(
                    f"{name} is shared by the whole pipeline: set it in the options of the `kafka:` section"
                )
        except ValueError as problem:
            # What is wrong with a name is shown at the name, what is wrong with a value at the value.
            kind: Literal["kafka_option", "unknown_option"]
            kind = "kafka_option" if split(name)[1] in OPTIONS else "unknown_option"
            error = PydanticCustomError(kind, "{problem}", {"problem": str(problem)})
            # The value is left out: it may be a password put under the wrong name.
            problems.append(InitErrorDetails(type=error, loc=(name,), input=None))
        else:
            if found is not None:
                checked[name] = found
    if problems:
        raise ValidationError.from_exception_data("options", problems, hide_input=True)
    return checked


def _check_option(full_name: str, value: object, only: Client | None) -> int | bool | str | None:
    client, name = split(full_name)
    if option := OPTIONS.get(name):
        for needed in {client, only} - {None}:
            if needed not in option.clients:
                raise ValueError(f"{name} is a setting of the {' and '.join(option.clients)}, not of the {needed}")
        if client and only and client != only:
            raise ValueError(f"{full_name} is for the {client}; these options are for the {only}")
        return option.check(value)
    if name in FIXED:
        agreeing, reason = FIXED[name]
        if (str(value).lower() if isinstance(value, bool) else str(value)) in agreeing:
            return None
        instead = f"can only be {agreeing[0]}" if agreeing else "cannot be set"
        raise ValueError(f"{name} {instead}: {reason}")
    if place := elsewhere(name):
        raise ValueError(f"{name} is not set under options: {place}")
    known = tuple(o.name for o in OPTIONS.values() if only is None or only in o.clients)
    underscored = name.replace("_", ".")
    meant = f"; did you mean {underscored!r}?" if underscored in OPTIONS else _meant(name, known)
    raise ValueError(f"{name} is not a Kafka client setting{meant}")


def check_together(values: Mapping[str, Any]) -> None:
    """Settings of one consumer that only make sense together. Raises ValueError."""
    session, heartbeat = values["session.timeout.ms"], values["heartbeat.interval.ms"]
    if heartbeat is not None and heartbeat * 3 > session:
        raise ValueError(
            f"heartbeat.interval.ms is {heartbeat}, more than a third of session.timeout.ms ({session}): "
            f"one lost heartbeat could cost the membership; at most {session // 3} would do"
        )
    rebalance = values["rebalance.timeout.ms"]
    if rebalance is not None and rebalance < session:
        raise ValueError(f"rebalance.timeout.ms is {rebalance}, less than session.timeout.ms ({session})")
    wait, timeout = values["fetch.max.wait.ms"], values["request.timeout.ms"]
    if wait >= timeout:
        raise ValueError(f"fetch.max.wait.ms is {wait}: every quiet fetch would outlast request.timeout.ms ({timeout})")

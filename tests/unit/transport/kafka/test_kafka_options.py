"""Client settings by their Kafka names: types, ranges, suggestions, and the reasons of those that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pydantic import ValidationError

from streamd.transport.kafka.options import FIXED, OF_A_SOURCE, OPTIONS, Client, check_options, elsewhere
from streamd.transport.kafka.settings import KafkaSettings


def problem(name: str, value: object, only: Client | None = None, allowed: frozenset[str] | None = None) -> str:
    with pytest.raises(ValidationError) as caught:
        check_options({name: value}, only, allowed)
    [error] = caught.value.errors()
    assert error["loc"] == (name,)
    assert error["input"] is None, "a value under a wrong name may be a secret"
    return str(error["msg"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fetch.min.bites", 1, "not a Kafka client setting; did you mean 'fetch.min.bytes'?"),
        ("fetch_min_bytes", 1, "did you mean 'fetch.min.bytes'?"),
        ("nonsense", 1, "nonsense is not a Kafka client setting"),
        ("fetch.min.bytes", -1, "expected a number from 0 to 2147483647, got -1"),
        ("fetch.min.bytes", "4KB", "expected a whole number (Kafka's own unit, without a suffix), got '4KB'"),
        ("fetch.min.bytes", True, "expected a whole number"),
        ("fetch.min.bytes", 1.5, "expected a whole number"),
        ("check.crcs", "maybe", "expected true or false, got 'maybe'"),
        ("compression.type", "zst", "expected one of none, gzip, snappy, lz4, zstd, got 'zst'; did you mean 'zstd'?"),
        ("compression.type", 3, "expected text, got 3"),
        ("producer.fetch.min.bytes", 1, "fetch.min.bytes is a setting of the consumer, not of the producer"),
        ("consumer.linger.ms", 1, "linger.ms is a setting of the producer, not of the consumer"),
        ("bootstrap.servers", "x", "say it as `kafka.bootstrap`"),
        ("group.id", "x", "say it as the source's `group`"),
        ("sasl.kerberos.service.name", "x", "see `kafka.sasl`"),
        ("ssl.cipher.suites", "x", "see `kafka.tls`"),
        ("metrics.num.samples", 2, "it has no meaning for this client"),
    ],
)
def test_what_is_wrong_is_said(name: str, value: object, said: str) -> None:
    assert said in problem(name, value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("acks", 1, "every in-sync replica"),
        ("enable.idempotence", False, "twice"),
        ("enable.auto.commit", True, "in one transaction"),
        ("isolation.level", "read_uncommitted", "aborted transactions"),
        ("transactional.id", "mine", "fences its older instances"),
        ("auto.offset.reset", "latest", "`start`"),
        ("consumer.group.instance.id", "a", "without it"),
        ("partition.assignment.strategy", "range", "together"),
        ("max.in.flight.requests.per.connection", 5, "order"),
    ],
)
def test_what_exactly_once_decides_is_refused_with_the_reason(name: str, value: object, reason: str) -> None:
    assert reason in problem(name, value)


def test_saying_what_holds_anyway_is_no_error() -> None:
    agreeing = {
        "acks": "all",
        "enable.idempotence": True,
        "isolation.level": "read_committed",
        "enable.auto.commit": "false",
    }
    assert check_options(agreeing) == {}


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        check_options({"acks": 0, "linger.ms": -1, "fetch.max.bytes": 1, "x": 1})
    assert [error["loc"] for error in caught.value.errors()] == [("acks",), ("linger.ms",), ("x",)]


def test_a_source_is_told_what_belongs_to_the_pipeline() -> None:
    assert check_options({"fetch.min.bytes": "7"}, "consumer", OF_A_SOURCE) == {"fetch.min.bytes": 7}
    assert "the options of the `kafka:` section" in problem("session.timeout.ms", 10000, "consumer", OF_A_SOURCE)
    assert "not of the consumer" in problem("linger.ms", 1, "consumer", OF_A_SOURCE)
    assert "these options are for the consumer" in problem("admin.request.timeout.ms", 1000, "consumer", OF_A_SOURCE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"session.timeout.ms": 6000, "heartbeat.interval.ms": 3000}, "at most 2000 would do"),
        (
            {"session.timeout.ms": 90000, "rebalance.timeout.ms": 60000},
            "rebalance.timeout.ms is 60000, less than session.timeout.ms (90000)",
        ),
        ({"fetch.max.wait.ms": 20000}, "outlast request.timeout.ms (10000)"),
    ],
)
def test_settings_that_do_not_fit_each_other(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KafkaSettings.model_validate({"bootstrap": "kafka:9092", "options": options})
    [error] = caught.value.errors()
    assert error["loc"] == ("options",)
    assert said in error["msg"]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_option_takes_its_own_default(name: str) -> None:
    option = OPTIONS[name]
    assert option.default is None or option.check(option.default) == option.default
    assert option.doc.endswith(".")
    assert name not in FIXED
    assert elsewhere(name) is None


async def test_aiokafka_takes_every_option_by_the_name_in_the_table() -> None:
    settings = KafkaSettings.model_validate(
        {"bootstrap": "127.0.0.1:1", "options": {"compression.type": "gzip", "transaction.timeout.ms": 9000}}
    )
    consumer = AIOKafkaConsumer(**settings.arguments("consumer"))
    producer = AIOKafkaProducer(transactional_id="t", **settings.arguments("producer"))
    await consumer.stop()
    await producer.stop()

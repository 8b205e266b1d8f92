"""Settings of the kafka source: where to start, when things happened, and options of one source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamd.component.context import PipelineContext
from streamd.errors import ConfigError
from streamd.sources.kafka import KafkaSource, KafkaSourceConfig
from streamd.transport.kafka.client import EARLIEST, LATEST


def config(**fields: Any) -> KafkaSourceConfig:
    return KafkaSourceConfig.model_validate({"topic": "orders"} | fields)


def problems(**fields: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        config(**fields)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("earliest", EARLIEST),
        ("latest", LATEST),
        ({"timestamp": 1_700_000_000_000}, 1_700_000_000_000),
        ({"timestamp": "2023-11-14T22:13:20Z"}, 1_700_000_000_000),
        ({"timestamp": "2023-11-14T23:13:20+01:00"}, 1_700_000_000_000),
        ({"timestamp": "2023-11-14T22:13:20"}, 1_700_000_000_000),
        ({"timestamp": "2023-11-14"}, 1_699_920_000_000),
    ],
)
def test_start_is_a_mark_or_a_time_in_utc(given: object, expected: int) -> None:
    assert config(start=given).start == expected
    assert KafkaSourceConfig.model_validate(config(start=given).model_dump()).start == expected


@pytest.mark.parametrize(
    "given", ["newest", {"timestamp": "soon"}, {"timestamp": -5}, {"time": 1}, {}, True, None, {"timestamp": None}]
)
def test_any_other_start_is_refused_with_what_would_be_right(given: object) -> None:
    assert "expected earliest, latest, or {timestamp: 2026-01-31T12:00:00Z}" in problems(start=given)["start"]


def test_it_starts_at_the_earliest_record_and_fails_when_a_position_is_lost() -> None:
    made = config()
    assert (made.start, made.on_position_lost, made.tombstones, made.format) == (EARLIEST, "fail", "error", "json")
    assert made.event_time is None


def test_event_time_is_a_field_or_more() -> None:
    short = config(event_time="ts").event_time
    assert str(short.field) == "ts"
    assert short.max_future == 3600
    full = config(event_time={"field": "a.ts", "out_of_order": "5s", "idle": "1m", "max_future": "2h"}).event_time
    assert (str(full.field), full.out_of_order, full.idle, full.max_future) == ("a.ts", 5, 60, 7200)
    assert config(event_time={"out_of_order": 1}).event_time.field is None


@pytest.mark.parametrize("topic", ["", ".", "..", "a b", "ä", "x" * 250, "a/b"])
def test_a_topic_has_a_name_that_kafka_takes(topic: str) -> None:
    assert "1 to 249 of the characters" in problems(topic=topic)["topic"]


def test_options_are_those_of_reading() -> None:
    assert config(options={"fetch.min.bytes": "10"}).options == {"fetch.min.bytes": 10}
    found = problems(
        options={"linger.ms": 1, "session.timeout.ms": 9000, "isolation.level": "read_uncommitted", "x": 1}
    )
    assert "not of the consumer" in found["options.linger.ms"]
    assert "`kafka:` section" in found["options.session.timeout.ms"]
    assert "aborted" in found["options.isolation.level"]
    assert "not a Kafka client setting" in found["options.x"]


def test_without_a_cluster_it_says_where_to_name_one(tmp_path: Path) -> None:
    context = PipelineContext("app", "big-orders", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"kafka source orders of pipeline big-orders needs a cluster.*bootstrap"):
        KafkaSource(config(), context)


def test_it_is_known_as_kafka_and_explains_itself() -> None:
    spec = KafkaSource.spec  # type: ignore[attr-defined]
    assert (spec.kind, spec.name, spec.transport, spec.replayable, spec.decoded) == (
        "source",
        "kafka",
        "kafka",
        True,
        False,
    )
    assert "Delivery: " in spec.doc
    for name, field in KafkaSourceConfig.model_fields.items():
        assert field.description, name
        assert field.examples, name
    assert KafkaSourceConfig.model_json_schema()["required"] == ["topic"]

"""Settings of the kafka sink."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from streamd.component.context import PipelineContext
from streamd.errors import ConfigError
from streamd.sinks.kafka import KafkaSink, KafkaSinkConfig


def test_a_topic_is_enough() -> None:
    made = KafkaSinkConfig.model_validate({"topic": "big-orders"})
    assert (made.format, made.key, made.headers, made.compression, made.create) == ("json", None, {}, None, None)


def test_key_time_and_headers_are_expressions() -> None:
    made = KafkaSinkConfig.model_validate(
        {"topic": "t", "key": "user.id", "timestamp": "ts", "headers": {"origin": "_topic"}}
    )
    assert (str(made.key), str(made.timestamp), str(made.headers["origin"])) == ("user.id", "ts", "_topic")


def test_how_a_missing_topic_is_made() -> None:
    made = KafkaSinkConfig.model_validate(
        {
            "topic": "t",
            "create": {"partitions": 12, "config": {"retention.ms": -1, "compression.type": "zstd", "x": True}},
        }
    )
    assert made.create is not None
    assert made.create.texts() == {"retention.ms": "-1", "compression.type": "zstd", "x": "true"}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"topic": "a b"}, ("topic",)),
        ({"topic": "t", "compression": "brotli"}, ("compression",)),
        ({"topic": "t", "create": {"partitions": 0}}, ("create", "partitions")),
        ({"topic": "t", "create": {"replicas": 3}}, ("create", "replicas")),
        ({"topic": "t", "partition": "x"}, ("partition",)),
    ],
)
def test_what_is_wrong_is_found_where_it_is(fields: dict[str, object], where: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        KafkaSinkConfig.model_validate(fields)
    assert [error["loc"] for error in caught.value.errors()] == [where]


def test_without_a_cluster_it_says_where_to_name_one(tmp_path: Path) -> None:
    context = PipelineContext("app", "big-orders", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"kafka sink t of pipeline big-orders needs a cluster"):
        KafkaSink(KafkaSinkConfig.model_validate({"topic": "t"}), context)


def test_it_is_known_as_kafka_and_explains_itself() -> None:
    spec = KafkaSink.spec  # type: ignore[attr-defined]
    assert (spec.kind, spec.name, spec.transport, spec.documents) == ("sink", "kafka", "kafka", False)
    assert "Delivery: exactly once" in spec.doc
    for name, field in KafkaSinkConfig.model_fields.items():
        assert field.description, name
        assert field.examples, name

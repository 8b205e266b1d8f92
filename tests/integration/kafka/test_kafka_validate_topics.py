"""`streamd validate --topics`: what is wrong with the topics of a pipeline is told before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.command import Ended, service_file, streamd

pytestmark = pytest.mark.kafka

JOIN = """\
name: paid
kafka: {{bootstrap: '{bootstrap}'}}
sources:
  orders: {{kafka: {{topic: {orders}, event_time: ts, partitioned_by: id}}}}
  payments: {{kafka: {{topic: {payments}, event_time: ts, partitioned_by: id}}}}
stages:
  - id: both
    join: {{left: orders, right: payments, on: id, within: 2h, fields: {{id: orders.id}}}}
sink: {{kafka: {{topic: {out}}}}}
"""


def validate(folder: Path, bootstrap: str, *, create: str = "true", **topics: str) -> Ended:
    path = folder / "paid.yaml"
    path.write_text(JOIN.format(bootstrap=bootstrap, **topics))
    return streamd(
        "validate", path, "--config", service_file(folder, "v", create_topics=create), "--topics", folder=folder
    )


async def test_topics_that_fit(kafka, make_topic, tmp_path):
    orders, payments = await make_topic(partitions=3), await make_topic(partitions=3)
    ended = validate(tmp_path, kafka.bootstrap, orders=orders, payments=payments, out="not-there-yet")
    assert ended.code == 0, ended.all
    assert "problem" not in ended.all


async def test_sides_of_a_join_that_could_not_meet(kafka, make_topic, tmp_path):
    orders, payments = await make_topic(partitions=3), await make_topic(partitions=2)
    ended = validate(tmp_path, kafka.bootstrap, orders=orders, payments=payments, out="not-there-yet")
    assert ended.code == 2
    assert "paid.yaml:8:5: stage 'both' joins what does not have the same number of partitions" in ended.err
    assert "orders has 3, payments has 2" in ended.err
    assert "warning" not in ended.err, "it is told once"
    assert "take `partitioned_by` from a source" in ended.err
    told = streamd("doctor", tmp_path / "paid.yaml", "--config", service_file(tmp_path, "d"), folder=tmp_path)
    assert told.code == 1
    assert "PROBLEM  partitions           pipeline paid: " in told.out
    assert "take `partitioned_by` from a source" in told.out


async def test_topics_that_keep_records_for_less_long_than_a_join_reaches(kafka, make_topic, tmp_path):
    short = {"retention.ms": 60_000, "cleanup.policy": "delete"}
    orders, payments = await make_topic(partitions=1, **short), await make_topic(partitions=1)
    ended = validate(tmp_path, kafka.bootstrap, orders=orders, payments=payments, out="not-there-yet")
    assert ended.code == 0, ended.all
    assert f"warning: topic {orders}: keeps 1 m (retention.ms)" in ended.err
    assert payments not in ended.err


async def test_a_topic_that_is_missing_and_may_not_be_made(kafka, make_topic, tmp_path):
    orders = await make_topic()
    ended = validate(tmp_path, kafka.bootstrap, create="false", orders=orders, payments="nobody-made-it", out=orders)
    assert ended.code == 2
    assert "problem: topic nobody-made-it: does not exist" in ended.err


def test_a_broker_that_is_not_there(tmp_path):
    ended = validate(tmp_path, "127.0.0.1:9", orders="a", payments="b", out="c")
    assert ended.code == 2
    assert "problem: 127.0.0.1:9: " in ended.err

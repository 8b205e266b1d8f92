"""`streamd inspect` on a real broker: all partitions, from either end, and without any trace."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.command import streamd
from services.kafka import KafkaBroker, produce

pytestmark = pytest.mark.kafka


async def groups_and_topics(kafka: KafkaBroker) -> tuple[list[tuple[str, ...]], list[str]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        return sorted(await admin.list_consumer_groups()), sorted(await admin.list_topics())
    finally:
        await admin.close()


async def test_a_topic(kafka: KafkaBroker, make_topic, tmp_path: Path):
    topic = await make_topic(partitions=2)
    (tmp_path / "streamd.yaml").write_text(f"kafka: {{bootstrap: '{kafka.bootstrap}'}}\n")
    for partition in range(2):
        values = [(b"k%d" % n, orjson.dumps({"n": n, "at": "2026-01-05T09:00:00Z"})) for n in range(50)]
        await produce(kafka.bootstrap, topic, values, partition=partition)
    await produce(kafka.bootstrap, topic, [(b"gone", None), (b"bad", b"nonsense")], partition=1)
    before = await groups_and_topics(kafka)

    def inspected(*more: str) -> dict:
        done = streamd("inspect", f"kafka:{topic}", *more, folder=tmp_path)
        assert done.code == 0, done.all
        return orjson.loads(done.out)

    whole, newest = inspected("--json"), inspected("--from", "latest-10", "--json")
    assert (whole["records"], whole["partitions"], whole["tombstones"]) == (102, 2, 1)
    assert sum(whole["undecodable"].values()) == 1
    assert (whole["keys"]["distinct"], whole["keys"]["null"]) == (52, 0)
    number, at = whole["fields"]
    assert (number["path"], number["least"], number["greatest"], number["distinct"]) == ("n", 0, 49, 50)
    assert at["path"] == whole["event_times"][0]["path"] == "at"
    assert (newest["records"], newest["fields"][0]["least"]) == (10, 45)

    made = streamd("inspect", f"kafka:{topic}", "--pipeline", "--out", "starter.yaml", folder=tmp_path)
    assert made.code == 0, made.all
    assert streamd("validate", "starter.yaml", folder=tmp_path).code == 0
    missing = streamd("inspect", f"kafka:{topic}-none", folder=tmp_path)
    assert missing.code != 0
    assert f"{topic}-none" in missing.all
    assert await groups_and_topics(kafka) == before

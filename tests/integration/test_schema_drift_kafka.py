"""A producer changes what it sends while a daemon reads: metric, one line of log, and the API tell it."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.daemon import Daemon
from services.kafka import KafkaBroker, produce, read_topic
from services.process import wait_until

pytestmark = pytest.mark.kafka

PIPELINE = """
name: orders
source:
  kafka: {topic: IN}
  schema_drift: {learn: 20, sample: 5, vanished_after: 10}
stages:
  - filter: n >= 0
sink: {kafka: {topic: OUT}}
kafka: {bootstrap: "BROKER"}
"""


def exposed(daemon: Daemon) -> str:
    [listening] = daemon.wait_lines("HTTP server listens", 1)
    with urllib.request.urlopen(listening["url"] + "/metrics", timeout=10) as answer:
        return str(answer.read().decode())


async def test_appeared_vanished_and_changed(kafka: KafkaBroker, make_topic, tmp_path: Path):
    given, taken = await make_topic(), await make_topic()
    sent = 0

    async def send(count: int, **fields: Any) -> None:
        nonlocal sent
        await produce(kafka.bootstrap, given, [orjson.dumps({"n": sent + n} | fields) for n in range(count)])
        sent += count
        await read_topic(kafka.bootstrap, taken, expected=sent)

    text = PIPELINE.replace("IN", given).replace("OUT", taken).replace("BROKER", kafka.bootstrap)
    with Daemon(tmp_path, text) as daemon:
        await send(30, user="ada", amount=1)
        await send(10, user="ada", amount=1, coupon="secret-a")
        await send(10, user="ada", amount="secret-b")
        for _ in range(30):
            await send(5, amount="secret-c")
        event = "Schema of a source changed"
        lines = daemon.wait_lines(event, 3)

        def listed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = daemon.get("/api/v1/pipelines/orders")[1]["schema_changes"]
            return found

        wait_until(lambda: len(listed()) == 3, "three changes in the API", 30)
        expected = {
            ("appeared", "coupon", "", "text"),
            ("type_changed", "amount", "integer", "text"),
            ("vanished", "user", "text", ""),
        }
        assert {(each["kind"], each["path"], each["was"], each["now"]) for each in listed()} == expected
        assert all(each["source"] == "source" and each["first_seen_at"] > 0 for each in listed())
        assert {(line["kind"], line["path"], line["was"], line["now"]) for line in lines} == expected
        assert len(daemon.lines(event)) == 3
        assert "secret" not in daemon.text
        metrics = exposed(daemon)
    for kind in ("appeared", "vanished", "type_changed"):
        labels = f'kind="{kind}",pipeline="orders",source="source"'
        assert f"streamd_source_schema_changes_total{{{labels}}} 1" in metrics

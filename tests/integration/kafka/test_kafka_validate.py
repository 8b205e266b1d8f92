"""`validate` on a real broker: unique keys over all partitions, scores, and dead letters, with workers killed."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from typing import Any

import pytest

from services.command import service_file, streamd
from services.kafka import produce, read_topic

pytestmark = pytest.mark.kafka

PARTITIONS = 3
WINDOW = 10_000  # ms
TIMES = 1_600_000_000_000
PIPELINE = """
name: checked-{unique}
kafka: {{bootstrap: "{bootstrap}"}}
source: {{kafka: {{topic: {orders}, end: latest, event_time: {{field: t, out_of_order: 1h}}}}}}
stages:
- id: checked
  validate:
    rules:
    - {{name: once, unique: order, within: 5s, action: dead_letter}}
    - {{name: low, field: v, range: [null, 89], action: dead_letter}}
    score: {{window: 10s}}
sinks:
- {{from: checked.records, kafka: {{topic: {out}}}}}
- {{from: checked.scores, kafka: {{topic: {scores}}}}}
on_error: {{dead_letter: {{kafka: {{topic: {dead}}}}}}}
batch: {{max_records: 100}}
commit_interval: 20ms
"""


def orders(chance: random.Random) -> list[dict[str, Any]]:
    """Orders, each up to three times within two seconds and one window, and copies of it in any partition."""
    made = []
    for number in range(500):
        begin = TIMES + chance.randrange(6) * WINDOW + chance.randrange(8000)
        # All copies break `low`, or none: which comes first makes no difference.
        value = chance.randrange(100)
        made += [
            {"id": f"{number}-{copy}", "order": f"o-{number}", "t": begin + chance.randrange(2000), "v": value}
            for copy in range(chance.randrange(1, 4))
        ]
    chance.shuffle(made)
    return made


async def values(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in await read_topic(bootstrap, topic)]


@pytest.mark.timeout(300)
async def test_each_order_goes_on_once_whatever_is_killed(kafka, make_topic, tmp_path):
    given = orders(random.Random(3))
    source, out, scores, dead = [await make_topic(n) for n in (PARTITIONS, 2, 1, 2)]
    for partition in range(PARTITIONS):
        rows = [(one["id"].encode(), json.dumps(one).encode()) for one in given[partition::PARTITIONS]]
        await produce(kafka.bootstrap, source, rows, partition=partition)
    topics = {"orders": source, "out": out, "scores": scores, "dead": dead}
    (tmp_path / "p.yaml").write_text(PIPELINE.format(unique=uuid.uuid4().hex[:8], bootstrap=kafka.bootstrap, **topics))
    log = tmp_path / "faults"
    ended = streamd(
        *("run", "p.yaml", "--config", service_file(tmp_path, f"checked-{uuid.uuid4().hex[:8]}"), "--until-idle"),
        env={
            "STREAMD_FAULT": "before_commit:kill9:0.1,after_commit:kill9:0.1,after_changelog:kill9:0.1",
            "STREAMD_FAULT_SEED": "5",
            "STREAMD_FAULT_LOG": str(log),
        },
        folder=tmp_path,
    )
    assert ended.code == 0, ended.all
    assert "kill9" in log.read_text()

    went_on, refused = await values(kafka.bootstrap, out), await values(kafka.bootstrap, dead)
    assert Counter(one["id"] for one in went_on + refused) == Counter(one["id"] for one in given)
    good = {one["order"] for one in given if one["v"] < 90}
    assert Counter(one["order"] for one in went_on) == Counter(good)
    headers = [dict(record.headers) for record in await read_topic(kafka.bootstrap, dead)]
    told = Counter(header["streamd.message"].decode() for header in headers)
    low = sum(one["v"] >= 90 for one in given)
    assert told == {
        "the record breaks the rule low": low,
        "the record breaks the rule once": len(given) - len(good) - low,
    }

    of_window = Counter(one["t"] // WINDOW * WINDOW for one in given)
    passed = Counter(one["t"] // WINDOW * WINDOW for one in went_on)
    found = await values(kafka.bootstrap, scores)
    assert Counter(one["window_start"] for one in found) == Counter(of_window.keys())
    assert {one["window_start"]: (one["records"], one["passed"]) for one in found} == {
        start: (count, passed[start]) for start, count in of_window.items()
    }

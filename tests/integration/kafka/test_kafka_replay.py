"""`streamd replay` on a real broker: between offsets and times, beside a live app whose positions stay as they are."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path

import pytest

from services.command import Ended, service_file, streamd
from services.kafka import produce, read_topic
from streamd.replay.kafka import span_of
from streamd.replay.span import Point
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

# A group of its own name is the same whatever the app.
PIPELINE = """\
name: spend
kafka: {{bootstrap: "{bootstrap}"}}
source: {{kafka: {{topic: {source}, group: {group}, partitioned_by: user}}}}
stages:
  - {{id: totals, aggregate: {{by: user, values: {{orders: count(), at: last(_offset)}}}}}}
sink: {{kafka: {{topic: {sink}}}}}
"""


class Live:
    """A pipeline that has read two partitions, and its replays."""

    def __init__(self, folder: Path, bootstrap: str, source: str, sink: str) -> None:
        self.folder, self.bootstrap, self.source, self.sink = folder, bootstrap, source, sink
        self.app = f"app-{uuid.uuid4().hex[:8]}"
        self.service = service_file(folder, self.app, workers="1")
        self.pipeline = folder / "spend.yaml"
        names = {"source": source, "sink": sink, "group": f"group-{self.app}", "bootstrap": bootstrap}
        self.pipeline.write_text(PIPELINE.format(**names))

    def do(self, *arguments: str) -> Ended:
        command, *rest = arguments
        parts = [command, rest.pop(0)] if command == "state" else [command]
        return streamd(*parts, self.pipeline, *rest, "-c", self.service, folder=self.folder, deadline=200)

    async def written(self, topic: str, expected: int) -> Counter[str]:
        """{record: how often} of an output."""
        records = await read_topic(self.bootstrap, topic, expected=expected)
        return Counter(record.value.decode() for record in records)


@pytest.fixture
async def live(kafka, make_topic, tmp_path):
    source, sink = await make_topic(2), await make_topic(3)
    users = [("ann", "bob", "7")[n % 3] for n in range(30)]
    records = [(user.encode(), json.dumps({"user": user}).encode()) for user in users]
    await produce(kafka.bootstrap, source, records, timestamp_ms=1_700_000_000_000)
    await produce(kafka.bootstrap, source, records[:3], timestamp_ms=1_700_000_100_000)
    made = Live(tmp_path, kafka.bootstrap, source, sink)
    done = made.do("run", "--until-idle")
    assert done.code == 0, done.all
    yield made
    made.do("state", "reset", "--yes")
    for app in (f"{made.app}-replay", "late"):
        made.do("state", "reset", "--yes", "--app", app)
    async with open_admin(KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})) as admin:
        await admin.delete_topics([f"{made.app}-replay.{sink}", f"late.{sink}"])


async def test_a_replay_writes_the_same_beside_a_live_app_that_notices_nothing(live):
    before = await live.written(live.sink, 33)
    done = live.do("replay", "--from", "earliest")
    assert done.code == 0, done.all
    assert "(33 offsets)" in done.err
    assert await live.written(f"{live.app}-replay.{live.sink}", 33) == before
    assert await live.written(live.sink, 33) == before
    again = live.do("replay", "--from", "earliest")
    assert "has positions or state of pipeline spend already" in again.err
    done = live.do("state", "reset", "--yes", "--app", f"{live.app}-replay")
    assert f"group streamd.{live.app}-replay.spend" in done.out, done.all
    again = live.do("replay", "--from", "earliest")
    assert "holds records already, of an earlier replay" in again.err, again.all
    done = live.do("run", "--until-idle")
    assert "0 records processed" in done.err, "its positions are where they were"


async def test_times_are_of_records(live):
    done = live.do("replay", "--from", "2023-11-14T22:14:00Z", "--until", "now", "--app", "late")
    assert done.code == 0, done.all
    assert "(3 offsets)" in done.err
    found = [json.loads(text) for text in await live.written(f"late.{live.sink}", 3)]
    assert sorted(record["user"] for record in found) == ["7", "ann", "bob"]
    assert {record["orders"] for record in found} == {1}, "it begins with no state"


async def test_spans(kafka, live):
    settings = KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})
    async with open_admin(settings) as admin:
        everything = await span_of(admin, live.source, Point(), None)
        early = await span_of(admin, live.source, Point(), Point(ms=1_700_000_050_000))
        late = await span_of(admin, live.source, Point(ms=1_700_000_050_000), None)
        named = await span_of(admin, live.source, Point(offsets={1: 1}), Point(offsets={1: 2}))
    assert {number: (early[number][0], late[number][1]) for number in (0, 1)} == everything
    assert {number: early[number][1] for number in (0, 1)} == {number: late[number][0] for number in (0, 1)}
    assert named == {0: (everything[0][1], everything[0][1]), 1: (1, 2)}

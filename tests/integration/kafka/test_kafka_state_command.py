"""`streamd state` on a real broker: what is committed is shown, and a reset pipeline begins anew."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from pathlib import Path

import pytest

from faults.daemon import Daemon
from integration.kafka.workbench import SOURCE
from services.command import service_file, streamd
from services.kafka import produce, read_topic
from streamd.component.stored import StoreId
from streamd.state.task_stores import META_KEY, TaskStores
from streamd.transport.kafka import stored
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.changelogs import changelog_topic
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PIPELINE = """\
name: spend
kafka: {{bootstrap: "{bootstrap}"}}
source: {{{source}}}
stages:
  - {{id: totals, aggregate: {{by: user, values: {{orders: count()}}}}}}
  - {{id: users, aggregate: {{by: user, values: {{times: count()}}}}}}
sink: {{kafka: {{topic: {sink}}}}}
"""


class Deployment:
    """A folder with one pipeline and its settings; all that it has in Kafka is deleted with it."""

    def __init__(self, folder: Path, bootstrap: str, source: str, sink: str) -> None:
        self.folder, self.bootstrap = folder, bootstrap
        self.app = f"app-{uuid.uuid4().hex[:8]}"
        self.service = service_file(folder, self.app, workers="1")
        self.pipeline = folder / "spend.yaml"
        self.pipeline.write_text(PIPELINE.format(bootstrap=bootstrap, source=source, sink=sink))

    def run(self):
        return streamd("run", self.pipeline, "--until-idle", "-c", self.service, folder=self.folder)

    def state(self, command, *arguments):
        return streamd("state", command, self.pipeline, *arguments, "-c", self.service, folder=self.folder)

    def totals(self, stage="totals"):
        """{user: value} that a stage remembers."""
        done = self.state("export", stage)
        assert done.code == 0, done.all
        entries = [json.loads(line) for line in done.out.splitlines()]
        return {entry["key"]: entry["value"] for entry in entries}


async def orders(bootstrap, topic, count):
    """Records of three users, in turn."""
    users = [("ann", "bob", "7")[n % 3] for n in range(count)]
    await produce(bootstrap, topic, [(user.encode(), json.dumps({"user": user}).encode()) for user in users])


@pytest.fixture
async def deployment(kafka, make_topic, tmp_path):
    """One that has read 30 records of three users."""
    source, sink = await make_topic(2), await make_topic(2)
    await orders(kafka.bootstrap, source, 30)
    made = Deployment(tmp_path, kafka.bootstrap, f"kafka: {{topic: {source}, partitioned_by: user}}", sink)
    made.source, made.sink = source, sink
    done = made.run()
    assert done.code == 0, done.all
    yield made
    made.state("reset", "--yes")


async def test_what_is_committed_is_shown(deployment):
    done = deployment.state("ls", "--json")
    assert done.code == 0, done.all
    stores = json.loads(done.out)
    assert {(one["stage"], one["partition"]) for one in stores} == {(s, p) for s in ("totals", "users") for p in (0, 1)}
    assert {one["changelog"] for one in stores} == {
        f"streamd.{deployment.app}.spend.{stage}.changelog" for stage in ("totals", "users")
    }
    totals = [one for one in stores if one["stage"] == "totals"]
    assert sum(one["tables"].get("values", {"keys": 0})["keys"] for one in totals) == 3
    assert all(one["checkpoint"] >= 1 and one["part"] == 0 for one in stores)
    assert deployment.totals() == {"ann": [10], "bob": [10], "7": [10]}
    shown = deployment.state("show", "totals", "7", "--json")
    assert json.loads(shown.out)[0]["value"] == [10]
    assert deployment.state("show", "totals", "nobody").code == 1


async def test_a_pipeline_that_is_reset_begins_anew(kafka, deployment):
    done = deployment.state("reset")
    assert done.code == 2, done.all
    for shown in (
        f"topic streamd.{deployment.app}.spend.totals.changelog  2 partitions",
        f"topic streamd.{deployment.app}.spend.users.changelog ",
        f"group streamd.{deployment.app}.spend ",
        f"{deployment.source}[0] ",
    ):
        assert shown in done.out
    assert deployment.totals() == {"ann": [10], "bob": [10], "7": [10]}, "nothing was deleted"
    done = deployment.state("reset", "--yes")
    assert done.code == 0, done.all
    assert deployment.totals() == {}
    assert "there is nothing to delete" in deployment.state("reset", "--yes").out
    done = deployment.run()
    assert done.code == 0, done.all
    assert deployment.totals() == {"ann": [10], "bob": [10], "7": [10]}
    assert len(await read_topic(kafka.bootstrap, deployment.sink, expected=60)) == 60, "written again"


async def test_a_stage_that_is_reset_forgets_and_the_pipeline_goes_on(kafka, deployment):
    done = deployment.state("reset", "totals", "--yes")
    assert done.code == 0, done.all
    assert ".users.changelog" not in done.out
    assert deployment.totals() == {}
    await orders(kafka.bootstrap, deployment.source, 3)
    done = deployment.run()
    assert "3 records processed" in done.err, done.all
    assert deployment.totals() == {"ann": [1], "bob": [1], "7": [1]}
    assert deployment.totals("users") == {"ann": [11], "bob": [11], "7": [11]}


async def test_positions_without_a_group(kafka, make_topic, tmp_path):
    made = Deployment(tmp_path, kafka.bootstrap, "file: {path: in.ndjson}", await make_topic(1))
    (tmp_path / "in.ndjson").write_text('{"user": "ann"}\n' * 5)
    assert made.run().code == 0
    assert made.totals() == {"ann": [5]}
    assert made.state("reset", "totals", "--yes").code == 0
    done = made.run()
    assert done.code == 0, done.all
    assert (made.totals(), made.totals("users")) == ({}, {"ann": [5]})
    done = made.state("reset", "--yes")
    assert f"topic streamd.{made.app}.spend.positions" in done.out
    done = made.run()
    assert "5 records processed" in done.err, done.all
    assert made.totals() == {"ann": [5]}
    made.state("reset", "--yes")


async def test_a_running_pipeline_is_left_alone(deployment, tmp_path):
    (tmp_path / "pipelines").mkdir()
    shutil.copy(deployment.pipeline, tmp_path / "pipelines")
    node = Daemon(tmp_path, workers=1, app=deployment.app)
    await node.start()
    try:
        async with asyncio.timeout(60):
            while not await node.at_work():  # noqa: ASYNC110 — there is no event
                await asyncio.sleep(0.05)
        done = deployment.state("reset", "--yes")
        assert done.code == 1, done.all
        assert f"Pipeline spend runs: group streamd.{deployment.app}.spend has members (" in done.err
        assert deployment.totals() == {"ann": [10], "bob": [10], "7": [10]}, "it may be looked at meanwhile"
        assert await node.drain() == 0
    finally:
        node.kill()


async def test_an_open_transaction_is_not_seen(kafka, bench, make_topic):
    source, task = await make_topic(), bench.task
    transaction = bench.transaction(source)
    stores = TaskStores(task, {"s": {}}, 1, exact=True)
    table = stores.stores["s"].table("values")
    await stores.restore(transaction, await transaction.open(), lambda count: None)

    async def write(position, **values):
        for key, value in values.items():
            table[key] = value
            table.dirty.add(key)
        transaction.begin()
        cursors = stores.write(transaction, {SOURCE: position})
        await transaction.flush()
        await transaction.put_positions({SOURCE: position}, cursors)

    await write(1, a=1, b=1)
    await transaction.commit()
    stores.committed()
    await write(2, a=2, c=2)
    settings = KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})
    try:
        async with stored.opened(settings, task.app, task.pipeline, {"s": 4}, bench.group, [source]) as found:
            assert await found.stores() == [("s", 4, 0)]
            read = [change async for changes in found.changes(StoreId("s", 4, 0)) for change in changes]
            assert {(change.key, change.value) for change in read if change.key != META_KEY} == {
                (b'values:"a"', b"1"),
                (b'values:"b"', b"1"),
            }
    finally:
        async with open_admin(settings) as admin:
            await admin.delete_topics([changelog_topic(task, "s")])

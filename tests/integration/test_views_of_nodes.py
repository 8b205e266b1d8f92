"""Views over HTTP while a pipeline runs: what is committed, from all workers, also of a node that has not all tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from faults.daemon import Daemon
from services.kafka import produce

pytestmark = pytest.mark.timeout(180)

EMBEDDED = {
    "feed.yaml": "name: feed\nsource: {file: {path: in.ndjson, tail: true}}\n"
    "sink: {log: {topic: orders, partitions: 2, key: user}}\n",
    "spend.yaml": "name: spend\nsource: {log: {topic: orders, partitions: 2, partitioned_by: user}}\n"
    "stages:\n- {id: totals, aggregate: {by: user, values: {orders: count(), last: last(n)}}}\n"
    "sink: {discard: {}}\n",
}
KAFKA = """\
name: spend
kafka: {{bootstrap: "{bootstrap}", options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}}}
source: {{kafka: {{topic: {topic}, partitioned_by: user}}}}
stages:
- {{id: totals, aggregate: {{by: user, values: {{orders: count()}}}}}}
sink: {{discard: {{}}}}
"""
USERS = [f"user-{number}" for number in range(12)]


class Viewed(Daemon):
    """A node that is asked about its views."""

    async def view(self, path: str) -> tuple[int, Any]:
        """(status, body) of an answer; (0, None) while there is none."""
        url = f"http://127.0.0.1:{self._port}/api/v1/pipelines/spend/views/totals{path}"

        def ask() -> tuple[int, Any]:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)
            except OSError:
                return 0, None

        return await asyncio.to_thread(ask)

    async def keys(self) -> set[str]:
        """The keys that it shows now."""
        status, body = await self.view("?limit=1000")
        return {entry["key"] for entry in body["entries"]} if status == 200 else set()

    async def orders(self, user: str) -> int:
        """How many orders of a user it shows, 0 when none."""
        status, body = await self.view(f"/{user}")
        return body["value"]["orders"] if status == 200 else 0


async def until(condition: Any, deadline: float = 90.0) -> None:
    async with asyncio.timeout(deadline):
        while not await condition():  # noqa: ASYNC110 — there is no event
            await asyncio.sleep(0.05)


def pipelines(folder: Path, files: dict[str, str]) -> Path:
    (folder / "pipelines").mkdir(parents=True)
    for name, text in files.items():
        (folder / "pipelines" / name).write_text(text)
    return folder


async def test_keys_of_all_workers_and_after_a_crash(tmp_path: Path) -> None:
    folder = pipelines(tmp_path, EMBEDDED)
    lines = [json.dumps({"user": user, "n": n}) + "\n" for n in range(3) for user in USERS]
    (folder / "pipelines" / "in.ndjson").write_text("".join(lines))
    node = Viewed(folder)
    await node.start()
    try:

        async def all_there() -> bool:
            return [await node.orders(user) for user in USERS] == [3] * len(USERS)

        await until(all_there)
        assert await node.keys() == set(USERS)
        status, body = await node.view("?prefix=user-1&limit=2")
        assert status == 200
        assert [entry["key"] for entry in body["entries"]] == ["user-1", "user-10"]
        assert body["entries"][0]["value"] == {"user": "user-1", "orders": 3, "last": 2}
        assert body["next"] == "user-10"
        assert (await node.view("/nobody"))[0] == 404
        for pid in await node.at_work():
            os.kill(pid, signal.SIGKILL)
        await until(all_there)
        assert await node.drain() == 0
    finally:
        node.kill()


@pytest.mark.kafka
async def test_a_node_names_what_others_run(kafka: Any, make_topic: Any, tmp_path: Path) -> None:
    topic = await make_topic(4)
    records = [(user.encode(), json.dumps({"user": user}).encode()) for user in USERS]
    await produce(kafka.bootstrap, topic, records)
    text = KAFKA.format(bootstrap=kafka.bootstrap, topic=topic)
    app = f"views-{uuid.uuid4().hex[:8]}"
    nodes = [Viewed(pipelines(tmp_path / name, {"spend.yaml": text}), workers=1, app=app) for name in ("a", "b")]
    try:
        for node in nodes:
            await node.start()

        async def shared() -> bool:
            found = [await node.view("") for node in nodes]
            if any(status != 200 for status, _ in found):
                return False
            return all(len(body["partitions"]["elsewhere"]) == 2 for _, body in found)

        async def read() -> bool:
            return await nodes[0].keys() | await nodes[1].keys() == set(USERS)

        await until(shared)
        await until(read)
        keys = [await node.keys() for node in nodes]
        assert keys[0] | keys[1] == set(USERS)
        assert not keys[0] & keys[1]
        for user in USERS:
            here, there = (nodes[0], nodes[1]) if user in keys[0] else (nodes[1], nodes[0])
            assert await here.orders(user) == 1
            status, body = await there.view(f"/{user}")
            assert (status, body["error"]["code"]) == (404, "not_here")
        assert await nodes[1].drain() == 0

        async def alone() -> bool:
            return await nodes[0].keys() == set(USERS)

        await until(alone)
        assert await nodes[0].drain() == 0
    finally:
        for node in nodes:
            node.kill()

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
kafka: {{bootstrap: "{bootstrap}", options: {{session.timeout.ms: 10000, heartbeat.interval.ms: 300}}}}
source: {{kafka: {{topic: {topic}, partitioned_by: user}}}}
stages:
- {{id: totals, aggregate: {{by: user, values: {{orders: count()}}}}}}
sink: {{discard: {{}}}}
"""
USERS = [f"user-{number}" for number in range(12)]


class Viewed(Daemon):
    """A node that is asked about its views. `token`: of its HTTP server, and of who asks it."""

    def __init__(self, folder: Path, *, token: str = "", **options: Any) -> None:
        super().__init__(folder, **options)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if token:
            self._settings["http"] = f"{{port: {self._port}, token: {token}}}"

    async def view(self, path: str) -> tuple[int, Any]:
        """(status, body) of an answer; (0, None) while there is none."""
        url = f"http://127.0.0.1:{self._port}/api/v1/pipelines/spend/views/totals{path}"

        def ask() -> tuple[int, Any]:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=self._headers), timeout=20) as answer:
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
async def test_any_node_answers_for_all_and_while_one_is_lost(kafka: Any, make_topic: Any, tmp_path: Path) -> None:
    topic = await make_topic(4)
    records = [(user.encode(), json.dumps({"user": user}).encode()) for user in USERS]
    await produce(kafka.bootstrap, topic, records)
    text = KAFKA.format(bootstrap=kafka.bootstrap, topic=topic)
    app = f"views-{uuid.uuid4().hex[:8]}"
    one, two = nodes = [
        Viewed(pipelines(tmp_path / name, {"spend.yaml": text}), token="secret", workers=1, app=app) for name in "ab"
    ]
    try:
        for node in nodes:
            await node.start()

        async def shared() -> bool:
            for node in nodes:
                status, body = await node.view("?limit=1000")
                if status != 200 or {entry["key"] for entry in body["entries"]} != set(USERS):
                    return False
                if [len(body["partitions"][kind]) for kind in ("here", "peers", "elsewhere")] != [2, 2, 0]:
                    return False
            return True

        await until(shared)
        for node in nodes:
            assert [await node.orders(user) for user in USERS] == [1] * len(USERS)
            assert (await node.view("/nobody"))[1]["error"]["code"] == "no_such_key"
            first = (await node.view("?limit=5"))[1]
            then = (await node.view(f"?limit=1000&after={first['next']}"))[1]
            assert [entry["key"] for entry in first["entries"] + then["entries"]] == sorted(USERS)

        two.signal(signal.SIGKILL)
        assert await two.ended() == -signal.SIGKILL
        status, body = await one.view("")
        assert (status, body["error"]["code"]) == (503, "not_ready")
        assert "cannot be reached" in body["error"]["message"]
        assert len(body["error"]["partitions"]["not_ready"]) == 2

        async def answered(user: str) -> bool:
            status, body = await one.view(f"/{user}")
            assert status in (200, 503), body
            return status == 200 and body["value"]["orders"] == 1

        for user in USERS:
            await until(lambda user=user: answered(user))
        status, body = await one.view("?limit=1000")
        assert (status, body["partitions"]["here"]) == (200, [0, 1, 2, 3])
        assert {entry["key"] for entry in body["entries"]} == set(USERS)
        assert await one.drain() == 0
    finally:
        for node in nodes:
            node.kill()

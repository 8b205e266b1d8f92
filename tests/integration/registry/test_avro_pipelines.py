"""Avro through real pipelines, a real broker and a real registry; who writes and reads beside them is not ours."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import uuid
from collections import Counter
from typing import Self

import fastavro
import pytest
from aiohttp import ClientSession, web
from yarl import URL

from faults.running_node import worker_pids
from services.kafka import produce, read_topic
from services.registry import SchemaRegistry
from streamd.observability import catalog

pytestmark = pytest.mark.kafka

ID = {"name": "id", "type": "long"}
ORDER = {"type": "record", "name": "shop.Order", "fields": [ID, {"name": "user", "type": "string"}]}
ORDER_2 = {**ORDER, "fields": [*ORDER["fields"], {"name": "coupon", "type": ["null", "string"], "default": None}]}

PIPELINE = """
name: avro-{unique}
kafka: {{bootstrap: "{bootstrap}", options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}}}
schema_registry: {{url: "{registry}", timeout: 2s}}
source: {{kafka: {{topic: {source}, format: {{avro: {{registry: true}}}}}}}}
stages:
  - set: {{double: id * 2}}
sink:
  kafka:
    topic: {sink}
    format: {{avro: {{registry: true, on_schema_change: {change}, schema: {schema}}}}}
on_error: {{dead_letter: {{kafka: {{topic: {sink}-dlq}}}}}}
"""
OUT = {
    "type": "record",
    "name": "Out",
    "fields": [ID, {"name": "user", "type": "string"}, {"name": "double", "type": "long"}],
}


def framed(number: int, schema: object, document: dict[str, object]) -> bytes:
    """A value as any of Confluent's producers writes it: the header by hand, the rest by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), document)
    return b"\x00" + number.to_bytes(4, "big") + out.getvalue()


class Consumer:
    """Reads values by the registry's schemas, without anything of ours."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._schemas: dict[int, object] = {}

    def read(self, value: bytes) -> dict[str, object]:
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            found = self._registry.ask("GET", f"/schemas/ids/{number}")
            self._schemas[number] = fastavro.parse_schema(json.loads(found["schema"]))
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schemas[number], None)


def pipeline(kafka, registry, topics, *, change="fail", schema=OUT):
    source, sink = topics
    return PIPELINE.format(
        unique=uuid.uuid4().hex[:8], bootstrap=kafka.bootstrap, registry=registry.url, source=source, sink=sink,
        change=change, schema=json.dumps(schema),
    )  # fmt: skip


def by_id(documents):
    return Counter(json.dumps(document, sort_keys=True) for document in documents)


def total(node, metric):
    """The sum of a metric, over all labels."""
    return node.metrics.totals(metric) if node.metrics is not None else 0


async def test_records_of_several_schemas_of_another_producer(kafka, schema_registry, topics, nodes):
    source, sink = topics
    first = schema_registry.register(f"{source}-value", ORDER)
    second = schema_registry.register(f"{source}-value", ORDER_2)
    values = [(b"k", framed(first, ORDER, {"id": n, "user": "ada"})) for n in range(500)]
    values += [(b"k", framed(second, ORDER_2, {"id": n, "user": "bob", "coupon": "X"})) for n in range(500, 600)]
    values += [(b"k", b"\x00\x7f\xff\xff\xff\x02"), (b"k", b"no id")]
    await produce(kafka.bootstrap, source, values)
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, schema_registry, topics, change="ignore")}, until_idle=True)
    await node.ended()
    consumer = Consumer(schema_registry)
    found = [consumer.read(record.value) for record in await read_topic(kafka.bootstrap, sink, expected=600)]
    assert by_id(found) == by_id({"id": n, "user": "ada" if n < 500 else "bob", "double": 2 * n} for n in range(600))
    dead = await read_topic(kafka.bootstrap, f"{sink}-dlq", expected=2)
    messages = {dict(record.headers)["streamd.message"].decode() for record in dead}
    assert {record.value for record in dead} == {values[-2][1], values[-1][1]}, "as they came"
    assert any("has no schema with the id 2147483647" in message for message in messages)
    assert total(node, catalog.LEFT_OUT_FIELDS) == 100


async def test_a_schema_grows_while_records_flow_and_readers_read_all(kafka, schema_registry, topics, nodes):
    source, sink = topics
    first = schema_registry.register(f"{source}-value", ORDER)
    second = schema_registry.register(f"{source}-value", ORDER_2)
    values = []
    for n in range(400):
        new = n % 7 == 3
        document = {"id": n, "user": "ada", **({"coupon": f"c-{n}"} if new else {})}
        values.append((str(n % 11).encode(), framed(second if new else first, ORDER_2 if new else ORDER, document)))
    await produce(kafka.bootstrap, source, values)
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, schema_registry, topics, change="evolve")}, until_idle=True)
    await node.ended()
    consumer = Consumer(schema_registry)
    found = [consumer.read(record.value) for record in await read_topic(kafka.bootstrap, sink, expected=400)]
    assert sorted(document["id"] for document in found) == list(range(400))
    for document in found:
        assert document.get("coupon") == (f"c-{document['id']}" if document["id"] % 7 == 3 else None)
    versions = schema_registry.ask("GET", f"/subjects/{sink}-value/versions")
    # A registry may take the same schema twice from two tasks that come at one moment.
    told = {schema_registry.ask("GET", f"/subjects/{sink}-value/versions/{one}")["schema"] for one in versions}
    assert len(told) == 2


async def test_a_registry_that_is_down_at_the_start_is_waited_for_and_named(kafka, own_registry, topics, nodes):
    source, sink = topics
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, own_registry, topics)})
    await node.until(lambda: node.says("the schema registry"))
    await asyncio.to_thread(own_registry.start)
    number = own_registry.register(f"{source}-value", ORDER)
    await produce(kafka.bootstrap, source, [(b"k", framed(number, ORDER, {"id": 1, "user": "ada"}))])
    [record] = await read_topic(kafka.bootstrap, sink, expected=1)
    assert Consumer(own_registry).read(record.value) == {"id": 1, "user": "ada", "double": 2}
    node.drain()
    await node.ended()


async def test_a_registry_that_dies_while_ids_are_unknown_loses_and_doubles_nothing(kafka, own_registry, topics, nodes):
    source, sink = topics
    await asyncio.to_thread(own_registry.start)
    first = own_registry.register(f"{source}-value", ORDER)
    second = own_registry.register(f"{source}-value", ORDER_2)
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, own_registry, topics, change="ignore")})
    await produce(kafka.bootstrap, source, [(b"a", framed(first, ORDER, {"id": n, "user": "ada"})) for n in range(100)])
    assert len(await read_topic(kafka.bootstrap, sink, expected=100)) == 100
    await asyncio.to_thread(own_registry.kill)
    mixed = [(b"b", framed(first, ORDER, {"id": n, "user": "ada"})) for n in range(100, 150)]
    mixed += [(b"b", framed(second, ORDER_2, {"id": n, "user": "ada", "coupon": None})) for n in range(150, 200)]
    await produce(kafka.bootstrap, source, mixed)
    await node.until(lambda: total(node, catalog.TASK_RESTARTS) > 0)
    assert node.says("the schema registry")
    await asyncio.to_thread(own_registry.start)
    records = await read_topic(kafka.bootstrap, sink, expected=200)
    node.drain()
    await node.ended()
    records = await read_topic(kafka.bootstrap, sink, expected=200)
    found = [Consumer(own_registry).read(record.value) for record in records]
    assert sorted(document["id"] for document in found) == list(range(200))


async def test_a_schema_that_the_registry_refuses_stops_the_pipeline_with_the_reasons(
    kafka, schema_registry, topics, nodes
):
    _, sink = topics
    schema_registry.register(f"{sink}-value", {**OUT, "fields": [ID]})
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, schema_registry, topics)})
    await node.until(lambda: node.says("refuses the schema"))
    assert node.says(f"{sink}-value")
    assert node.says("whose compatibility is BACKWARD")
    node.drain()
    await node.ended()


class KillingRegistry:
    """Stands before a registry, and kills all workers when a sink registers: before the registry has it, or behind."""

    def __init__(self, registry: SchemaRegistry, moments: list[str]) -> None:
        self._registry, self._moments = registry, moments
        self.url = ""
        self.killed: list[str] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        # The first version is registered by the supervisor as well.
        registers = request.method == "POST" and request.path.endswith("/versions")
        grown = registers and request.path.startswith("/subjects/") and re.search(rb"f\d", body)
        moment = self._moments.pop(0) if grown and self._moments else ""
        if moment == "before":
            return self._kill(moment)
        target = URL(self._registry.url + request.raw_path, encoded=True)
        kind = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        async with self._session.request(request.method, target, data=body, headers=kind) as answer:
            content = await answer.read()
        if moment == "behind":
            return self._kill(moment)
        return web.Response(status=answer.status, body=content, content_type="application/json")

    def _kill(self, moment: str) -> web.Response:
        for pid in worker_pids():
            os.kill(pid, signal.SIGKILL)
        self.killed.append(moment)
        return web.Response(status=503)


async def test_workers_that_are_killed_around_a_registration_lose_and_double_nothing(
    kafka, schema_registry, topics, nodes
):
    source, sink = topics
    documents = [
        {"id": n, "user": "ada", **({f"f{n // 60}": n} if n % 60 > 40 else {})} for n in range(300)
    ]  # five fields, each of which begins in the middle of what is read
    await produce(kafka.bootstrap, source, [(b"%d" % (d["id"] % 7), json.dumps(d).encode()) for d in documents])
    moments = ["before", "behind", "behind", "before"]
    async with KillingRegistry(schema_registry, list(moments)) as registry:
        text = pipeline(kafka, registry, topics, change="evolve").replace(", format: {avro: {registry: true}}", "", 1)
        node = nodes()
        batches = {"restart": {"initial": "100ms", "max": "500ms"}}
        node.start({"p.yaml": f"{text}batch: {{max_records: 16}}\n"}, until_idle=True, **batches)
        await node.ended(240)
    # Two workers may register at once.
    assert sorted(registry.killed) == sorted(moments)
    dead = await read_topic(kafka.bootstrap, f"{sink}-dlq")
    assert not dead, {dict(record.headers)["streamd.message"] for record in dead}
    consumer = Consumer(schema_registry)
    found = [consumer.read(record.value) for record in await read_topic(kafka.bootstrap, sink, expected=300)]
    told = [{name: value for name, value in document.items() if value is not None} for document in found]
    assert by_id(told) == by_id({**document, "double": document["id"] * 2} for document in documents)

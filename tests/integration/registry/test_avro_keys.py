"""Keys and headers of a schema registry through a real broker and a real registry; who writes and reads is not ours."""

from __future__ import annotations

import io
import json
import os
import signal
import uuid
from collections import Counter
from typing import Any

import fastavro
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from faults.running_node import worker_pids
from services.kafka import produce, read_topic
from services.registry import SchemaRegistry

pytestmark = pytest.mark.kafka

ID = {"name": "id", "type": "long"}
KEY = {"type": "record", "name": "shop.Key", "fields": [ID, {"name": "region", "type": "string"}]}
KEY_2 = {**KEY, "fields": [*KEY["fields"], {"name": "tenant", "type": "string", "default": "none"}]}
TRACE = {"type": "record", "name": "Trace", "fields": [{"name": "span", "type": "long"}]}

PIPELINE = """
name: keys-{unique}
kafka: {{bootstrap: "{bootstrap}", options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}}}
schema_registry: {{url: "{registry}", timeout: 2s}}
source:
  kafka:
    topic: {source}
    key_format: {{avro: {{registry: true}}}}
    header_formats: {{trace: {{avro: {{registry: true}}}}}}
stages:
  - set: {{of: _key.id, span: 'get(_headers.trace.span)'}}
{more}
sink:
  kafka:
    topic: {sink}
    {key}
    key_format: {{avro: {{registry: true{schema}}}}}
    headers: {{region: _key.region}}
    header_formats: {{region: {{avro: {{registry: true, schema: string}}}}}}
on_error: {{dead_letter: {{kafka: {{topic: {sink}-dlq}}}}}}
"""


def framed(number: int, schema: object, value: object) -> bytes:
    """A key as any of Confluent's producers writes it: the header by hand, the rest by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return b"\x00" + number.to_bytes(4, "big") + out.getvalue()


def read(registry: SchemaRegistry, data: bytes) -> tuple[Any, Any]:
    """(the schema, the value) of what was written by a registry's schema, without anything of ours."""
    assert data[0] == 0
    schema = json.loads(registry.ask("GET", f"/schemas/ids/{int.from_bytes(data[1:5], 'big')}")["schema"])
    return schema, fastavro.schemaless_reader(io.BytesIO(data[5:]), fastavro.parse_schema(schema), None)


@pytest.fixture
async def topics(make_topic):
    return await make_topic(2), await make_topic(5)


def pipeline(kafka, registry, topics, *, key="key: _key.id", schema=", schema: long", more=""):
    source, sink = topics
    return PIPELINE.format(
        unique=uuid.uuid4().hex[:8], bootstrap=kafka.bootstrap, registry=registry.url, source=source, sink=sink,
        key=key, schema=schema, more=more,
    )  # fmt: skip


async def test_keys_and_headers_of_another_producer_and_for_another_consumer(kafka, schema_registry, topics, nodes):
    source, sink = topics
    first = schema_registry.register(f"{source}-key", KEY)
    second = schema_registry.register(f"{source}-key", KEY_2)
    trace = schema_registry.register(f"{source}-trace", TRACE)
    bad = [b"\x00\x7f\xff\xff\xff\x02", b"no id", framed(first, KEY, {"id": 1, "region": "eu"})[:-1]]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for n in range(300):
            key = {"id": n, "region": "eu"}
            headers = [("trace", framed(trace, TRACE, {"span": n * 3}))] if n % 2 else []
            new = framed(second, KEY_2, {**key, "tenant": "t"}) if n % 3 else framed(first, KEY, key)
            await producer.send(source, b'{"n": %d}' % n, new, headers=headers)
        for key in bad:
            await producer.send(source, b'{"n": -1}', key)
        good = framed(first, KEY, {"id": 1, "region": "eu"})
        await producer.send(source, b'{"n": -2}', good, headers=[("trace", b"x")])
        await producer.flush()
    finally:
        await producer.stop()
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, schema_registry, topics)}, until_idle=True)
    await node.ended()
    found = await read_topic(kafka.bootstrap, sink, expected=300)
    assert len(found) == 300
    for record in found:
        document = json.loads(record.value)
        n = document["n"]
        assert read(schema_registry, record.key) == ("long", n)
        assert document == {"n": n, "of": n, "span": n * 3 if n % 2 else None}
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 5, "where every client looks for it"
        assert read(schema_registry, dict(record.headers)["region"]) == ("string", "eu")
    assert {n for r in found for n in [json.loads(r.value)["of"]]} == set(range(300))
    subjects = schema_registry.ask("GET", "/subjects")
    assert {f"{sink}-key", f"{sink}-header-region"} <= set(subjects)
    dead = await read_topic(kafka.bootstrap, f"{sink}-dlq", expected=4)
    assert Counter(record.key for record in dead if json.loads(record.value)["n"] == -1) == Counter(bad), "as they came"
    told = [dict(record.headers)["streamd.message"].decode() for record in dead]
    assert sum(message.startswith("the record's key: ") for message in told) == 3
    assert sum(message.startswith("the record's header `trace`: ") for message in told) == 1
    assert {dict(record.headers)["streamd.error"] for record in dead} == {b"ExtractError"}


async def test_keys_of_schemas_met_after_workers_were_killed_lose_and_double_nothing(
    kafka, schema_registry, topics, nodes
):
    source, sink = topics
    first = schema_registry.register(f"{source}-key", KEY)
    node = nodes()
    text = pipeline(kafka, schema_registry, topics, key="key: of", more="  - key_by: of\n  - set: {by: _key}")
    node.start({"p.yaml": text.replace("_key.region", "'\"eu\"'")})

    async def write(number, schema, ids, **more):
        keys = [framed(number, schema, {"id": n, "region": "eu", **more}) for n in ids]
        await produce(kafka.bootstrap, source, [(key, b'{"n": %d}' % n) for n, key in zip(ids, keys, strict=True)])

    await write(first, KEY, range(200))
    await read_topic(kafka.bootstrap, sink, expected=200)
    for pid in worker_pids():
        os.kill(pid, signal.SIGKILL)
    second = schema_registry.register(f"{source}-key", KEY_2)
    await write(second, KEY_2, range(200, 400), tenant="t")
    await read_topic(kafka.bootstrap, sink, expected=400)
    node.drain()
    await node.ended()
    found = await read_topic(kafka.bootstrap, sink, expected=400)
    assert Counter(read(schema_registry, record.key)[1] for record in found) == Counter(range(400))
    assert all(json.loads(r.value)["by"] == str(json.loads(r.value)["n"]) for r in found), "the key of key_by is text"


@pytest.mark.parametrize("written", ["string", "long"])
async def test_a_primitive_key_goes_from_one_subject_to_another(kafka, schema_registry, topics, nodes, written):
    source, sink = topics
    number = schema_registry.register(f"{source}-key", json.dumps(written))
    values = [f"k-{n}" if written == "string" else n - 50 for n in range(100)]
    await produce(kafka.bootstrap, source, [(framed(number, written, one), b"{}") for one in values])
    text = pipeline(kafka, schema_registry, topics, key="", schema=f", schema: {written}")
    text = text.replace("_key.id", "_key").replace("_key.region", "'\"eu\"'")
    node = nodes()
    node.start({"p.yaml": text}, until_idle=True)
    await node.ended()
    found = await read_topic(kafka.bootstrap, sink, expected=100)
    assert Counter(read(schema_registry, record.key)[1] for record in found) == Counter(values)
    assert Counter(json.loads(record.value)["of"] for record in found) == Counter(values)

"""JSON behind schema ids through real pipelines, a real broker and a real registry; the other side is not ours."""

from __future__ import annotations

import asyncio
import json
import uuid

import jsonschema
import pytest

from services.kafka import produce, read_topic

pytestmark = pytest.mark.kafka

ORDER = {"title": "Order", "type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
OUT = {
    "title": "Out",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "double": {"type": "integer", "maximum": 1000}},
    "required": ["id", "double"],
}
PIPELINE = """
name: json-{unique}
kafka: {{bootstrap: "{bootstrap}", options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}}}
schema_registry: {{url: "{registry}", timeout: 2s}}
source: {{kafka: {{topic: {source}, format: {{json: {{registry: true, validate: true}}}}}}}}
stages:
  - set: {{double: id * 2}}
sink: {{kafka: {{topic: {sink}, format: {{json: {{registry: true, schema: {schema}}}}}}}}}
on_error: {{dead_letter: {{kafka: {{topic: {sink}-dlq}}}}}}
"""


def pipeline(kafka, registry, topics):
    source, sink = topics
    return PIPELINE.format(
        unique=uuid.uuid4().hex[:8], bootstrap=kafka.bootstrap, registry=registry.url, source=source, sink=sink,
        schema=json.dumps(OUT),
    )  # fmt: skip


def framed(number: int, document: object) -> bytes:
    """As Confluent's serializer writes it."""
    return b"\x00" + number.to_bytes(4, "big") + json.dumps(document).encode()


def read(registry, values: list[bytes]) -> list[dict[str, object]]:
    """What values are, checked by the schema that the registry has for their one id."""
    [number] = {int.from_bytes(value[1:5], "big") for value in values}
    found = registry.ask("GET", f"/schemas/ids/{number}")
    assert found["schemaType"] == "JSON"
    documents = [json.loads(value[5:]) for value in values]
    for document in documents:
        jsonschema.validate(document, json.loads(found["schema"]))
    return documents


async def test_records_are_checked_by_their_schemas_on_both_sides(kafka, schema_registry, topics, nodes):
    source, sink = topics
    number = schema_registry.register(f"{source}-value", ORDER, schemaType="JSON")
    values = [(b"%d" % n, framed(number, {"id": n})) for n in range(500)]
    strange = [
        framed(number, {"id": "text"}), framed(number, {"id": 501}), framed(2**31 - 1, {"id": 1}), b'{"id": 1}'
    ]  # fmt: skip
    await produce(kafka.bootstrap, source, [*values, *((b"k", value) for value in strange)])
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, schema_registry, topics)}, until_idle=True)
    await node.ended()
    records = await read_topic(kafka.bootstrap, sink, expected=500)
    found = read(schema_registry, [record.value for record in records])
    assert sorted((one["id"], one["double"]) for one in found) == [(n, 2 * n) for n in range(500)]
    dead = await read_topic(kafka.bootstrap, f"{sink}-dlq", expected=len(strange))
    told = {record.value: dict(record.headers)["streamd.message"].decode() for record in dead}
    assert told.keys() == set(strange), "as they came"
    assert told[strange[0]] == f"the record does not fit schema {number}: /id: type"
    assert told[strange[1]] == "the document does not fit the JSON Schema: /double: maximum"


async def test_a_registry_that_comes_late_is_waited_for(kafka, own_registry, topics, nodes):
    source, sink = topics
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, own_registry, topics)})
    await node.until(lambda: node.says("the schema registry"))
    await asyncio.to_thread(own_registry.start)
    number = own_registry.register(f"{source}-value", ORDER, schemaType="JSON")
    await produce(kafka.bootstrap, source, [(b"k", framed(number, {"id": 1}))])
    [record] = await read_topic(kafka.bootstrap, sink, expected=1)
    assert read(own_registry, [record.value]) == [{"id": 1, "double": 2}]
    node.drain()
    await node.ended()


async def test_a_schema_that_the_registry_refuses_stops_the_pipeline_with_the_reasons(
    kafka, schema_registry, topics, nodes
):
    _, sink = topics
    before = {**OUT, "properties": {**OUT["properties"], "id": {"type": "string"}}}
    schema_registry.register(f"{sink}-value", before, schemaType="JSON")
    node = nodes()
    node.start({"p.yaml": pipeline(kafka, schema_registry, topics)})
    await node.until(lambda: node.says("refuses the schema"))
    assert node.says("SUBSCHEMA_TYPE_CHANGED at /properties/id")
    node.drain()
    await node.ended()

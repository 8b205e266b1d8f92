"""Dead letters of Avro topics: shown and chosen by what their schemas say, replayed to the byte."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from base64 import b64decode

import fastavro
import pytest

from services.command import service_file, streamd
from services.kafka import produce, read_topic
from streamd.transport.kafka.admin import open_admin
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "factor", "type": ["null", "double"]},
    ],
}
OUT = {
    "type": "record",
    "name": "Out",
    "fields": [{"name": "id", "type": "long"}, {"name": "total", "type": "double"}],
}
PIPELINE = """\
name: totals
source: {{kafka: {{topic: {source}, format: {{avro: {{registry: true}}}}}}}}
stages:
  - map: {{id: id, total: {total}}}
sink: {{kafka: {{topic: {sink}, format: {{avro: {{registry: true, schema: {schema}}}}}}}}}
on_error: {{dead_letter: {{kafka: {{topic: {dlq}}}}}}}
"""


def framed(number, schema, document):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), document)
    return b"\x00" + number.to_bytes(4, "big") + out.getvalue()


async def test_letters_are_read_by_their_schemas_and_go_through_again_once(
    kafka, schema_registry, make_topic, tmp_path
):
    source, sink, dlq = await make_topic(1), await make_topic(1), await make_topic(1)
    number = schema_registry.register(f"{source}-value", ORDER)
    documents = [{"id": n, "at": 1_767_603_600_000 + n, "factor": None if n % 2 else 2.0} for n in range(10)]
    values = [framed(number, ORDER, document) for document in documents]
    values += [b"\x00\x7f\xff\xff\xff\x02", b"no id"]
    await produce(kafka.bootstrap, source, [(b"k", value) for value in values])
    app = f"app-{uuid.uuid4().hex[:8]}"
    cluster, registry = f"{{bootstrap: '{kafka.bootstrap}'}}", f"{{url: '{schema_registry.url}'}}"
    service = service_file(tmp_path, app, workers="1", kafka=cluster, schema_registry=registry)
    file = tmp_path / "totals.yaml"

    def write(total):
        names = {"source": source, "sink": sink, "dlq": dlq}
        file.write_text(PIPELINE.format(total=total, schema=json.dumps(OUT), **names))

    async def ran(*arguments):
        ended = await asyncio.to_thread(streamd, *arguments, file, "-c", service, folder=tmp_path, deadline=200)
        assert ended.code == 0, ended.all
        return ended.out

    async def totals():
        found = [fastavro.schemaless_reader(io.BytesIO(r.value[5:]), fastavro.parse_schema(OUT), None)
                 for r in await read_topic(kafka.bootstrap, sink)]  # fmt: skip
        return sorted((document["id"], document["total"]) for document in found)

    write("id * factor")
    await ran("run", "--until-idle")
    assert len(await totals()) == 5

    shown = [json.loads(line) for line in (await ran("dlq", "show", "--json")).splitlines()]
    assert [one["value"] for one in shown if one["stage"] == "map"] == documents[1::2]
    kept = {b64decode(one["value_base64"]) if "value_base64" in one else one["value"].encode() for one in shown}
    assert kept == {*values[1:10:2], *values[10:]}, "also as they came, to the byte"
    [five] = (await ran("dlq", "show", "--where", "id == 5 and _stage == 'map'", "--json")).splitlines()
    assert json.loads(five)["value"] == documents[5]
    assert '"factor": null' in await ran("dlq", "show", "--where", "id == 5")
    [counted] = json.loads(await ran("dlq", "ls", "--where", "at >= 1767603600005", "--json"))
    assert counted["total"] == 3

    write("id * (factor or 1)")
    assert "replayed 1" in await ran("dlq", "replay", "--where", "id == 5")
    assert "replayed 4" in await ran("dlq", "replay", "--where", "id > 0")
    assert await totals() == [(n, float(n if n % 2 else 2 * n)) for n in range(10)]
    assert "failed again" in await ran("dlq", "replay"), "there is no schema for two of them"
    assert len(await totals()) == 10
    async with open_admin(KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})) as admin:
        await admin.delete_topics([name for name in await admin.topics() if name.startswith(f"streamd.{app}.")])

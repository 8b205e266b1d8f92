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
from services.registry import SchemaRegistry
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
    await forget(kafka, app)


async def forget(kafka, app):
    """Delete the topics of an app."""
    async with open_admin(KafkaSettings.model_validate({"bootstrap": kafka.bootstrap})) as admin:
        await admin.delete_topics([name for name in await admin.topics() if name.startswith(f"streamd.{app}.")])


async def test_without_the_registry_bytes_are_shown_and_what_needs_it_says_so(
    kafka, make_topic, tmp_path_factory, tmp_path
):
    source, sink, dlq = await make_topic(1), await make_topic(1), await make_topic(1)
    own = SchemaRegistry(tmp_path_factory.mktemp("registry"))  # one that may die
    await asyncio.to_thread(own.start)
    app = f"app-{uuid.uuid4().hex[:8]}"
    cluster, registry = f"{{bootstrap: '{kafka.bootstrap}'}}", f"{{url: '{own.url}', timeout: 2s}}"
    service = service_file(tmp_path, app, workers="1", kafka=cluster, schema_registry=registry)
    file = tmp_path / "totals.yaml"
    names = {"source": source, "sink": sink, "dlq": dlq, "schema": json.dumps(OUT)}
    file.write_text(PIPELINE.format(total="id * factor", **names))

    async def ran(*arguments):
        ended = await asyncio.to_thread(streamd, *arguments, "-c", service, folder=tmp_path, deadline=200)
        assert "Traceback" not in ended.all
        return ended

    try:
        number = own.register(f"{source}-value", ORDER)
        value = framed(number, ORDER, {"id": 7, "at": 1_767_603_600_000, "factor": None})
        await produce(kafka.bootstrap, source, [(b"k", value)])
        assert (await ran("run", file, "--until-idle")).code == 0
        await asyncio.to_thread(own.kill)

        for more in ((), ("--where", "_stage == 'map' and _error == 'TransformError'")):
            shown = await ran("dlq", "show", file, "--json", *more)
            assert shown.code == 0, shown.all
            [letter] = [json.loads(line) for line in shown.out.splitlines()]
            assert b64decode(letter["value_base64"]) == value
            assert "values are shown as they are: the schema registry" in shown.err
            assert "cannot be reached" in shown.err
        for command in ("show", "ls", "replay", "purge"):
            ended = await ran("dlq", command, file, "--where", "id == 7")
            assert ended.code == 1, ended.all
            assert "cannot be reached" in ended.err
            assert "A --where that names no field of their records" in ended.err
        ended = await ran("dlq", "replay", file, "--where", "_stage == 'map'")
        assert ended.code == 1, ended.all
        assert "cannot be reached" in ended.err
        [counted] = json.loads((await ran("dlq", "ls", file, "--json", "--where", "_replays == 0")).out)
        assert (counted["total"], counted["open"]) == (1, 1), "nothing was marked"

        await asyncio.to_thread(own.start)
        file.write_text(PIPELINE.format(total="id * (factor or 1)", **names))
        assert "replayed 1" in (await ran("dlq", "replay", file, "--where", "id == 7")).out
    finally:
        await asyncio.to_thread(own.discard)
        await forget(kafka, app)

"""Protobuf through real pipelines, a real broker and a real registry; who writes and reads beside them is not ours."""

from __future__ import annotations

import asyncio
import urllib.parse
import uuid
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from services.kafka import produce, read_topic
from streamd.codecs.schema_registry import IncompatibleSchemaError, Reference
from streamd.transport.registry.client import SchemaRegistryClient
from streamd.transport.registry.settings import SchemaRegistrySettings

pytestmark = pytest.mark.kafka

LINE = 'syntax = "proto3";\npackage shop;\nmessage Line { string sku = 1; int32 count = 2; }\n'
ORDER = """syntax = "proto3";
package shop;
import "shop/{unique}/line.proto";
message Refund {{ int64 id = 1; message Reason {{ string text = 1; }} }}
message Order {{ int64 id = 1; repeated Line lines = 2; }}
"""
OUT = """syntax = "proto3";
package shop;
import "shop/{unique}/line.proto";
import "google/protobuf/timestamp.proto";
message Head {{ string name = 1; }}
message Out {{ int64 id = 1; int64 double = 2; repeated Line lines = 3; google.protobuf.Timestamp at = 4; }}
"""
PIPELINE = """
name: protobuf-{unique}
kafka: {{bootstrap: "{bootstrap}", options: {{session.timeout.ms: 6000, heartbeat.interval.ms: 300}}}}
schema_registry: {{url: "{registry}", timeout: 2s}}
source: {{kafka: {{topic: {source}, format: {{protobuf: {{registry: true, message: shop.Order}}}}}}}}
stages:
  - set: {{double: id * 2, at: "'2026-01-05T09:00:00Z'"}}
sink:
  kafka:
    topic: {sink}
    format:
      protobuf:
        registry: true
        proto: {folder}/out.proto
        proto_paths: [{folder}]
        message: shop.Out
        on_schema_change: ignore
on_error: {{dead_letter: {{kafka: {{topic: {sink}-dlq}}}}}}
"""


def compiled(folder: Path, name: str) -> descriptor_pool.DescriptorPool:
    """The types of a .proto file and of its imports, by the compiler alone."""
    own = Path(protoc.__file__).parent / "_proto"
    out = folder / "out.desc"
    assert protoc.main(["", f"-I{folder}", f"-I{own}", "--include_imports", f"-o{out}", str(folder / name)]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool


def message(pool: descriptor_pool.DescriptorPool, name: str, **fields: object) -> bytes:
    return GetMessageClass(pool.FindMessageTypeByName(name))(**fields).SerializeToString()


class Shop:
    """The topics, files and schemas of one test."""

    def __init__(self, topics: tuple[str, str], folder: Path) -> None:
        self.source, self.sink = topics
        self.unique = f"t{uuid.uuid4().hex[:8]}"
        self.folder = folder / "protos"
        self.line = f"shop/{self.unique}/line.proto"
        (self.folder / self.line).parent.mkdir(parents=True)
        (self.folder / self.line).write_text(LINE)
        (self.folder / "out.proto").write_text(OUT.format(unique=self.unique))
        (self.folder / "order.proto").write_text(ORDER.format(unique=self.unique))
        self.types = compiled(self.folder, "order.proto")

    def register(self, registry) -> int:
        """The id of the order's schema, as any client would register it."""
        line = urllib.parse.quote(self.line, safe="")
        registry.register(line, LINE, schemaType="PROTOBUF")
        references = [{"name": self.line, "subject": self.line, "version": 1}]
        text = ORDER.format(unique=self.unique)
        return registry.register(f"{self.source}-value", text, schemaType="PROTOBUF", references=references)

    def value(self, number: int, n: int) -> bytes:
        """An order as Confluent's producers write it: it is the second message of its file."""
        lines = [GetMessageClass(self.types.FindMessageTypeByName("shop.Line"))(sku=f"s-{n}", count=n)]
        return b"\x00" + number.to_bytes(4, "big") + b"\x02\x02" + message(self.types, "shop.Order", id=n, lines=lines)

    def pipeline(self, kafka, registry) -> str:
        return PIPELINE.format(
            unique=self.unique, bootstrap=kafka.bootstrap, registry=registry.url, source=self.source, sink=self.sink,
            folder=self.folder,
        )  # fmt: skip

    def read(self, registry, values: list[bytes], folder: Path) -> list[dict[str, object]]:
        """What values are by the schema that the registry has for their one id, without anything of ours."""
        [number] = {int.from_bytes(value[1:5], "big") for value in values}
        found = registry.ask("GET", f"/schemas/ids/{number}")
        assert {value[5:7] for value in values} == {b"\x02\x02"}
        [reference] = found["references"]
        assert reference["name"] == self.line
        (folder / self.line).parent.mkdir(parents=True, exist_ok=True)
        (folder / self.line).write_text(LINE)
        (folder / "found.proto").write_text(found["schema"])
        out = GetMessageClass(compiled(folder, "found.proto").FindMessageTypeByName("shop.Out"))
        return [MessageToDict(out.FromString(value[7:])) for value in values]


@pytest.fixture
def shop(topics, tmp_path):
    return Shop(topics, tmp_path)


def document(n: int) -> dict[str, object]:
    line = {"sku": f"s-{n}", **({"count": n} if n else {})}
    rest = {"id": str(n), "double": str(2 * n)} if n else {}
    return {**rest, "lines": [line], "at": "2026-01-05T09:00:00Z"}


def by_name(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(found, key=lambda one: int(str(one.get("id", 0))))


async def test_messages_of_another_producer_and_for_another_consumer(kafka, schema_registry, shop, nodes, tmp_path):
    number = shop.register(schema_registry)
    values = [(b"%d" % n, shop.value(number, n)) for n in range(300)]
    head = b"\x00" + number.to_bytes(4, "big")
    refund = head + b"\x00" + message(shop.types, "shop.Refund", id=1)
    strange = [refund, head + b"\x02\x08", head + b"\x02\x02\xff", b"\x00\x7f\xff\xff\xff\x00", b"no id"]
    await produce(kafka.bootstrap, shop.source, [*values, *((b"k", value) for value in strange)])
    node = nodes()
    node.start({"p.yaml": shop.pipeline(kafka, schema_registry)}, until_idle=True)
    await node.ended()
    records = await read_topic(kafka.bootstrap, shop.sink, expected=300)
    found = await asyncio.to_thread(shop.read, schema_registry, [record.value for record in records], tmp_path)
    assert by_name(found) == [document(n) for n in range(300)]
    dead = await read_topic(kafka.bootstrap, f"{shop.sink}-dlq", expected=len(strange))
    assert {record.value for record in dead} == set(strange), "as they came"
    messages = {dict(record.headers)["streamd.message"].decode() for record in dead}
    assert any("a message shop.Refund was written, expected shop.Order" in one for one in messages)


async def test_a_registry_that_is_killed_while_an_id_is_unknown_loses_and_doubles_nothing(
    kafka, own_registry, shop, nodes, tmp_path
):
    await asyncio.to_thread(own_registry.start)
    number = shop.register(own_registry)
    node = nodes()
    node.start({"p.yaml": shop.pipeline(kafka, own_registry)})
    first = [(b"%d" % n, shop.value(number, n)) for n in range(100)]
    await produce(kafka.bootstrap, shop.source, first)
    assert len(await read_topic(kafka.bootstrap, shop.sink, expected=100)) == 100
    again = ORDER.format(unique=shop.unique).replace(
        "repeated Line lines = 2;", "repeated Line lines = 2; bool paid = 3;"
    )
    references = [{"name": shop.line, "subject": shop.line, "version": 1}]
    second = own_registry.register(f"{shop.source}-value", again, schemaType="PROTOBUF", references=references)
    assert second != number
    await asyncio.to_thread(own_registry.kill)
    await produce(kafka.bootstrap, shop.source, [(b"%d" % n, shop.value(second, n)) for n in range(100, 200)])
    await node.until(lambda: node.says("the schema registry"))
    await asyncio.to_thread(own_registry.start)
    await read_topic(kafka.bootstrap, shop.sink, expected=200)
    node.drain()
    await node.ended()
    records = await read_topic(kafka.bootstrap, shop.sink, expected=200)
    found = await asyncio.to_thread(shop.read, own_registry, [record.value for record in records], tmp_path)
    assert by_name(found) == [document(n) for n in range(200)]


async def test_a_message_that_the_registry_refuses_stops_the_pipeline_with_the_reasons(
    kafka, schema_registry, shop, nodes
):
    before = 'syntax = "proto3";\npackage shop;\nmessage Out { string id = 1; }\n'
    schema_registry.register(f"{shop.sink}-value", before, schemaType="PROTOBUF")
    node = nodes()
    node.start({"p.yaml": shop.pipeline(kafka, schema_registry)})
    await node.until(lambda: node.says("refuses the schema"))
    assert node.says(f"{shop.sink}-value")
    assert node.says("whose compatibility is BACKWARD")
    node.drain()
    await node.ended()


async def test_what_imports_others_is_found_again_and_compared(schema_registry, shop):
    client = SchemaRegistryClient(SchemaRegistrySettings.model_validate({"url": schema_registry.url}))
    subject = f"{shop.sink}-value"
    try:
        await client.register(shop.line, LINE, "PROTOBUF")
        line = await client.find(shop.line, LINE, "PROTOBUF")
        reference = Reference(shop.line, shop.line, line.version, LINE)
        text = OUT.format(unique=shop.unique)
        assert await client.find(subject, text, "PROTOBUF", [reference]) is None
        registered = await client.register(subject, text, "PROTOBUF", [reference])
        found = await client.find(subject, text, "PROTOBUF", [reference])
        assert (found.id, found.version, found.references) == (registered.id, 1, (reference,))
        assert (await client.version(subject, 1)).schema == text
        assert await client.version(subject, 2) is None
        other = text.replace("int64 double", "string double")
        with pytest.raises(IncompatibleSchemaError):
            await client.register(subject, other, "PROTOBUF", [reference])
    finally:
        await client.close()

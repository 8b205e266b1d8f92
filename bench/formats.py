#!/usr/bin/env python3
"""Formats through a pipeline's chain, beside the plain library: records a second, one process, one core.

`bench/formats.py [RECORDS]`. The chain is the generated function that a task runs: it decodes each record, keeps those
with an amount, adds a field, and encodes them. `in` decodes only, `out` encodes only. Beside it the plain libraries do
the same records, without a check and without the rest of the chain: fastavro's schemaless_reader and schemaless_writer,
msgspec.msgpack, orjson, and json_format of Google's protobuf.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fastavro
import msgspec
import orjson
from google.protobuf import json_format

from streamd.codecs.protobuf.schema import message_class
from streamd.codecs.protobuf.settings import ProtobufSettings
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ExtractError
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import codecs_of, compile_chains
from streamd.testing.schema_registry import MemorySchemaRegistry

ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [{"name": "sku", "type": "string"}, {"name": "count", "type": "int"}],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "user", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "currency", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "paid", "type": "boolean"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "items", "type": {"type": "array", "items": ITEM}},
    ],
}
PIPELINE = """
name: bench
schema_registry: {{url: "http://127.0.0.1:1"}}
source: {{log: {{topic: in, format: {read}}}}}
sink: {{log: {{topic: out, format: {write}}}}}
"""
PROTO = """syntax = "proto3";
message Item { string sku = 1; int32 count = 2; }
message Order {
  int64 id = 1; string user = 2; double amount = 3; string currency = 4; int64 ts = 5; bool paid = 6;
  optional string note = 7; repeated Item items = 8;
}
"""
BATCH = 2000
REGISTRY = MemorySchemaRegistry()
JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"}, "user": {"type": "string"}, "amount": {"type": "number"},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku", "count"]}},
    },
    "required": ["id", "user"],
}  # fmt: skip

Line = tuple[str, float, float | None]


def orders(count: int) -> list[dict[str, object]]:
    items = [{"sku": "A-1", "count": 2}, {"sku": "B-20", "count": 1}]
    return [
        {"id": n, "user": f"user-{n % 1000}", "amount": n * 1.25, "currency": "EUR", "ts": 1_700_000_000_000 + n,
         "paid": n % 3 > 0, "note": None if n % 2 else "by hand", "items": items}
        for n in range(count)
    ]  # fmt: skip


def chain(read: str, write: str, folder: Path, values: Sequence[bytes] = ()) -> Callable[..., object]:
    """The generated function of a pipeline that only decodes and encodes. `values`: whose schemas are to be known."""
    file = folder / "bench.yaml"
    text = PIPELINE.format(read=read, write=write)
    config = load_pipeline_text(text, file, Registry.default(), {}, ServiceConfig.model_validate({}))
    [part] = build_plan(config).parts
    codecs = codecs_of((*part.sources, *part.sinks), folder, REGISTRY)

    async def known() -> None:
        for codec in codecs.values():
            await codec.prepare()
        for value in values:
            with contextlib.suppress(ExtractError):
                codecs[config.sources[0].id].decode(value)
            await codecs[config.sources[0].id].learn()

    asyncio.run(known())
    return compile_chains(part, {}, codecs)[0, config.sources[0].id].function


def through(function: Callable[..., object], values: list[bytes]) -> Callable[[], None]:
    records = [SourceRecord(None, value, 0, n) for n, value in enumerate(values)]
    batches = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]

    def run() -> None:
        for batch in batches:
            failed: list[object] = []
            rows: list[object] = []
            function(batch, 0, failed, rows)
            if failed or len(rows) != len(batch):
                raise SystemExit(f"records failed: {failed[:1]}")

    return run


def best(run: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Records a second, of the best round."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return count / min(times)


def written(schema: object, document: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, document)  # type: ignore[arg-type]
    return out.getvalue()


def main(count: int) -> None:
    documents = orders(count)
    schema = fastavro.parse_schema(ORDER)
    avro = [written(schema, document) for document in documents]
    lines = [json.dumps(document, separators=(",", ":")).encode() for document in documents]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "order.avsc").write_text(json.dumps(ORDER))
        form = "{avro: {schema_file: order.avsc}}"
        iso = "{avro: {schema_file: order.avsc, timestamps: iso}}"
        reads = best(lambda: [fastavro.schemaless_reader(io.BytesIO(value), schema, None) for value in avro], count)
        writes = best(lambda: [written(schema, document) for document in documents], count)
        both = 1 / (1 / reads + 1 / writes)
        there_and_back = best(through(chain(form, iso, folder), avro), count)
        outward = best(through(chain("json", form, folder), lines), count)
        inward = best(through(chain(form, "json", folder), avro), count)
        other = plain(documents, lines, folder) + msgpack(documents, lines, folder) + protobuf(documents, lines, folder)
    print(f"{'':40}{'records/s':>12}  of the library")
    for label, rate, beside in (
        ("fastavro schemaless_reader", reads, None),
        ("fastavro schemaless_writer", writes, None),
        ("fastavro, read and write", both, None),
        ("chain: avro in, avro out", there_and_back, both),
        ("chain: avro in, json out", inward, reads),
        ("chain: json in, avro out", outward, writes),
        *other,
    ):
        share = "" if beside is None else f"{rate / beside:>10.0%}"
        print(f"{label:40}{rate:>12,.0f}  {share}")


def plain(documents: list[dict[str, object]], lines: list[bytes], folder: Path) -> list[Line]:
    """JSON bare, and behind the id of its schema."""
    count, schema = len(documents), json.dumps(JSON_SCHEMA)
    found = asyncio.run(REGISTRY.register("in-value", schema, "JSON"))
    framed = [b"\x00" + found.id.to_bytes(4) + line for line in lines]
    reads, writes = (
        best(lambda: [*map(orjson.loads, lines)], count),
        best(lambda: [*map(orjson.dumps, documents)], count),
    )
    form, checked = "{json: {registry: true}}", "{json: {registry: true, validate: true}}"
    out = f"{{json: {{registry: true, schema: {schema}}}}}"
    ways = (("json", "json", lines), (form, "json", framed), (checked, "json", framed), ("json", out, lines))
    rates = [best(through(chain(a, b, folder, values[:1]), values), count) for a, b, values in ways]
    both = 1 / (1 / reads + 1 / writes)
    return [
        ("orjson loads", reads, None),
        ("orjson dumps", writes, None),
        ("chain: json in, json out", rates[0], both),
        ("chain: json of a registry in, json out", rates[1], both),
        ("chain: the same, with validate", rates[2], both),
        ("chain: json in, json of a registry out", rates[3], both),
    ]


def msgpack(documents: list[dict[str, object]], lines: list[bytes], folder: Path) -> list[Line]:
    decode, encode = msgspec.msgpack.Decoder().decode, msgspec.msgpack.Encoder().encode
    packed = [encode(document) for document in documents]
    count = len(documents)
    reads = best(lambda: [decode(value) for value in packed], count)
    writes = best(lambda: [encode(document) for document in documents], count)
    return [
        ("msgspec.msgpack decode", reads, None),
        ("msgspec.msgpack encode", writes, None),
        ("chain: msgpack in, json out", best(through(chain("msgpack", "json", folder), packed), count), reads),
        ("chain: json in, msgpack out", best(through(chain("json", "msgpack", folder), lines), count), writes),
    ]


def protobuf(documents: list[dict[str, object]], lines: list[bytes], folder: Path) -> list[Line]:
    (folder / "order.proto").write_text(PROTO)
    made = message_class(ProtobufSettings(proto="order.proto", message="Order"), folder)
    messages = [json_format.ParseDict(document, made()).SerializeToString() for document in documents]
    form, count = "{protobuf: {proto: order.proto, message: Order}}", len(documents)

    def all_read() -> None:
        for value in messages:
            json_format.MessageToDict(made.FromString(value), preserving_proto_field_name=True)

    def all_written() -> None:
        for document in documents:
            json_format.ParseDict(document, made()).SerializeToString()

    reads, writes = best(all_read, count, 2), best(all_written, count, 2)
    return [
        ("protobuf FromString, MessageToDict", reads, None),
        ("protobuf ParseDict, SerializeToString", writes, None),
        ("chain: protobuf in, json out", best(through(chain(form, "json", folder), messages), count), reads),
        ("chain: json in, protobuf out", best(through(chain("json", form, folder), lines), count), writes),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)

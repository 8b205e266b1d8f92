"""`streamd verify` of pipelines whose formats take a schema registry: it is read, and nothing of it is changed."""

from __future__ import annotations

import asyncio
import json
import uuid
from urllib.error import HTTPError

import pytest

from services.command import streamd
from services.process import REPOSITORY

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "country", "type": {"type": "enum", "name": "Country", "symbols": ["DE", "FR"]}},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}]},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "price", "type": "double"}]}}},
    ],
}  # fmt: skip
OUT = {"type": "record", "name": "Out", "fields": [{"name": "id", "type": "long"}]}
PIPELINE = """\
name: p-{unique}
schema_registry: {{url: "{registry}"}}
{kafka}
source: {{{end}: {{topic: {source}, format: {{avro: {{registry: true, decimals: float}}}}}}}}
stages:
  - set: {{total: 'sum(line.price for line in lines)'}}
  - filter: total < 400
  - map: {{id: id, total: total, country: country}}
sink: {{{end}: {{topic: {sink}, format: {{avro: {{registry: true, on_schema_change: evolve, schema: {schema}}}}}}}}}
on_error: skip
"""
FEW = ("--kills", "3", "--records", "600", "--seconds", "60")


def known(registry):
    """{subject: its versions}; none of one whose versions another test has deleted."""
    found = {}
    for subject in registry.ask("GET", "/subjects"):
        try:
            found[subject] = registry.ask("GET", f"/subjects/{subject}/versions")
        except HTTPError as error:
            if error.code != 404:
                raise
            found[subject] = []
    return found


async def verified(tmp_path, text, *arguments):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {"TMPDIR": str(scratch)}
    command = ("verify", str(file), *FEW, *arguments, "--report", "r.json")
    done = await asyncio.to_thread(streamd, *command, env=env, folder=tmp_path, deadline=400)
    assert list(scratch.iterdir()) == [], done.all
    assert done.code == 0, done.all
    return json.loads((tmp_path / "r.json").read_text())


@pytest.mark.parametrize("end", ["log", "kafka"])
async def test_records_are_made_by_the_subjects_schema_and_nothing_is_registered(
    kafka, schema_registry, topics, tmp_path, end
):
    source, sink = topics
    schema_registry.register(f"{source}-value", ORDER)
    before = known(schema_registry)
    text = PIPELINE.format(
        unique=uuid.uuid4().hex[:8], registry=schema_registry.url, end=end, source=source, sink=sink,
        schema=json.dumps(OUT), kafka=f'kafka: {{bootstrap: "{kafka.bootstrap}"}}' if end == "kafka" else "",
    )  # fmt: skip
    report = await verified(tmp_path, text)
    [output] = [one for one in report["outputs"] if one["output"] == "sink"]
    assert report["ok"]
    assert 0 < output["records"] < 600, "some are filtered, some are skipped"
    assert known(schema_registry) == before


async def test_avro_without_a_registry(tmp_path):
    schema = REPOSITORY / "config" / "pipelines" / "order.avsc"
    text = (
        f"name: p\nsource: {{log: {{topic: in, format: {{avro: {{schema_file: {schema}, decimals: float}}}}}}}}\n"
        "stages: [{filter: amount > 100}]\nsink: {log: {topic: out}}\n"
    )
    report = await verified(tmp_path, text)
    assert report["outputs"][0]["records"] > 0

"""Records that keyed stages give on unchanged: as the bytes that they were read as where there are some, and
always with the same result as without the stage.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.runtime.assembly import Assembly

# As nobody here would write it, so that it shows where it was written anew.
LINES = [
    b'{"t": %d,  "id" : "a%d", "n": {"x": [1, 2.50, null]}, "price": 1e2, "umlaut": "\\u00e4 \xc3\xa4"}'
    % (number, number)
    for number in range(40)
]
ABOVE = {
    "nothing": "",
    "filter": "{filter: t != 7}",
    "set": "{set: {new: t * 2}}",
    "set a field that is there": "{set: {price: price + 1}}",
    "transform": "{transform: [{rename: {n: m}}, {set: {n: 1}}]}",
    "choose": "{transform: [{when: t > 20, then: [{drop: umlaut}]}]}",
}
BELOW = {
    "nothing": "",
    "filter": "{filter: price > 100 or t > 3}",
    "set": "{set: {more: t + 1}}",
    "set a field that is there": "{set: {t: t + 1}}",
    "map": "{map: {id: id, p: price}}",
    "drop": "{drop: umlaut}",
    "transform": "{transform: [{select: {xs: '$..x'}}]}",
    "probe": "{set: {there: 'has(umlaut)', other: 'get(nothing, 5)'}}",
    "key_by": "{key_by: id}",
}


def pipeline(folder: Path, above: str, below: str, source: str = "") -> str:
    def way(name: str, stage: str) -> str:
        ids, lines = [], []
        for number, text in enumerate(text for text in (stage, below) if text):
            ids.append(f"{name}{number}")
            inputs = ids[-2] if len(ids) > 1 else ("above" if above else "in")
            lines.append(f"- {{id: {ids[-1]}, from: {inputs}, {text[1:]}")
        last = ids[-1] if ids else ("above" if above else "in")
        return "\n".join(lines) + f"\n#{last}"

    ways = {name: way(name, stage) for name, stage in STAGES.items()}
    stages = ([f"- {{id: above, {above[1:]}"] if above else []) + [text.rpartition("#")[0] for text in ways.values()]
    sinks = [
        f"- {{id: to_{name}, from: {text.rpartition('#')[2]}, log: {{topic: {name}}}}}" for name, text in ways.items()
    ]
    source = source or f"{{id: in, file: {{path: {folder}/in.ndjson, event_time: {{field: t, out_of_order: 1h}}}}}}"
    return "\n".join(["name: p", "sources:", f"- {source}", "stages:", *stages, "sinks:", *sinks]) + "\n"


RULES = "[{unique: id, within: 1h, action: drop}, {field: t, range: [0, 100], action: tag}]"
UNIQUE = f"{{validate: {{rules: {RULES}, tag: {{header: broken}}}}}}"
STAGES = {"plain": "", "dedupe": "{dedupe: {by: id, within: 1h}}", "sort": "{sort: {}}", "unique": UNIQUE}


@pytest.mark.parametrize("below", BELOW)
@pytest.mark.parametrize("above", ABOVE)
async def test_it_comes_out_as_without_the_stage(app, tmp_path, above, below):
    (tmp_path / "in.ndjson").write_bytes(b"\n".join(LINES) + b"\n")
    await app.run(pipeline(tmp_path, ABOVE[above], BELOW[below]))
    found = {
        name: [(record.key, orjson.loads(record.value), record.timestamp) for record in await app.records(name)]
        for name in STAGES
    }
    assert len(found["plain"]) >= 35
    assert found["dedupe"] == found["plain"]
    assert found["sort"] == found["plain"]
    assert found["unique"] == found["plain"]


@pytest.mark.parametrize("stage", ["dedupe", "sort", "unique"])
async def test_a_record_that_nobody_changes_keeps_its_bytes(app, tmp_path, stage):
    (tmp_path / "in.ndjson").write_bytes(b"\n".join(LINES) + b"\n")
    await app.run(pipeline(tmp_path, "", "{filter: price > 0}"))
    assert [record.value for record in await app.records(stage)] == LINES


@pytest.mark.parametrize(
    ("above", "source", "passed"),
    [("", "json", True), ("{filter: t > 0}", "json", True), ("{key_by: id}", "json", True),
     ("{set: {x: 1}}", "json", False), ("", "msgpack", False)],
)  # fmt: skip
async def test_dedupe_gives_bytes_where_it_gets_them(tmp_path, above, source, passed):
    text = pipeline(
        tmp_path, above, "{filter: price > 0}", f"{{id: in, log: {{topic: in, format: {source}, partitioned_by: id}}}}"
    )
    config = load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
    assembly = Assembly(build_plan(config), PipelineContext("app", "p", tmp_path, tmp_path, config.kafka))
    await assembly.open()
    chain = next(chain for (_, entry), chain in assembly.chains.items() if entry == "dedupe0")
    await assembly.close()
    assert ("v = r.raw" in chain.source) is passed


async def test_what_json_cannot_write_passes_dedupe_as_it_is(app):
    """A float of MessagePack that JSON has no word for comes to a sink of MessagePack as it was read."""
    values = [{"t": 1, "id": "a", "x": float("inf")}, {"t": 2, "id": "b", "x": 2**64 - 1}, {"t": 3, "id": "a", "x": 0}]
    await app.seed([msgspec.msgpack.encode(value) for value in values])
    await app.run(
        "name: p\nsource: {log: {topic: in, format: msgpack, event_time: {field: t}}}\n"
        "stages:\n- dedupe: {by: id, within: 1h}\nsink: {log: {topic: out, format: msgpack}}\n"
    )
    assert [msgspec.msgpack.decode(record.value) for record in await app.records("out")] == values[:2]


async def test_tombstones_wait_in_their_place(app):
    """One takes its time from the topic, where the second record of these has that of 1,700,000,000,001."""
    first, last = b'{"t": 1700000000005}', b'{"t": 1700000900000}'
    await app.seed([first, None, last])
    await app.run(
        "name: p\nsource: {log: {topic: in, tombstones: forward, event_time: {field: t, out_of_order: 20ms, "
        "max_future: null}}}\nstages:\n- sort: {}\nsink: {log: {topic: out}}\n"
    )
    assert [record.value for record in await app.records("out")] == [None, first]


@pytest.mark.parametrize("tag", ["{header: broken}", "broken"])
async def test_tombstones_pass_unique_among_records(app, tag):
    """With a tag in the document the stage gives documents, and with one in a header the records' bytes."""
    record = b'{"t": 1700000000005,  "id": 1}'
    await app.seed([None, record, None, record])
    rules = "[{unique: id, within: 1h, action: drop}, {field: t, range: [0, null], action: tag}]"
    await app.run(
        "name: p\nsource: {log: {topic: in, tombstones: forward, event_time: {field: t}}}\n"
        f"stages:\n- validate: {{rules: {rules}, tag: {tag}}}\n- filter: id > 0\nsink: {{log: {{topic: out}}}}\n"
    )
    values = [record.value for record in await app.records("out")]
    assert [None if value is None else orjson.loads(value)["id"] for value in values] == [None, 1, None]
    assert (record in values) is (tag != "broken")

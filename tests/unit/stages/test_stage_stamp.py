"""The stage `stamp`."""

from __future__ import annotations

import time


async def test_a_field_with_all_facts(through):
    before = time.time_ns() // 1_000_000
    [_, out] = await through("stages:\n- {id: here, stamp: meta}\n", {"n": 1}, {"n": 2})
    assert before <= out["meta"].pop("time") <= time.time_ns() // 1_000_000
    assert out == {
        "n": 2,
        "meta": {"pipeline": "p", "stage": "here", "topic": "in", "partition": 0, "offset": 1, "id": "in-0-1"},
    }


async def test_headers_beside_those_that_were_there(through, app):
    await through("stages:\n- stamp: {headers: true, include: [pipeline, id, offset]}\n", {"n": 1})
    [record] = await app.records("out")
    assert dict(record.headers) == {
        "h": b"1",
        "streamd.pipeline": b"p",
        "streamd.id": b"in-0-0",
        "streamd.offset": b"0",
    }
    assert record.value == b'{"n":1}'


async def test_field_and_headers(through, app):
    out = await through("stages:\n- stamp: {headers: true, as: o.meta, include: [offset]}\n", {"n": 1, "o": {"x": 1}})
    assert out == [{"n": 1, "o": {"x": 1, "meta": {"offset": 0}}}]
    assert dict((await app.records("out"))[0].headers)["streamd.offset"] == b"0"


async def test_the_id_is_that_of_the_source_also_behind_flatten_and_own_code(through, app):
    (app.folder / "as_it_is.py").write_text("def same(batch):\n    return batch\n")
    out = await through(
        'stages:\n- flatten: i\n- python: "as_it_is:same"\n- stamp: {as: m, include: [id, partition, topic]}\n',
        {"i": [1, 2]},
    )
    assert [v["m"] for v in out] == [{"id": "in-0-0", "partition": 0, "topic": "in"}] * 2


async def test_the_id_is_the_same_when_a_record_is_processed_again(through, app):
    first = await through("stages:\n- stamp: {as: m, include: [id]}\n", {"n": 1})
    stages = "stages:\n- stamp: {as: m, include: [id]}\n"
    await app.run(f"name: again\nsource: {{log: {{topic: in}}}}\n{stages}sink: {{log: {{topic: out2}}}}\n")
    assert await app.values("out2") == first


def test_facts_are_known_names(refused):
    [problem] = refused("stages:\n- stamp: {as: m, include: [ofset]}\n")
    assert "`offset`" in problem.help
    [problem] = refused("stages:\n- stamp: {as: m, include: []}\n")
    assert "at least 1" in problem.message

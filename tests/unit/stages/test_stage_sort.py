"""The stage `sort`: the order of times, what waits over a restart, what is late."""

from __future__ import annotations

import random

PIPELINE = """
name: p
source: {log: {topic: in, event_time: {field: t, out_of_order: 20ms, max_future: null}}}
stages:
- sort: {}
sink: {log: {topic: out, key: k}}
"""


def event(t: int, n: int = 0) -> dict[str, object]:
    return {"t": t, "n": n, "k": f"k{n % 3}"}


async def test_records_come_in_the_order_of_their_times(app):
    chance = random.Random(3)
    events = [event(max(0, t // 3 - chance.randrange(20)), t) for t in range(300)]
    await app.seed([*events, event(1000)])
    await app.run(PIPELINE)
    out = await app.values()
    assert out == sorted(events, key=lambda one: one["t"])
    assert [record.timestamp for record in await app.records("out")] == [one["t"] for one in out]


async def test_what_waits_is_there_after_a_restart(app):
    await app.seed([event(30, 1), event(25, 2), event(30, 3)])
    await app.run(PIPELINE)
    assert await app.values() == []
    await app.seed([event(30, 4), event(27, 5), event(51, 6)])
    await app.run(PIPELINE)
    assert [one["n"] for one in await app.values()] == [2, 5, 1, 3, 4]


async def test_what_comes_after_its_turn_is_late(app):
    await app.seed([event(50), event(29), event(30, 1), event(80, 2)])
    await app.run(PIPELINE)
    assert [one["n"] for one in await app.values()] == [1, 0]
    assert app.total("streamd_late_records_total", stage="sort") == 1


async def test_a_bounded_input_gives_everything(app, tmp_path):
    (tmp_path / "in.ndjson").write_text('{"t": 9, "n": 1}\n{"t": 8, "n": 2}\n{"t": 9, "n": 3}\n')
    source = f"file: {{path: {tmp_path}/in.ndjson, event_time: {{field: t, out_of_order: 1h}}}}"
    text = PIPELINE.replace("log: {topic: in, event_time: {field: t, out_of_order: 20ms, max_future: null}}", source)
    await app.seed([])
    await app.run(text.replace(", key: k", ""))
    assert [one["n"] for one in await app.values()] == [2, 1, 3]

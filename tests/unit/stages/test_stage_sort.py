"""The stage `sort`: the order of times, what waits over a restart, what is late."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streamd.stages.sort import Sort, SortConfig
from streamd.state.store import TableStore

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


@given(
    batches=st.lists(st.lists(st.integers(-3000, 9000), max_size=12), min_size=1, max_size=8),
    steps=st.lists(st.integers(0, 2500), min_size=8, max_size=8), crashes=st.sets(st.integers(0, 7)),
)  # fmt: skip
def test_whatever_comes_and_however_the_watermark_moves(batches, steps, crashes):
    """As a list that is sorted at each step would give it; what a checkpoint had is what waits after a crash."""
    stage, store, kept = sorting({})
    expected, waiting, gave, watermark, number = [], [], [], -4000, 0
    for step, batch in enumerate(batches):
        rows, came = [], []
        for time in batch:
            rows.append((None, time, watermark, b"k", (), b'{"n": %d}' % number))
            came.append((time, number))
            number += 1
        failed, out = [], []
        stage.process(rows, out, failed)
        assert len(failed) == sum(time < watermark for time, _ in came)
        waiting += [one for one in came if one[0] >= watermark]
        watermark += steps[step]
        assert stage.advance(watermark, out) == watermark
        gave += [(one.timestamp, one.value["n"]) for one in out]
        expected += sorted(one for one in waiting if one[0] < watermark)
        waiting = [one for one in waiting if one[0] >= watermark]
        assert len(store) == len(waiting)
        assert len(stage._pieces) == len({time // 1000 for time, _ in waiting})
        kept |= dict(store.changes())
        kept = {name: value for name, value in kept.items() if value is not None}
        store.committed()
        assert len(kept) == len(waiting)
        if step in crashes:
            stage, store, _ = sorting(kept)
    assert gave == expected


def sorting(kept):
    """A stage over the store that a changelog gives: (stage, store, that changelog)."""
    stage, store = Sort(SortConfig(), None), TableStore()
    asyncio.run(stage.open(SimpleNamespace(store=store)))
    store.load(dict(kept))
    store.loaded()
    stage.restored()
    return stage, store, kept

"""The stage `dedupe`: what is let through, against brute force, over restarts and batches."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.record import END
from streamd.stages.dedupe import Dedupe, DedupeConfig
from streamd.state.store import TableStore

PIPELINE = """
name: p
source: {log: {topic: in, event_time: {field: t, out_of_order: 5ms, max_future: null}}}
stages:
- dedupe: {by: k, within: 10ms}
sink: {log: {topic: out}}
"""


def event(t: int, k: str = "a") -> dict[str, object]:
    return {"k": k, "t": t}


async def test_the_first_of_a_key_goes_on_as_it_is(app):
    await app.seed([event(1), event(3), event(2, "b"), event(11), event(12), event(12), event(22), event(23)])
    await app.run(PIPELINE)
    assert await app.values() == [event(1), event(2, "b"), event(12), event(23)]
    assert [record.timestamp for record in await app.records("out")] == [1, 2, 12, 23]
    assert app.total("streamd_stage_filtered_records_total", stage="dedupe") == 4


async def test_what_was_seen_is_known_after_a_restart(app):
    await app.seed([event(1), event(20)])
    await app.run(PIPELINE)
    await app.seed([event(21), event(31), event(2)])
    await app.run(PIPELINE)
    assert await app.values() == [event(1), event(20), event(31)]
    assert app.total("streamd_late_records_total", stage="dedupe") == 1


@pytest.mark.parametrize("by", ["{sets: [[a], []]}", "[]"])
def test_a_key_is_needed(refused, by):
    assert refused(f"stages:\n- dedupe: {{by: {by}, within: 1h}}\n")


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from("ab")), max_size=60), st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_against_brute_force(records: list[tuple[int, str]], within: int) -> None:
    stage = Dedupe(DedupeConfig.model_validate({"by": "k", "within": within / 1000}), None)  # type: ignore[arg-type]
    store = TableStore()
    stage._seen = store.times("seen")
    given_out: list[tuple[int, str]] = []
    expected: list[tuple[int, str]] = []
    high = 0
    for number, (time, key) in enumerate(records):
        high = max(high, time)
        watermark = high - 30
        out: list[object] = []
        failed: list[object] = []
        stage.process([(number, time, watermark, key, None, (), number)], out, failed)
        stage.advance(watermark, out)
        given_out += [(time, key) for _ in out]
        if time < watermark:
            assert failed
        elif not any(other == key and abs(at - time) <= within for at, other in expected):
            expected.append((time, key))
    assert given_out == expected
    stage.advance(END, [])
    assert len(store) == 0

"""The stage `window`: what its settings mean, in pipelines over the embedded log."""

from __future__ import annotations

from typing import Any

import pytest

from streamd.errors import FatalError

HEAD = """
name: p
source: {log: {topic: in, event_time: {field: t, max_future: null}}}
sink: {log: {topic: out}}
"""
TUMBLING = "by: k, tumbling: 10ms, aggregate: {n: count(), total: sum(x)}"
# Ends every window before it.
LAST = {"k": "last", "t": 1000, "x": 0}


def pipeline(settings: str, more: str = "") -> str:
    return f"{HEAD}stages: [{{window: {{{settings}}}}}]\n{more}"


def event(k: Any, t: int, x: Any = 1, **more: Any) -> dict[str, Any]:
    return {"k": k, "t": t, "x": x, **more}


async def test_results_have_key_bounds_and_aggregates(app):
    await app.seed([event("a", 1, 2), event("b", 2), event("a", 9), event("a", 10), LAST])
    await app.run(pipeline(TUMBLING))
    records = await app.records("out")
    assert await app.values() == [
        {"k": "a", "window_start": 0, "window_end": 10, "n": 2, "total": 3},
        {"k": "b", "window_start": 0, "window_end": 10, "n": 1, "total": 1},
        {"k": "a", "window_start": 10, "window_end": 20, "n": 1, "total": 1},
    ]
    assert [(record.key, record.timestamp) for record in records] == [(b"a", 9), (b"b", 9), (b"a", 19)]


async def test_windows_outlive_the_run(app):
    await app.seed([event("a", 1), event("b", 2)])
    await app.run(pipeline(TUMBLING))
    assert await app.values() == []
    await app.seed([event("a", 3), LAST])
    await app.run(pipeline(TUMBLING))
    assert [(found["k"], found["n"]) for found in await app.values()] == [("a", 2), ("b", 1)]


async def test_names_of_the_bounds_can_be_others_or_none(through):
    stages = pipeline(f"{TUMBLING}, start_as: since, end_as: null")
    assert await through(stages, event("a", 1), LAST) == [{"k": "a", "since": 0, "n": 1, "total": 1}]


async def test_keys_of_several_fields_and_of_expressions(app):
    await app.seed([event("a", 1, at="x"), event("a", 2, at="y"), event("a", 3, at="x"), LAST | {"at": ""}])
    await app.run(pipeline("by: {key: upper(k), at: at}, tumbling: 10ms, aggregate: {n: count()}"))
    assert [(found["key"], found["at"], found["n"]) for found in await app.values()] == [("A", "x", 2), ("A", "y", 1)]
    assert [record.key for record in await app.records("out")] == [b'["A","x"]', b'["A","y"]']


async def test_keys_that_python_takes_for_equal_are_not_mixed_up(through):
    events = [event(k, 1) for k in (1, True, "1", 1.0, 1.5, [1], [True])]
    found = await through(pipeline(TUMBLING), *events, LAST)
    assert [(one["k"], one["n"]) for one in found] == [(1, 2), (True, 1), ("1", 1), (1.5, 1), ([1], 1), ([True], 1)]


async def test_composite_keys_take_whole_numbers_for_equal_too(through):
    stages = pipeline("by: [k, x], tumbling: 10ms, aggregate: {n: count()}")
    found = await through(stages, event("a", 1, 1), event("a", 1, 1.0), event("a", 1, True), LAST)
    assert [(one["x"], one["n"]) for one in found] == [(1, 2), (True, 1)]


async def test_grouping_sets_count_a_record_once_for_each(app):
    await app.seed([event("a", 1, 1), event("a", 2, 2), event("b", 3, 1), LAST])
    await app.run(pipeline("by: {sets: [[k], [k, x], []]}, tumbling: 10ms, aggregate: {n: count()}"))
    found = {(one["k"], one["x"]): one["n"] for one in await app.values() if one["window_end"] == 10}
    assert found == {("a", None): 2, ("b", None): 1, ("a", 1): 1, ("a", 2): 1, ("b", 1): 1, (None, None): 3}
    assert (await app.records("out"))[0].key == b'["a",null]'


async def test_without_a_key_all_records_share_windows(app):
    await app.seed([event("a", 1), event("b", 2), LAST])
    await app.run(pipeline("tumbling: 10ms, aggregate: {n: count()}"))
    assert await app.values() == [{"window_start": 0, "window_end": 10, "n": 2}]
    assert [record.key for record in await app.records("out")] == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"t": 1, "x": 1},
        event(None, 1),
        event("k" * 70_000, 1),
        event("é" * 40_000, 1),
        b'{"k": 1180591620717411303424, "t": 1, "x": 1}',
        event("a", 1, "much"),
        {"k": "a", "x": 1},
        event("a", -1),
        event({"deep": None, "x": ["y" * 70_000]}, 1),
    ],
    ids=["missing", "null", "huge", "huge in bytes", "integer", "argument", "no time", "negative", "object"],
)
async def test_a_record_that_fails_leaves_windows_as_they_were(app, wrong):
    await app.seed([event("a", 1), wrong, event("a", 2), LAST], topic="in")
    await app.run(pipeline(TUMBLING, "on_error: skip\n"))
    assert await app.values() == [{"k": "a", "window_start": 0, "window_end": 10, "n": 2, "total": 2}]
    assert app.total("streamd_skipped_records_total") == 1


async def test_late_records_are_counted_and_can_be_kept(app):
    await app.seed([event("a", 1), event("a", 30), event("a", 9), event("b", 20), LAST])
    await app.run(pipeline(f"{TUMBLING}, grace: 11ms, late: dead_letter", "on_error: {dead_letter: {log: {topic: x}}}"))
    assert [(one["window_end"], one["k"], one["n"]) for one in await app.values()] == [
        (10, "a", 1),
        (30, "b", 1),
        (40, "a", 1),
    ]
    assert await app.values("x") == [event("a", 9)]
    assert app.total("streamd_late_records_total", stage="window") == 1
    assert app.total("streamd_stage_filtered_records_total") == 0, "what went into windows was not left out"


async def test_updates_are_marked_until_the_last(through):
    found = await through(pipeline(f"{TUMBLING}, emit: on_update, final_as: done"), event("a", 1), event("a", 2), LAST)
    assert [(one["n"], one["done"]) for one in found] == [(1, False), (2, False), (1, False), (2, True)]


async def test_the_gap_itself_still_belongs_to_a_session(through):
    events = [event("a", 1), event("a", 11), event("a", 22), LAST]
    found = await through(pipeline("by: k, session: {gap: 10ms}, aggregate: {n: count()}"), *events)
    assert found == [
        {"k": "a", "window_start": 1, "window_end": 21, "n": 2},
        {"k": "a", "window_start": 22, "window_end": 32, "n": 1},
    ]


async def test_windows_of_windows(through):
    """What ends at one time is in one window of the next stage, and there before that closes."""
    stages = f"""{HEAD}
stages:
- {{id: each, window: {{by: k, hopping: {{size: 20ms, every: 10ms}}, aggregate: {{n: count()}}}}}}
- {{id: most, window: {{tumbling: 10ms, start_as: null, aggregate: {{best: "argmax(k, n)", n: max(n)}}}}}}
"""
    events = [event("a", 1), event("b", 2), event("b", 3), event("a", 11), event("a", 12), LAST]
    assert (await through(stages, *events))[:3] == [
        {"window_end": 10, "best": "b", "n": 2},
        {"window_end": 20, "best": "a", "n": 3},
        {"window_end": 30, "best": "a", "n": 2},
    ]


async def test_an_argument_is_checked_for_each_aggregate_alone(through):
    """Each may bring its argument into a form of its own; the record and the others do not see it."""
    aggregates = "aggregate: {kinds: count_distinct(x), last: last(x), most: max(str(x)), all: 'collect(x, 9)'}"
    found = await through(pipeline(f"tumbling: 10ms, {aggregates}"), event("a", 1, 2.5), event("a", 2, 2.5), LAST)
    assert [{name: one[name] for name in ("kinds", "last", "most", "all")} for one in found] == [
        {"kinds": 1, "last": 2.5, "most": "2.5", "all": [2.5, 2.5]}
    ]


async def test_the_order_of_settings_does_not_matter_and_other_settings_are_refused(app):
    await app.seed([event("a", 1)])
    await app.run(pipeline("by: k, tumbling: 10ms, aggregate: {n: count(), total: sum(x)}"))
    await app.seed([event("a", 2, 5), LAST])
    await app.run(pipeline("aggregate: {total: sum(x), n: count()}, tumbling: 10ms, by: k, grace: 1ms"))
    assert await app.values() == [{"k": "a", "window_start": 0, "window_end": 10, "total": 6, "n": 2}]
    with pytest.raises(FatalError, match=r"other settings: tumbling has changed"):
        await app.run(pipeline("aggregate: {total: sum(x), n: count()}, tumbling: 20ms, by: k"))


async def test_sketches_and_sets_outlive_a_run(app):
    settings = "hopping: {size: 20ms, every: 10ms}, aggregate: {kinds: count_distinct(x), half: median(x)}"
    await app.seed([event("a", 1, 1), event("a", 2, 3)])
    await app.run(pipeline(settings))
    await app.seed([event("a", 3, 3), LAST])
    await app.run(pipeline(settings))
    assert [(one["kinds"], round(one["half"])) for one in await app.values()] == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("aggregate: {n: count()}", "expected exactly one of"),
        ("tumbling: 1s, sliding: 1s, aggregate: {n: count()}", "got `tumbling` and `sliding`"),
        ("hopping: {size: 1s, every: 2s}, aggregate: {n: count()}", "larger `every` than `size`"),
        ("hopping: {size: 1d, every: 1s}, aggregate: {n: count()}", "overlaps too finely"),
        ("tumbling: 0, aggregate: {n: count()}", "0.001"),
        ("count: 0, aggregate: {n: count()}", "1"),
        ("count: 5, grace: 1s, aggregate: {n: count()}", "`grace` has no meaning"),
        ("session: {gap: 1s}, offset: 1s, aggregate: {n: count()}", "`offset` is for"),
        ("sliding: 1s, emit: on_update, aggregate: {n: count()}", "must be on_close"),
        ("count: 5, emit: {every: 1s}, aggregate: {n: count()}", "on_close or on_update"),
        ("by: n, tumbling: 1s, aggregate: {n: count()}", "'n' twice"),
        ("tumbling: 1s, aggregate: {window_end: count()}", "'window_end' twice"),
        ("by: {sets: [[a], [a]]}, tumbling: 1s, aggregate: {n: count()}", "each set once"),
        ("by: [a, a], tumbling: 1s, aggregate: {n: count()}", "each field once"),
        ("by: 5, tumbling: 1s, aggregate: {n: count()}", "a field's name"),
        ("session: {gap: 90s, max: 1m}, aggregate: {n: count()}", "shorter than the `gap`: it has to be 90s at least"),
        ("tumbling: 1s, aggregate: {}", "there has to be one name in it at least"),
    ],
)
def test_settings_that_mean_nothing_are_refused(refused, settings, message):
    [problem] = refused(f"stages: [{{window: {{{settings}}}}}]\n")
    assert message in f"{problem.message} {problem.expected} {problem.help}"


async def test_a_window_without_a_key_takes_that_of_the_key_by_before_it(through):
    stages = f"""{HEAD}
stages:
- key_by: k
- filter: x > 0
- window: {{tumbling: 10ms, aggregate: {{n: count()}}}}
"""
    found = await through(stages, event("a", 1), event("b", 2), event("a", 3), LAST | {"x": 1})
    assert [(one["k"], one["n"]) for one in found] == [("a", 2), ("b", 1)]

"""`validate` that remembers: `unique` and `score`, over batches, restarts, partitions and late records."""

from __future__ import annotations

import orjson
import pytest

HEAD = """
name: p
source: {log: {topic: in, event_time: {field: t, out_of_order: 5ms, max_future: null}}}
on_error: {dead_letter: {log: {topic: dead}}}
"""
UNIQUE = (
    HEAD
    + """
stages:
- validate:
    rules: [{unique: k, within: 10ms, action: %s}, {field: v, range: [0, 9], severity: info, action: %s}]
sink: {log: {topic: out}}
"""
)
SCORE = (
    HEAD
    + """
stages:
- id: checked
  validate:
    rules:
    - {name: low, field: v, range: [null, 9], action: dead_letter}
    - {name: odd, check: v % 2 == 1, severity: info}
    - {name: known, field: k, in: [a, b], action: drop}
    score: {window: 10ms}
sinks:
- {from: checked.records, log: {topic: out}}
- {from: checked.scores, log: {topic: scores}}
"""
)


def event(t, k="a", v=1):
    return {"k": k, "t": t, "v": v}


async def test_a_key_twice_within_the_time(app):
    await app.seed([event(1), event(3), event(2, "b"), event(11), event(12), event(12), event(22), event(23)])
    await app.run(UNIQUE % ("dead_letter", "tag"))
    assert [(one["k"], one["t"]) for one in await app.values()] == [("a", 1), ("b", 2), ("a", 12), ("a", 23)]
    dead = await app.records("dead")
    assert [orjson.loads(one.value)["t"] for one in dead] == [3, 11, 12, 22]
    assert {dict(one.headers)["streamd.message"] for one in dead} == {b"the record breaks the rule k_unique"}
    assert app.total("streamd_quality_checks_total", rule="k_unique", result="failed") == 4
    assert app.total("streamd_quality_checks_total", rule="k_unique", result="passed") == 4


async def test_what_did_not_go_on_has_not_had_the_key(app):
    await app.seed([event(1, v=20), event(2), event(3, v=20), event(4)])
    await app.run(UNIQUE % ("tag", "drop"))
    assert await app.values() == [event(2) | {"failed_rules": []}, event(4) | {"failed_rules": ["k_unique"]}]


async def test_keys_are_known_after_a_restart_and_a_late_record_is_not_unique(app):
    await app.seed([event(1), event(30)])
    await app.run(UNIQUE % ("tag", "tag"))
    await app.seed([event(31), event(41), event(2, "late", v=-1)])
    await app.run(UNIQUE % ("tag", "tag"))
    assert [one["failed_rules"] for one in await app.values()] == [[], [], ["k_unique"], [], ["k_unique", "v_range"]]


async def test_a_tombstone_goes_on(app):
    await app.seed([None, event(1)])
    await app.run((UNIQUE % ("tag", "tag")).replace("topic: in,", "topic: in, tombstones: forward,"))
    assert [record.value is None for record in await app.records("out")] == [True, False]


async def test_a_key_that_is_null_is_an_error_of_the_record(app):
    await app.seed([event(1, None), event(2)])
    await app.run(UNIQUE % ("tag", "tag"))
    assert [dict(one.headers)["streamd.error"] for one in await app.records("dead")] == [b"TransformError"]


async def test_scores_of_windows(app):
    await app.seed(
        [event(1), event(2, v=2), event(3, v=11), event(14, "c"), event(15), event(8, "b"), event(40), event(99)]
    )
    await app.run(SCORE)
    scores = await app.values("scores")
    assert scores[0] == {
        "stage": "checked",
        "window_start": 0,
        "window_end": 10,
        "records": 3,
        "passed": 2,
        "score": 0.666667,
        "rules": {
            "low": {"failed": 1, "score": 0.666667},
            "odd": {"failed": 1, "score": 0.666667},
            "known": {"failed": 0, "score": 1.0},
        },
    }
    # The record of 8 ms came when the window before was over.
    found = [(one["window_end"], one["records"], one["passed"]) for one in scores]
    assert found == [(10, 3, 2), (20, 3, 2), (50, 1, 1)]
    assert [one["t"] for one in await app.values()] == [1, 2, 15, 8, 40, 99]
    assert app.total("streamd_quality_checks_total", rule="known", result="failed") == 1


async def test_a_window_goes_on_after_a_restart(app):
    await app.seed([event(1), event(2, v=11)])
    text = SCORE.replace("max_future: null", "max_future: null, idle: 1h")

    async def written():
        return len(await app.records("dead")) == 1

    await app.run_until(text, written)
    await app.seed([event(3), event(30)])
    await app.run(text)
    found = [(one["window_end"], one["records"], one["passed"]) for one in await app.values("scores")]
    assert found == [(10, 3, 2)]


async def test_scores_that_nobody_reads_are_still_measured(app):
    await app.seed([event(1), event(2, v=11), event(30)])
    await app.run(SCORE.replace("- {from: checked.scores, log: {topic: scores}}", ""))
    assert [one["t"] for one in await app.values()] == [1, 30]


async def test_a_stage_behind_must_say_which_output_it_reads(refused):
    [problem] = refused("stages:\n- id: c\n  validate: {rules: [{not_null: a}], score: {}}\n")
    assert "does not say which output" in problem.message
    assert "from: c.records" in problem.expected


@pytest.mark.parametrize("name", ["validate", "checked"])
async def test_the_rules_may_change_while_counts_are_kept(app, name):
    text = SCORE.replace("id: checked", f"id: {name}").replace("checked.", f"{name}.")
    await app.seed([event(1)])

    async def written():
        return len(await app.records("out")) == 1

    await app.run_until(text, written)
    await app.seed([event(2, v=None), event(30)])
    on = text.replace("- {name: odd, check: v % 2 == 1, severity: info}", "- {name: there, not_null: v, action: drop}")
    await app.run(on)
    [score] = await app.values("scores")
    assert (score["records"], score["rules"]["there"]["failed"]) == (2, 1)

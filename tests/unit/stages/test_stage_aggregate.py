"""The stage `aggregate`."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from streamd.component.expiry import AT_ONCE
from streamd.component.grouping import composite_key
from streamd.errors import FatalError
from streamd.record import END
from streamd.stages.aggregate import AggregateConfig, AggregateStage
from streamd.state.store import TableStore

AGGREGATE = "stages: [{aggregate: {by: user, values: {orders: count(), total: sum(amount)}}}]\n"


def order(user, amount):
    return {"user": user, "amount": amount}


async def test_each_record_gives_the_values_after_it(through):
    assert await through(AGGREGATE, order("a", 1), order("b", 5), order("a", 2)) == [
        {"user": "a", "orders": 1, "total": 1},
        {"user": "b", "orders": 1, "total": 5},
        {"user": "a", "orders": 2, "total": 3},
    ]


async def test_what_is_kept_outlives_the_run(app):
    await app.seed([order("a", 1)])
    await app.run(AGGREGATE)
    await app.seed([order("a", 2)])
    await app.run(AGGREGATE)
    assert (await app.values())[-1] == {"user": "a", "orders": 2, "total": 3}
    assert app.total("streamd_restored_records_total") == 2  # the key, and the checkpoint's own record


async def test_the_order_of_values_does_not_matter_and_other_settings_are_refused(app):
    await app.seed([order("a", 1)])
    await app.run("stages: [{aggregate: {by: [user, amount], values: {n: count(), last: last(amount)}}}]\n")
    await app.seed([order("a", 1)])
    await app.run("stages: [{aggregate: {by: [user, amount], values: {last: last(amount), n: count()}}}]\n")
    assert (await app.values())[-1] == {"amount": 1, "user": "a", "last": 1, "n": 2}
    for by, values, changed in (
        ("[user, amount]", "{last: first(amount), n: count()}", r"values\.last has changed"),
        ("[user, amount]", "{last: last(amount), n: count(where=amount > 1)}", r"values\.n has changed"),
        ("[amount, user]", "{last: last(amount), n: count()}", "by has changed"),
        ("{sets: [[user], [amount]]}", "{last: last(amount), n: count()}", r"by\.sets is new"),
    ):
        with pytest.raises(FatalError, match=f"other settings: {changed}"):
            await app.run(f"stages: [{{aggregate: {{by: {by}, values: {values}}}}}]\n")


async def test_a_key_of_several_fields(through):
    stages = "stages: [{aggregate: {by: [region, product], values: {n: count()}}}]\n"
    records = [{"region": "eu", "product": 1}, {"region": "eu", "product": 2}, {"region": "eu", "product": 1}]
    assert [found["n"] for found in await through(stages, *records)] == [1, 1, 2]


async def test_a_key_that_is_an_expression(through):
    stages = "stages: [{aggregate: {by: {country: upper(user.country)}, values: {n: count()}}}]\n"
    records = [{"user": {"country": "de"}}, {"user": {"country": "DE"}}]
    assert await through(stages, *records) == [{"country": "DE", "n": 1}, {"country": "DE", "n": 2}]


async def test_keys_that_python_takes_for_equal_are_not_mixed_up(through):
    stages = "stages: [{aggregate: {by: k, values: {n: count()}}}]\n"
    assert [found["n"] for found in await through(stages, *({"k": k} for k in (1, True, "1", 1.0, [1], [True])))] == [
        1, 1, 1, 2, 1, 1,
    ]  # fmt: skip


async def test_metadata_can_be_aggregated(through):
    stages = "stages: [{aggregate: {by: {p: _partition}, values: {key: last(_key), at: max(_timestamp)}}}]\n"
    [first, second] = await through(stages, {}, {})
    assert (first["key"], second["key"]) == ("k0", "k1")
    assert second["at"] == first["at"] + 1


async def test_a_record_that_fails_leaves_what_is_kept_as_it_was(app):
    await app.seed([order("a", 1), order("a", "much"), order(None, 1), {"user": "a"}, order("a", 2)])
    await app.run("on_error: skip\n" + AGGREGATE)
    assert await app.values() == [
        {"user": "a", "orders": 1, "total": 1},
        {"user": "a", "orders": 2, "total": 3},
    ]
    assert app.total("streamd_failed_records_total", component="aggregate") == 3


async def test_a_null_counts_for_nothing_but_in_count(through):
    assert (await through(AGGREGATE, order("a", 1), order("a", None)))[-1] == {"user": "a", "orders": 2, "total": 1}


async def test_what_comes_out_goes_through_further_stages(through):
    stages = (
        "stages:\n  - set: {amount: amount * 2}\n"
        "  - aggregate: {by: user, values: {total: sum(amount)}}\n  - filter: total > 2\n"
    )
    assert await through(stages, order("a", 1), order("a", 1)) == [{"user": "a", "total": 4}]


async def test_a_result_has_its_key_as_its_key_and_the_time_of_its_record(app):
    await app.seed([{"k": 7}, {"k": "ä"}, {"k": 7.0}])
    await app.run("stages: [{aggregate: {by: k, values: {n: count()}}}]\n")
    found = [(record.key, record.timestamp - 1_700_000_000_000) for record in await app.records("out")]
    assert found == [(b"7", 0), ("ä".encode(), 1), (b"7", 2)]
    await app.run(
        "name: q\nsource: {log: {topic: in}}\nsink: {log: {topic: two}}\n"
        "stages: [{aggregate: {by: {k: k, at: _offset}, values: {n: count()}}}]\n"
    )
    assert [record.key for record in await app.records("two")] == [b"[7,0]", '["ä",1]'.encode(), b"[7,2]"]


async def test_a_tombstone_is_passed_on_in_its_place(app):
    await app.seed([order("a", 1), None, order("a", 2)])
    await app.run("name: p\nsource: {log: {topic: in, tombstones: forward}}\nsink: {log: {topic: out}}\n" + AGGREGATE)
    found = [(record.key, record.value) for record in await app.records("out")]
    assert found[1] == (b"k1", None)
    assert [key for key, _ in found] == [b"a", b"k1", b"a"]


async def test_grouping_sets_count_each_record_once_for_each(through):
    stages = "stages: [{aggregate: {by: {sets: [[region], [region, product], []]}, values: {n: sum(amount)}}}]\n"
    found = await through(
        stages, {"region": "eu", "product": 1, "amount": 5}, {"region": "eu", "product": 2, "amount": 2}
    )
    assert found == [
        {"region": "eu", "product": None, "n": 5},
        {"region": "eu", "product": 1, "n": 5},
        {"region": None, "product": None, "n": 5},
        {"region": "eu", "product": None, "n": 7},
        {"region": "eu", "product": 2, "n": 2},
        {"region": None, "product": None, "n": 7},
    ]


async def test_one_group_of_everything(through):
    assert await through("stages: [{aggregate: {by: {sets: [[]]}, values: {n: count()}}}]\n", {"a": 1}, {"b": 2}) == [
        {"n": 1}, {"n": 2},
    ]  # fmt: skip


async def test_what_is_not_json_is_kept_as_such(app):
    stages = (
        "stages: [{aggregate: {by: user, values: {n: count_distinct(amount), p: median(amount), "
        "about: approx_count_distinct(amount), top: 'collect(amount, 2, order_by=desc(amount))'}}}]\n"
    )
    await app.seed([order("a", 1), order("a", 3)])
    await app.run(stages)
    await app.seed([order("a", 3), order("a", 5)])
    await app.run(stages)
    median = pytest.approx(3, rel=0.01)
    assert (await app.values())[-1] == {"user": "a", "n": 3, "p": median, "about": 3, "top": [5, 3]}


EVERY = "stages: [{aggregate: {by: user, values: {total: sum(amount)}, emit: {every: 1h}}}]\n"


async def test_each_changed_key_is_given_once_at_the_end_of_the_input(app, tmp_path):
    lines = [order("a", 1), order("b", 1), order("a", 2)]
    (tmp_path / "in.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    await app.run("name: p\nsource: {file: {path: in.ndjson}}\nsink: {log: {topic: out}}\n" + EVERY)
    assert await app.values() == [{"user": "a", "total": 3}, {"user": "b", "total": 1}]


async def test_what_was_still_to_be_given_is_given_after_a_restart(app):
    await app.seed([order("a", 1), order("a", 2)])
    await app.run(EVERY)
    assert await app.values() == []
    await app.run(EVERY)
    assert await app.values() == [{"user": "a", "total": 3}]
    await app.run(EVERY)
    assert len(await app.values()) == 1


OWN = """
class Words:
    def start(self): return []
    def add(self, state, word): state.append(word.upper()); return state
    def merge(self, state, later): return state + later
    def result(self, state): return " ".join(state)
"""


async def test_own_code_that_fails_leaves_every_group_as_it_was(app, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_words.py").write_text(OWN)
    await app.seed([{"k": 1, "w": "a"}, {"k": 1, "w": 5}, {"k": 1, "w": "b"}])
    values = "{n: count(), s: 'custom(\"own_words:Words\", w)'}"
    await app.run(f"on_error: skip\nstages: [{{aggregate: {{by: {{sets: [[k], []]}}, values: {values}}}}}]\n")
    assert await app.values() == [
        {"k": 1, "n": 1, "s": "A"}, {"k": None, "n": 1, "s": "A"},
        {"k": 1, "n": 2, "s": "A B"}, {"k": None, "n": 2, "s": "A B"},
    ]  # fmt: skip
    sys.modules.pop("own_words")


def small(settings):
    """The stage by itself, over a store in memory, at a clock that the test sets."""
    config = AggregateConfig.model_validate(settings)
    clock = SimpleNamespace(now_ms=lambda: 1000)
    stage = AggregateStage(config, SimpleNamespace(clock=clock, base_dir=None))
    return stage, clock


async def opened(stage, store):
    await stage.open(SimpleNamespace(store=store))
    store.loaded()
    stage.restored()


async def test_changes_are_given_when_the_clock_says_so():
    stage, clock = small({"by": "k", "values": {"n": "count()"}, "emit": {"every": "2s"}})
    await opened(stage, TableStore())
    out = []
    assert stage.due is None
    stage.process([(None, 5, 0, "a"), (None, 6, 0, "b"), (None, 7, 2, "a")], out, [])
    assert (out, stage.due) == ([], 3000)
    clock.now_ms = lambda: 2000
    stage.process([(None, 3, 4, "a")], out, [])
    assert stage.due == 3000
    assert stage.advance(9, out) == 9
    stage.tick(3000, out)
    # At the watermark where the change was before it: what follows has been promised that nothing earlier comes.
    assert [(r.value, r.key, r.timestamp) for r in out] == [
        ({"k": "a", "n": 3}, b"a", 9),
        ({"k": "b", "n": 1}, b"b", 9),
    ]
    assert stage.due is None
    stage.advance(END, out)
    assert len(out) == 2


async def test_a_view_shows_what_the_last_result_said():
    stage, _ = small({"by": ["k", "j"], "values": {"n": "count()", "last": "last(x)"}})
    await opened(stage, TableStore())
    out = []
    key = composite_key([1, "x"])
    stage.process([(None, 5, 0, key, {"deep": [1]})], out, [])
    assert stage.shown(key, stage.view[key]) == out[0].value == {"k": 1, "j": "x", "n": 1, "last": {"deep": [1]}}


def test_what_grows_without_bound_is_said():
    stage, _ = small({"by": "user", "values": {"n": "count()", "ids": "count_distinct(id)"}})
    assert stage.config.remembers == "each user for ever; `ttl` would bound that"
    grows = "per key without bound: `ids` has one entry for each different value"
    assert stage.config.grows == f"{grows}; `ttl` would forget keys that are not updated"
    assert small({"by": "user", "values": {"n": "count()"}})[0].config.grows == ""
    bounded, _ = small({"by": "user", "values": {"ids": "count_distinct(id)"}, "ttl": "7d"})
    assert bounded.config.remembers == "each user for 7d after its last update"
    assert bounded.config.grows == grows


def test_the_generated_code_is_what_one_would_write():
    stage, _ = small({"by": "user", "values": {"orders": "count()", "largest": "max(amount)"}})
    assert stage.source.splitlines()[:3] == [
        "def process(rows, out, failed, table, changed, marks):",
        "    dirty, append = table.dirty.add, out.append",
        "    for r, time, watermark, key, agg_x0 in rows:",
    ]
    assert "            a[1] += 1" not in stage.source
    assert "        a[1] += 1" in stage.source


TTL = """
source: {log: {topic: in, event_time: {field: t, max_future: null}}}
sink: {log: {topic: out}}
stages: [{aggregate: {by: k, values: {n: count()}, ttl: %s}}]
"""


async def test_a_key_that_is_not_updated_is_forgotten(app):
    await app.seed([{"k": k, "t": t} for k, t in (("a", 0), ("b", 5), ("a", 9), ("b", 15), ("a", 18), ("a", 28))])
    await app.run("name: p" + TTL % "10ms")
    assert [(found["k"], found["n"]) for found in await app.values()] == [
        ("a", 1), ("b", 1), ("a", 2), ("b", 1), ("a", 3), ("a", 1),
    ]  # fmt: skip


async def test_how_long_keys_are_kept_may_change_and_whether_may_not(app):
    await app.seed([{"k": "a", "t": 0}, {"k": "b", "t": 50}])
    await app.run("name: p" + TTL % "100ms")
    await app.seed([{"k": "a", "t": 51}, {"k": "b", "t": 52}])
    await app.run("name: p" + TTL % "10ms")
    assert [found["n"] for found in await app.values()] == [1, 1, 1, 2]
    with pytest.raises(FatalError, match="other settings: ttl is gone"):
        await app.run("name: p" + TTL % "null")


async def test_a_forgotten_key_is_in_no_view_and_leaves_the_store():
    stage, _ = small({"by": "k", "values": {"n": "count()"}, "ttl": "100ms"})
    store = TableStore()
    await opened(stage, store)
    stage.process([(None, 0, 0, "a"), (None, 3, 3, b"[1]"), (None, 50, 50, "b"), (None, 102, 102, "b")], out := [], [])
    assert dict(stage.view.scan()) == {"b": [2, 102], b"[1]": [1, 3]}, "a is there still, and over"
    assert stage.view["a"] is None
    assert stage.view[b"[1]"] is not None
    store.committed()
    stage.advance(200, out)
    # Removed by the piece of time: b stands in its next one.
    gone = {name for name, value in store.changes() if value is None and name.startswith(b"values:")}
    assert gone == {b'values:"a"', b"values:[1]"}
    store.committed()
    stage.advance(END - 1, out)
    store.committed()
    assert len(store) == 0


async def test_a_change_that_waits_is_given_before_its_key_is_forgotten():
    stage, _ = small({"by": "k", "values": {"n": "count()"}, "ttl": "10ms", "emit": {"every": "1h"}})
    await opened(stage, TableStore())
    out = []
    stage.process([(None, 0, 0, "a"), (None, 0, 0, "b"), (None, 1, 1, "a"), (None, 12, 12, "a")], out, [])
    assert [(r.value["k"], r.value["n"], r.timestamp) for r in out] == [("a", 2, 12)]
    stage.advance(30, out)
    assert sorted((r.value["k"], r.value["n"], r.timestamp) for r in out[1:]) == [("a", 1, 30), ("b", 1, 30)]
    stage.advance(END, out)
    assert len(out) == 3


async def test_many_keys_are_forgotten_some_at_a_time():
    stage, _ = small({"by": "k", "values": {"n": "count()"}, "ttl": "1ms"})
    store = TableStore()
    await opened(stage, store)
    stage.process([(None, 0, 0, f"k{n}") for n in range(2 * AT_ONCE)], [], [])
    stage.advance(1, [])
    left = len(dict(stage._table.scan()))
    assert AT_ONCE // 2 < left <= AT_ONCE
    assert not dict(stage.view.scan())
    stage.advance(2, [])
    stage.advance(3, [])
    assert not len(store)


async def test_own_code_begins_anew_for_a_key_that_was_forgotten(app, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_words.py").write_text(OWN)
    words = [("a", 0), ("b", 1), (5, 20), ("c", 21)]
    await app.seed([{"k": 1, "w": w, "t": t} for w, t in words])
    pipeline = TTL.replace("n: count()", "s: 'custom(\"own_words:Words\", w)', d: count_distinct(w)") % "10ms"
    await app.run("name: p\non_error: skip" + pipeline)
    assert [(found["s"], found["d"]) for found in await app.values()] == [("A", 1), ("A B", 2), ("C", 1)]
    await app.seed([{"k": 1, "w": "d", "t": 22}])
    await app.run("name: p\non_error: skip" + pipeline)
    assert [(found["s"], found["d"]) for found in await app.values()][-1] == ("C D", 2)
    sys.modules.pop("own_words")


async def test_a_key_that_is_too_large_stops_the_pipeline_with_its_size(app):
    await app.seed([order("x" * 70_000, 1)])
    with pytest.raises(FatalError, match="a key has 70000 bytes, a store takes at most 65536"):
        await app.run(AGGREGATE)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("{by: user}", "values"),
        ("{by: [user, user], values: {n: count()}}", "a list with each field once"),
        ("{by: a.b, values: {n: count()}}", "country: user.country"),
        ("{by: user, values: {user: count()}}", "is in `by` and in `values`"),
        ("{by: user, values: {n: cuont()}}", "there is no aggregate 'cuont'"),
        ("{by: user, values: {n: 3}}", "an aggregate such as count()"),
        ("{by: user, values: {}}", "values"),
        ("{by: [], values: {n: count()}}", "at least one field"),
        ("{by: user, values: {n: count(amount)}}", "count counts records and takes no value"),
        ("{by: user, values: {n: count()}, emit: on_close}", "on_update"),
        ("{by: user, values: {n: count()}, emit: {every: 0s}}", "0.001"),
        ("{by: user, values: {n: count()}, ttl: 0s}", "0.001"),
    ],
)
def test_settings_that_cannot_work(refused, settings, says):
    problems = refused(f"stages: [{{aggregate: {settings}}}]\n")
    assert any(says in problem.message for problem in problems), problems
    assert all(problem.place.line == 4 for problem in problems)

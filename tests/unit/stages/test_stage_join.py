"""The stage `join`, in pipelines over the embedded log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, FatalError

HEAD = """
name: p
sources:
  orders: {log: {topic: orders, event_time: t}}
  payments: {log: {topic: payments, event_time: t}}
sink: {log: {topic: out, key: _key}}
stages:
"""


def join(settings):
    return HEAD + f"  - {{id: paid, join: {{left: orders, right: payments, {settings}}}}}\n"


@pytest.fixture
def joined(app):
    async def run(settings, orders, payments):
        await app.seed(orders, "orders")
        await app.seed(payments, "payments")
        await app.run(join(settings))
        found = await app.records("out")
        return [json.loads(r.value) for r in sorted(found, key=lambda r: (r.timestamp, r.value))]

    return run


ORDERS = [{"id": 1, "t": 1000, "amount": 5}, {"id": 2, "t": 2000, "amount": 6}, {"id": 3, "t": 90_000, "amount": 7}]
PAYMENTS = [{"id": 1, "t": 1500, "by": "cash"}, {"id": 2, "t": 1800, "by": "card"}, {"id": 9, "t": 95_000, "by": "x"}]
FIELDS = "fields: {id: orders.id, amount: orders.amount, by: payments.by}"


async def test_pairs_within_the_bounds(joined):
    assert await joined(f"on: id, within: 1s, {FIELDS}", ORDERS, PAYMENTS) == [
        {"id": 1, "amount": 5, "by": "cash"},
        {"id": 2, "amount": 6, "by": "card"},
    ]


async def test_right_only_after_left(joined):
    found = await joined(f"on: id, within: {{after: 1s}}, {FIELDS}", ORDERS, PAYMENTS)
    assert found == [{"id": 1, "amount": 5, "by": "cash"}]


async def test_the_result_has_the_joins_key_and_the_later_time(app, joined):
    await joined(f"on: id, within: 1s, {FIELDS}", ORDERS, PAYMENTS)
    assert sorted((r.key, r.timestamp) for r in await app.records("out")) == [(b"1", 1500), (b"2", 2000)]


async def test_those_that_found_nobody_are_given_when_nobody_can_come(joined):
    found = await joined(f"on: id, type: full, within: 1s, {FIELDS}", ORDERS, PAYMENTS)
    # The last ones still wait: somebody could come.
    assert found == [{"id": 1, "amount": 5, "by": "cash"}, {"id": 2, "amount": 6, "by": "card"}]
    more = [{"id": 10, "t": 200_000, "amount": 0}], [{"id": 11, "t": 200_000, "by": "y"}]
    found = await joined(f"on: id, type: full, within: 1s, {FIELDS}", *more)
    assert found[2:] == [{"id": 3, "amount": 7, "by": None}, {"id": None, "amount": None, "by": "x"}]


async def test_what_is_kept_outlives_the_run(joined):
    assert await joined(f"on: id, within: 10s, {FIELDS}", ORDERS, []) == []
    assert len(await joined(f"on: id, within: 10s, {FIELDS}", [], PAYMENTS)) == 2


async def test_without_fields_the_result_has_those_of_both(joined):
    orders, payments = [{"id": 1, "t": 5, "a": 1}], [{"id": 1, "t": 5, "b": 2}, {"id": 1, "t": 5, "b": {"c": [1]}}]
    found = await joined("on: id", orders, payments)
    assert found == [{"id": 1, "t": 5, "a": 1, "b": 2}, {"id": 1, "t": 5, "a": 1, "b": {"c": [1]}}]


async def test_a_field_that_both_have_with_different_values_is_an_error(joined):
    with pytest.raises(FatalError, match=r"both inputs have a field 't', with different values; say with `fields`"):
        await joined("on: id", [{"id": 1, "t": 5}], [{"id": 1, "t": 6}])


async def test_keys_of_several_parts_and_of_two_names(joined):
    orders = [{"a": "x", "b": 1, "t": 1, "n": 1}, {"a": "x", "b": 2, "t": 1, "n": 2}]
    payments = [{"c": "X", "d": 2, "t": 1, "m": 1}]
    on = "on: {left: [a, b], right: [lower(c), d]}, fields: {n: left.n, m: right.m}"
    assert await joined(on, orders, payments) == [{"n": 2, "m": 1}]


async def test_a_condition_over_both(joined):
    on = "on: id, where: payments.paid >= orders.amount and has(payments.by), fields: {id: orders.id}"
    payments = [
        {"id": 1, "t": 1, "paid": 4, "by": 1},
        {"id": 2, "t": 1, "paid": 6, "by": 1},
        {"id": 3, "t": 1, "paid": 9},
    ]
    assert await joined(on, ORDERS, payments) == [{"id": 2}]


async def test_fields_that_may_be_missing(joined):
    fields = "fields: {id: orders.id, by: 'get(payments.by, 0)', whole: payments, paid: has(payments.by)}"
    found = await joined(f"on: id, {fields}", ORDERS[:1], [{"id": 1, "t": 1}, {"id": 1, "t": 2, "by": "cash"}])
    assert [(one["by"], one["paid"], one["whole"]["t"]) for one in reversed(found)] == [
        (0, False, 1),
        ("cash", True, 2),
    ]


async def test_alone_what_needs_the_other_side_is_null(joined):
    fields = (
        "fields: {id: orders.id, sum: orders.amount + payments.paid, by: 'get(payments.by, \"nobody\")',"
        " there: has(payments), part: payments.x if has(payments.x) else 0}"
    )
    orders = [{"id": 1, "t": 1, "amount": 1}, {"id": 2, "t": 9000, "amount": 1}]
    payments = [{"id": 5, "t": 9000, "paid": 2}]
    found = await joined(f"on: id, type: left, within: 1s, {fields}", orders, payments)
    assert found == [{"id": 1, "sum": None, "by": "nobody", "there": False, "part": 0}]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"t": 1, "amount": 1}, "field 'id' is missing"),
        ({"id": None, "t": 1, "amount": 1}, "a key is null"),
        ({"id": 1, "t": 1}, "field 'amount' is missing"),
        (b'{"id": %d, "t": 1, "amount": 1}' % (2**70,), "more than 64 bits"),
        (b'{"id": 1, "t": 1, "amount": %d}' % (2**70,), "more than 64 bits"),
    ],
)
async def test_bad_records(joined, order, message):
    with pytest.raises(FatalError, match=message):
        await joined(f"on: id, within: 1s, {FIELDS}", [order], [])


async def test_late_records_are_dropped_and_counted(app, joined):
    orders = [{"id": 1, "t": 50_000, "amount": 1}]
    await joined(f"on: id, within: 1s, {FIELDS}", orders, [{"id": 1, "t": 50_000, "by": "a"}])
    found = await joined(f"on: id, within: 1s, {FIELDS}", [{"id": 1, "t": 49_999, "amount": 2}], [])
    assert found == [{"id": 1, "amount": 1, "by": "a"}]
    assert app.total("streamd_late_records_total") == 1


async def test_late_records_go_to_a_sink(app, joined):
    late = "late: {log: {topic: late}}"
    await joined(f"on: id, within: 1s, {late}, {FIELDS}", [{"id": 1, "t": 50_000, "amount": 1}], [])
    await joined(f"on: id, within: 1s, {late}, {FIELDS}", [], [{"id": 1, "t": 50_000, "by": "a"}])
    await joined(f"on: id, within: 1s, {late}, {FIELDS}", [{"id": 1, "t": 49_999, "amount": 2}], [])
    assert await app.values("late") == [{"id": 1, "t": 49_999, "amount": 2}]


async def test_a_stream_joined_with_itself(app):
    await app.seed([{"id": 1, "t": 1, "n": 1}, {"id": 1, "t": 2, "n": 2}])
    where = "where: left.n < right.n, fields: {a: left.n, b: right.n}"
    await app.run(
        "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n"
        f"stages: [{{join: {{left: source, right: source, on: id, {where}}}}}]\n"
    )
    assert await app.values() == [{"a": 1, "b": 2}]


async def test_a_join_of_a_join(app):
    await app.seed([{"id": 1, "t": 1, "n": 1}], "orders")
    await app.seed([{"id": 1, "t": 2, "m": 2}], "payments")
    await app.run(
        HEAD
        + "  - {id: one, join: {left: orders, right: payments, on: id, within: 1s,"
        + " fields: {id: left.id, t: left.t, n: left.n}}}\n"
        + "  - {id: two, join: {left: one, right: payments, on: id, within: 1s, fields: {n: one.n, m: payments.m}}}\n"
    )
    assert await app.values() == [{"n": 1, "m": 2}]


async def test_as_a_field_of_the_left_one(joined):
    found = await joined("on: id, within: 1s, as: payment", ORDERS[:1], [{"id": 1, "t": 1, "m": [1]}])
    assert found == [{"id": 1, "t": 1000, "amount": 5, "payment": {"id": 1, "t": 1, "m": [1]}}]


TABLE = """
name: p
sources:
  orders: {log: {topic: orders}}
  users: {log: {topic: users, tombstones: forward}}
sink: {log: {topic: out}}
stages:
  - {id: j, join: {left: %s, right: {table: users}, on: {left: user, right: id}, type: left, as: user}}
"""


async def test_a_table_is_enriched_from_by_its_newest_version(app):
    await app.seed([{"id": "k2", "name": "a"}, {"id": "k2", "name": "b"}, None], "users")  # the last deletes k2
    await app.run(TABLE % "orders")
    await app.seed([{"user": "k2"}], "orders")
    await app.run(TABLE % "orders")
    await app.seed([{"id": "k2", "name": "c"}], "users")
    await app.seed([], "orders")
    await app.run(TABLE % "orders")
    await app.seed([{"user": "k2", "n": 1}], "orders")
    await app.run(TABLE % "orders")
    assert await app.values() == [{"user": None}, {"user": {"id": "k2", "name": "c"}, "n": 1}]


async def test_a_tables_record_is_forgotten_when_none_replaces_it(app):
    timed = "event_time: {field: t, max_future: null}"
    pipeline = (TABLE % "orders").replace("{table: users}", "{table: users, ttl: 10ms}")
    pipeline = pipeline.replace("topic: orders", f"topic: orders, {timed}").replace(
        "topic: users", f"topic: users, {timed}"
    )
    await app.seed([{"id": "a", "t": 0}, {"id": "b", "t": 5}, {"id": "z", "t": 100}], "users")
    await app.seed([{"user": "none", "t": 0}], "orders")
    await app.run(pipeline)
    await app.seed([{"user": "a", "t": 5}, {"user": "b", "t": 12}, {"user": "b", "t": 15}], "orders")
    await app.run(pipeline)
    assert [found["user"] is not None for found in await app.values()] == [False, True, True, False]


async def test_two_tables_give_their_changes(app):
    for topic, values in {"users": [{"id": "k2", "x": 1}], "orders": [{"user": "k2", "y": 1}]}.items():
        await app.seed(values, topic)
        await app.run(TABLE % "{table: orders}")
    await app.seed([{"id": "k2", "x": 2}, {"id": "k9"}], "users")
    await app.run(TABLE % "{table: orders}")
    assert await app.values() == [
        {"y": 1, "user": {"id": "k2", "x": 1}},
        {"y": 1, "user": {"id": "k2", "x": 2}},
    ]


async def test_as_of_a_record_meets_the_version_of_its_time(app):
    text = TABLE.replace("as: user", "as: user, as_of: event_time").replace("orders}}", "orders, event_time: t}}")
    text = text.replace("users, ", "users, event_time: t, ")
    await app.seed([{"id": 1, "v": v, "t": t} for v, t in (("a", 10), ("b", 20), ("c", 900))], "users")
    await app.seed([{"user": 1, "t": t} for t in (5, 10, 19, 20, 21, 901)], "orders")
    await app.run(text % "orders")
    found = sorted((one["t"], one["user"] and one["user"]["v"]) for one in await app.values())
    assert found == [(5, None), (10, "a"), (19, "a"), (20, "b"), (21, "b")]


async def test_as_of_what_gives_no_result_is_an_error(app):
    text = TABLE.replace("as: user", "as_of: event_time").replace("orders}}", "orders, event_time: t}}")
    text = text.replace("users, ", "users, event_time: t, ")
    await app.seed([{"id": 1, "t": 10}, {"id": 1, "t": 900}], "users")
    await app.seed([{"user": 1, "t": 11}, {"user": 1, "t": 900}], "orders")
    with pytest.raises(FatalError, match="both inputs have a field 't'"):
        await app.run(text % "orders")


async def test_own_code_that_changes_a_result_does_not_change_what_is_kept(app, tmp_path):
    code = "def run(batch):\n    for record in batch:\n        record.value['r']['seen'].append(1)\n    return batch\n"
    (tmp_path / "own_of_join.py").write_text(code)
    stages = (
        "  - {id: j, join: {left: orders, right: payments, on: id, as: r}}\n  - python: {class: 'own_of_join:run'}\n"
    )
    await app.seed([{"id": 1, "t": 1}, {"id": 1, "t": 2}], "orders")
    await app.seed([{"id": 1, "t": 1, "seen": []}], "payments")
    await app.run(HEAD + stages)
    assert [one["r"]["seen"] for one in await app.values()] == [[1], [1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("type: left", "`type: left` needs `within` or `keep`"),
        ("within: 1s, keep: 1s", "both given"),
        ("grace: 1s", "`grace` goes with `within`"),
        (
            "fields: {a: amount}",
            "`fields.a` of stage `join` must be a field with its input, such as `orders.amount` or `payments.amount`",
        ),
        ("where: _key == 1", "must be fields of the two inputs: _key does not"),
        ("as_of: event_time", "for a stream and a table"),
        ("history: 1h", "`history` goes with"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    problems = problems_of(join(f"on: id, {settings}"))
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{id: j, from: a, join: {left: a, right: b, on: id}}", "has no `from`"),
        ("{id: j, join: {left: a, right: bb, on: id}}", "`join` names `bb`, and there is no source or stage"),
        ("{id: j, join: {left: a, right: j, on: id}}", "stage `j` reads itself"),
        ("{id: j, join: {left: a, right: b, on: {left: [x, y], right: z}}}", "2 parts on the left, and 1 on the right"),
        ("{id: j, join: {left: {table: a}, right: b, on: id, within: 1s}}", "`within` is for two streams"),
        ("{id: j, join: {left: {table: a, ttl: 1d}, right: {table: b}, on: id}}", "`ttl` is for the table"),
        ("{id: j, join: {left: {table: a, ttl: 1d}, right: b, on: id, as_of: event_time}}", "`ttl` is for the table"),
        ("{id: j, join: {left: {table: a}, right: b, on: id, type: left}}", "rows of a table"),
    ],
)
def test_wiring_that_does_not_fit(stage, message):
    sources = "{a: {log: {topic: a}}, b: {log: {topic: b}}}"
    problems = problems_of(f"name: p\nsources: {sources}\nstages: [{stage}]\nsink: {{log: {{topic: out}}}}\n")
    assert any(message in problem for problem in problems), problems


def problems_of(text):
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig())
    return [f"{one.message} {one.expected} {one.help}" for one in caught.value.diagnostics]

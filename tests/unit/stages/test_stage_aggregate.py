"""The stage `aggregate`."""

from __future__ import annotations

import pytest

from streamd.errors import FatalError

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


async def test_the_order_of_settings_does_not_matter_and_other_settings_are_refused(app):
    await app.seed([order("a", 1)])
    await app.run("stages: [{aggregate: {by: [user, amount], values: {n: count(), last: last(amount)}}}]\n")
    await app.seed([order("a", 1)])
    await app.run("stages: [{aggregate: {by: [amount, user], values: {last: last(amount), n: count()}}}]\n")
    assert (await app.values())[-1] == {"amount": 1, "user": "a", "last": 1, "n": 2}
    with pytest.raises(FatalError, match=r"other settings: values\.last has changed"):
        await app.run("stages: [{aggregate: {by: [amount, user], values: {last: first(amount), n: count()}}}]\n")


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
    ],
)
def test_settings_that_cannot_work(refused, settings, says):
    problems = refused(f"stages: [{{aggregate: {settings}}}]\n")
    assert any(says in problem.message for problem in problems), problems
    assert all(problem.place.line == 4 for problem in problems)

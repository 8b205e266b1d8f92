"""The stage `route`."""

from __future__ import annotations

import pytest

ROUTE = """
name: p
source: {log: {topic: in}}
stages:
- id: size
  route:
    outputs: {small: n < 3, large: n < 6}
    OPTIONS
sinks:
- {from: size.small, log: {topic: small}}
- {from: size.large, log: {topic: large}}
- {id: rest, from: size.rest, log: {topic: rest}}
on_error: skip
"""


@pytest.fixture
async def routed(app):
    async def run(options, *values, yaml=ROUTE):
        yaml = yaml.replace("OPTIONS", options)
        if "otherwise" not in options:
            yaml = "".join(line for line in yaml.splitlines(keepends=True) if "rest" not in line)
        await app.seed([v if isinstance(v, bytes) else {"n": v} for v in values])
        await app.run(yaml)
        topics = ("small", "large", "rest") if "otherwise" in options else ("small", "large")
        return {topic: [v["n"] for v in await app.values(topic)] for topic in topics}

    return run


async def test_the_first_output_that_matches_takes_the_record(routed, app):
    assert await routed("", *range(8)) == {"small": [0, 1, 2], "large": [3, 4, 5]}
    assert app.total("streamd_stage_filtered_records_total", stage="size") == 2


async def test_otherwise_takes_the_others(routed, app):
    assert await routed("otherwise: rest", *range(8)) == {"small": [0, 1, 2], "large": [3, 4, 5], "rest": [6, 7]}
    assert app.total("streamd_stage_filtered_records_total") == 0


async def test_all_outputs_that_match(routed):
    assert await routed("{match: all, otherwise: rest}"[1:-1].replace(", ", "\n    "), *range(8)) == {
        "small": [0, 1, 2],
        "large": [0, 1, 2, 3, 4, 5],
        "rest": [6, 7],
    }


async def test_a_record_whose_condition_fails_goes_nowhere(routed, app):
    values = [1, b'{"n":"x"}', 4]
    assert await routed("match: all", *values) == {"small": [1], "large": [1, 4]}
    assert app.total("streamd_failed_records_total", component="size") == 1


async def test_a_condition_behind_the_one_that_matched_is_not_asked(app):
    await app.seed([{"a": 1}, {"b": 2}])
    await app.run(
        "name: p\nsource: {log: {topic: in}}\nstages:\n- id: r\n  route: {outputs: {a: has(a), b: b == 2}}\n"
        "sinks:\n- {from: r.a, log: {topic: a}}\n- {from: r.b, log: {topic: b}}\n"
    )
    assert await app.values("a") == [{"a": 1}]
    assert await app.values("b") == [{"b": 2}]


async def test_stages_behind_outputs_and_one_sink_for_two(app):
    await app.seed([{"n": n} for n in range(6)])
    await app.run("""
name: p
source: {log: {topic: in}}
stages:
- {id: r, route: {outputs: {even: n % 2 == 0, odd: n % 2 == 1}}}
- {id: some, from: r.even, filter: n > 0}
- {id: mark, from: r.odd, set: {odd: true}}
sink: {from: [some, mark], log: {topic: out}}
""")
    assert await app.values() == [
        {"n": 1, "odd": True},
        {"n": 2},
        {"n": 3, "odd": True},
        {"n": 4},
        {"n": 5, "odd": True},
    ]


async def test_the_copies_of_a_record_are_its_own(app):
    await app.seed([{"n": 1, "o": {"x": 0}}])
    await app.run("""
name: p
source: {log: {topic: in}}
stages:
- {id: r, route: {outputs: {a: n == 1, b: n == 1}, match: all}}
- {id: change, from: r.a, set: {o.x: 1}}
sinks:
- {from: change, log: {topic: a}}
- {from: r.b, log: {topic: b}}
""")
    assert await app.values("a") == [{"n": 1, "o": {"x": 1}}]
    assert await app.values("b") == [{"n": 1, "o": {"x": 0}}]


def test_names_are_checked(refused):
    head = "stages:\n- id: r\n  route: "
    [problem] = refused(head + "{outputs: {a.b: n}}\n")
    assert "expected a name without a dot" in problem.message
    [problem] = refused(head + "{outputs: {a: n}, otherwise: a}\n")
    assert "expected a name of its own" in problem.message
    problems = refused(head + "{outputs: {a: n}}\n- {from: r.c, filter: n}\n")
    assert any("no output `c`" in problem.message for problem in problems), [p.message for p in problems]

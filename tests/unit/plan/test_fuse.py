"""Chains compiled from YAML, run over records: what comes out, what is counted, what is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.chain import Chain
from streamd.plan.graph import build_plan
from streamd.record import Record, SourceRecord
from streamd.runtime.assembly import Assembly

SOURCE = "name: p\nsource: {log: {topic: in}}\n"
SINK = "sink: {log: {topic: out}}\n"


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], Any]:
    """Compile the chains of a pipeline written as YAML; the one chain, or all by entry."""

    async def compile_text(text: str) -> Any:
        config = load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
        plan = build_plan(config)
        assembly = Assembly(plan, PipelineContext("app", "p", tmp_path, tmp_path, config.kafka))
        await assembly.open()
        chains = {entry: chain for (_, entry), chain in assembly.chains.items()}
        return chains if len(chains) > 1 else next(iter(chains.values()))

    return compile_text


def record(value: Any, **fields: Any) -> SourceRecord:
    data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return SourceRecord(**{"key": b"k", "value": data, "timestamp": 5, "offset": 0, "headers": (), **fields})


def run(
    chain: Chain, records: Sequence[Any], *, plain: bool = False
) -> tuple[list[list[Any]], list[Any], dict[Any, int]]:
    outs: list[list[Any]] = [[] for _ in chain.targets]
    failed: list[Any] = []
    counts = (chain.plain if plain else chain.function)(records, 3, failed, *outs)
    return outs, failed, dict(zip(chain.counters, counts, strict=True))


def values(rows: Sequence[Any]) -> list[Any]:
    return [json.loads(row[1]) for row in rows]


W1 = (
    SOURCE
    + "stages:\n- filter: type != 'refund' and amount > 50\n- set: {eur: 'round(amount * 1.1, 2)', big: amount > 400}\n"
    + SINK
)


async def test_filter_and_set_splice_into_the_original_bytes(compiled: Any) -> None:
    chain = await compiled(W1)
    original = b'{"type": "view", "amount": 100.0, "other": [1,  2]}'
    [rows], failed, counts = run(chain, [record(original), record({"type": "refund", "amount": 90})])
    assert rows == [(b"k", original[:-1] + b',"eur":110.0,"big":false}', 5, ())]
    assert not failed
    assert counts["filter", "filtered"] == 1
    assert set(chain.decodes) == {"type", "amount", "eur", "big"}


@pytest.mark.parametrize(
    "document",
    [
        {"type": "view", "amount": 500, "eur": "old"},
        {"big": None, "type": "view", "amount": 60},
        {"type": "x", "amount": 51, "n": {"eur": 1}},
    ],
)
async def test_fast_and_plain_functions_agree(compiled: Any, document: dict[str, Any]) -> None:
    chain = await compiled(W1)
    fast, plain = run(chain, [record(document)]), run(chain, [record(document)], plain=True)
    expected = {**document, "eur": round(document["amount"] * 1.1, 2), "big": document["amount"] > 400}
    assert values(fast[0][0]) == values(plain[0][0]) == [expected]


async def test_trailing_space_and_newlines_do_not_break_splicing(compiled: Any) -> None:
    chain = await compiled(W1)
    [rows], failed, _ = run(chain, [record(b' {"type":"a","amount":100} \n')])
    assert values(rows) == [{"type": "a", "amount": 100, "eur": 110.0, "big": False}]
    assert not failed


async def test_a_short_circuit_does_not_need_the_field_behind_it(compiled: Any) -> None:
    chain = await compiled(W1)
    [rows], failed, counts = run(chain, [record({"type": "refund"})])
    assert (rows, failed) == ([], [])
    assert counts["filter", "filtered"] == 1
    assert counts["source", "misfits"] == 1


@pytest.mark.parametrize(
    ("value", "owner"),
    [(b"{", "source"), (b"[1]", "source"), (b"null", "source"), (None, "source"), (b"\xff", "source"),
     ({"type": "a"}, "filter"), ({"type": "a", "amount": "x"}, "filter"), ({"type": "a", "amount": 1e400}, "source")],
)  # fmt: skip
async def test_a_bad_record_fails_alone_and_names_the_component(compiled: Any, value: Any, owner: str) -> None:
    chain = await compiled(W1)
    good = record({"type": "a", "amount": 100})
    bad = record(b'{"type":"a","amount":1e400}' if isinstance(value, dict) and value.get("amount") == 1e400 else value)
    [rows], failed, _ = run(chain, [good, bad, good])
    assert len(rows) == 2
    assert [(r is bad, chain.owner_of(error)) for r, error in failed] == [(True, owner)]


async def test_without_stages_json_goes_on_untouched_and_what_is_not_json_does_not(compiled: Any) -> None:
    chain = await compiled(SOURCE + SINK)
    good = b' {"a":1.10, "a":2, "big":123456789012345678901234567890} '
    records = [
        record(good, headers=[("h", b"1")]),
        record(b"not json"),
        record(b"[1]"),
        record(b'{"a":8,}'),
        record(None),
    ]
    [rows], failed, _ = run(chain, records)
    assert rows == [(b"k", good, 5, [("h", b"1")])]
    assert [chain.owner_of(error) for _, error in failed] == ["source"] * 4


async def test_bytes_that_are_no_utf8_fail_wherever_they_stand(compiled: Any) -> None:
    for stages in ("", "stages:\n- filter: a > 0\n", "stages:\n- set: {b: a}\n"):
        chain = await compiled(SOURCE + stages + SINK)
        [rows], failed, _ = run(chain, [record(b'{"a":1,"c":"\xff\xfe"}'), record('{"a":1,"c":"ä"}'.encode())])
        assert len(rows) == len(failed) == 1


async def test_format_bytes_is_never_looked_at(compiled: Any) -> None:
    chain = await compiled(
        "name: p\nsource: {log: {topic: in, format: bytes}}\nsink: {log: {topic: out, format: bytes}}\n"
    )
    [rows], failed, _ = run(chain, [record(b"\xff not json")])
    assert (rows[0][1], failed) == (b"\xff not json", [])


async def test_map_makes_a_new_document_and_knows_its_fields(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- map: {a.b: x + 1, c: y}\n- set: {d: c * 2}\n- drop: c\n" + SINK)
    [rows], _, _ = run(chain, [record({"x": 1, "y": 2, "z": 3})])
    assert values(rows) == [{"a": {"b": 2}, "d": 4}]


async def test_reading_a_field_that_map_dropped_is_a_configuration_error(compiled: Any) -> None:
    from streamd.errors import ConfigError

    with pytest.raises(ConfigError) as error:
        await compiled(SOURCE + "stages:\n- map: {a: x}\n- filter: x > 1\n" + SINK)
    assert "p.yaml:5:" in str(error.value.diagnostics[0])
    assert "'x'" in str(error.value.diagnostics[0])


async def test_drop_and_nested_set(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- set: {a.b.c: 1}\n- drop: [secret, a.x]\n" + SINK)
    [rows], _, _ = run(chain, [record({"a": {"x": 1, "b": {"y": 2}}, "secret": 1}), record({"z": 1})])
    assert values(rows) == [{"a": {"b": {"y": 2, "c": 1}}}, {"z": 1, "a": {"b": {"c": 1}}}]


async def test_a_set_field_is_seen_by_the_next_expression(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- set: {n: n + 1, m: n * 10}\n- filter: m > 20\n" + SINK)
    [rows], _, _ = run(chain, [record({"n": 1}), record({"n": 2})])
    assert values(rows) == [{"n": 3, "m": 30}]


async def test_has_and_get_do_not_leave_the_fast_path(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- filter: has(a) and a > 1 or get(b, 0) > 5\n" + SINK)
    records = [record({"a": 2}), record({"b": 6}), record({"a": 0}), record({"c": 1})]
    [rows], failed, counts = run(chain, records)
    assert values(rows) == [{"a": 2}, {"b": 6}]
    assert not failed
    assert counts["source", "misfits"] == 0


ROUTE = (
    SOURCE
    + """
stages:
- id: r
  route: {outputs: {small: n < 10, even: n %% 2 == 0}, otherwise: rest%s}
- {id: s, from: r.small, set: {size: '"s"'}}
sinks:
- {id: small, from: s, log: {topic: a}}
- {id: even, from: r.even, log: {topic: b}}
- {id: rest, from: [r.rest], log: {topic: c}}
"""
)


async def test_route_first_match_takes_the_record(compiled: Any) -> None:
    chain = await compiled(ROUTE % "")
    outs, _, counts = run(chain, [record({"n": n}) for n in (4, 12, 13)])
    by = dict(zip(chain.targets, map(values, outs), strict=True))
    assert by == {"small": [{"n": 4, "size": "s"}], "even": [{"n": 12}], "rest": [{"n": 13}]}
    assert counts["r", "output:small"] == counts["r", "output:even"] == counts["r", "output:rest"] == 1


async def test_route_all_matches_each_take_the_record(compiled: Any) -> None:
    chain = await compiled(ROUTE % ", match: all")
    outs, _, _ = run(chain, [record({"n": n}) for n in (4, 12, 13)])
    by = dict(zip(chain.targets, map(values, outs), strict=True))
    assert by == {"small": [{"n": 4, "size": "s"}], "even": [{"n": 4}, {"n": 12}], "rest": [{"n": 13}]}


async def test_a_record_that_fails_on_one_branch_leaves_nothing_on_the_others(compiled: Any) -> None:
    chain = await compiled(
        SOURCE
        + """
stages:
- {id: one, set: {a: 1}}
- {id: two, from: source, filter: n > 0}
sinks:
- {id: x, from: one, log: {topic: x}}
- {id: y, from: two, log: {topic: y}}
"""
    )
    outs, failed, _ = run(chain, [record({"n": 1}), record({"n": "?"}), record({"n": 0})])
    assert [len(out) for out in outs] == [2, 1]
    assert len(failed) == 1


async def test_flatten_makes_a_record_of_each_element_or_of_none(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- flatten: items\n- filter: items > 1\n- set: {n: items * 2}\n" + SINK)
    [rows], failed, counts = run(
        chain,
        [record({"o": 1, "items": [1, 2, 3]}), record({"o": 2, "items": []}), record({"o": 3, "items": [5, "x"]})],
    )
    assert values(rows) == [{"o": 1, "items": 2, "n": 4}, {"o": 1, "items": 3, "n": 6}]
    assert len(failed) == 1
    assert counts["flatten", "elements"] == 5


async def test_flatten_as_and_only(compiled: Any) -> None:
    named = await compiled(SOURCE + "stages:\n- flatten: {list: a.items, as: item}\n" + SINK)
    assert values(run(named, [record({"a": {"items": [1], "z": 1}})])[0][0]) == [{"a": {"z": 1}, "item": 1}]
    only = await compiled(SOURCE + "stages:\n- flatten: {list: items, only: true}\n- filter: n > 1\n" + SINK)
    assert values(run(only, [record({"items": [{"n": 1}, {"n": 2}]})])[0][0]) == [{"n": 2}]


async def test_sink_key_headers_and_metadata(compiled: Any) -> None:
    chain = await compiled(
        SOURCE + "stages:\n- set: {where: _topic, p: _partition, o: _offset, k: _key, t: _timestamp}\n"
        "sink: {log: {topic: out, key: user}}\n"
    )
    [rows], _, _ = run(chain, [record({"user": 7}, offset=9)])
    assert rows[0][0] == b"7"
    assert values(rows) == [{"user": 7, "where": "in", "p": 3, "o": 9, "k": "k", "t": 5}]


async def test_stamp(compiled: Any) -> None:
    chain = await compiled(
        SOURCE + "stages:\n- stamp: {as: meta, headers: true, include: [pipeline, stage, id]}\n" + SINK
    )
    [rows], _, _ = run(chain, [record({}, offset=9, headers=(("a", b"b"),))])
    assert values(rows) == [{"meta": {"pipeline": "p", "stage": "stamp", "id": "in-3-9"}}]
    assert rows[0][3] == (
        ("a", b"b"), ("streamd.pipeline", b"p"), ("streamd.stage", b"stamp"), ("streamd.id", b"in-3-9"),
    )  # fmt: skip


async def test_batch_stage_splits_the_chain(compiled: Any, tmp_path: Path) -> None:
    chains = await compiled(SOURCE + "stages:\n- filter: n > 1\n- rate_limit: 10/s\n- set: {m: n + 1}\n" + SINK)
    [records], _, _ = run(chains["source"], [record({"n": 1}), record({"n": 2}, offset=8)])
    assert [(r.value, r.topic, r.partition, r.offset, r.key) for r in records] == [({"n": 2}, "in", 3, 8, b"k")]
    [rows], _, _ = run(chains["rate_limit"], records)
    assert values(rows) == [{"n": 2, "m": 3}]
    [rows], failed, _ = run(chains["rate_limit"], [Record({"n": "x"})])
    assert (rows, len(failed)) == ([], 1)


async def test_tombstones_are_errors_unless_told(compiled: Any) -> None:
    text = (
        "name: p\nkafka: {bootstrap: 'localhost:1'}\nsource: {kafka: {topic: in%s}}\n"
        "stages: [{filter: n > 1}]\nsink: {kafka: {topic: out}}\n"
    )
    _, failed, _ = run(await compiled(text % ""), [record(None)])
    assert len(failed) == 1
    [rows], failed, _ = run(await compiled(text % ", tombstones: forward"), [record(None)])
    assert (rows, failed) == ([(b"k", None, 5, ())], [])
    [rows], failed, counts = run(await compiled(text % ", tombstones: drop"), [record(None)])
    assert (rows, failed, counts["source", "filtered"]) == ([], [], 1)


@pytest.mark.parametrize(
    ("ts", "passes"),
    [(1_700_000_000_000, True), ("2024-05-01T00:00:00Z", True), (9e15, False), ("soon", False), (None, False)],
)
async def test_event_time_becomes_the_timestamp_and_the_far_future_is_refused(
    compiled: Any, ts: Any, passes: bool
) -> None:
    chain = await compiled(
        "name: p\nkafka: {bootstrap: 'localhost:1'}\n"
        "source: {kafka: {topic: in, event_time: {field: ts, max_future: 1h}}}\n"
        "sink: {kafka: {topic: out}}\n"
    )
    [rows], failed, _ = run(chain, [record({"ts": ts})])
    assert (len(rows), len(failed)) == ((1, 0) if passes else (0, 1))
    if passes:
        assert rows[0][2] in (1_700_000_000_000, 1_714_521_600_000)


async def test_the_last_reader_of_a_document_changes_it_in_place(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- set: {a: a + 1, n: 1}\n- drop: b\n" + SINK)
    assert "d['a'] = a\n" in chain.source
    assert "{**" not in chain.source
    [rows], failed, _ = run(chain, [record(b'{"b":1,"a":1,"c":2}'), record({"a": 2}), record({"b": 1})])
    assert [row[1] for row in rows] == [b'{"a":2,"c":2,"n":1}', b'{"a":3,"n":1}']
    assert len(failed) == 1


async def test_a_record_that_fails_after_its_document_was_changed_is_as_it_came(compiled: Any) -> None:
    chain = await compiled(SOURCE + "stages:\n- set: {a: a * a}\n- drop: b\n" + SINK)
    raw = b'{"a": 9223372036854775807, "b": 1}'
    [rows], failed, _ = run(chain, [record(raw), record({"a": 2})])
    assert values(rows) == [{"a": 4}]
    assert [(failure.value, chain.owner_of(error)) for failure, error in failed] == [(raw, "sink")]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("- set: {copy: _value, a: 2}\n- drop: b\n", [{"a": 2, "copy": {"a": 1, "b": 1, "l": [1, 2]}, "l": [1, 2]}]),
        ("- set: {a: 2}\n- drop: b\n- set: {copy: _value, c: 3}\n",
         [{"a": 2, "c": 3, "copy": {"a": 2, "l": [1, 2]}, "l": [1, 2]}]),
        ("- drop: b\n- flatten: l\n- set: {a: a + l}\n", [{"a": 2, "l": 1}, {"a": 3, "l": 2}]),
        ("- drop: b\n- flatten: l\n- set: {a: a + len(_value)}\n", [{"a": 3, "l": 1}, {"a": 3, "l": 2}]),
        ("- drop: b\n- set: {l: '[_value, _value]'}\n- flatten: {list: l, only: true}\n- set: {a: a + 1}\n",
         [{"a": 2, "l": [1, 2]}, {"a": 2, "l": [1, 2]}]),
        ("- drop: b\n- transform: {operations: [{set: {a: 5}}, {set: {c: 1 / 0 }}], on_failure: rollback}\n",
         [{"a": 1, "l": [1, 2]}]),
    ],
)  # fmt: skip
async def test_a_document_that_others_have_is_not_changed(compiled: Any, stages: str, expected: list[Any]) -> None:
    chain = await compiled(SOURCE + "stages:\n" + stages + SINK)
    [rows], failed, _ = run(chain, [record({"a": 1, "b": 1, "l": [1, 2]})])
    assert not failed
    assert values(rows) == expected


async def test_each_of_several_ways_out_has_its_own_changes(compiled: Any) -> None:
    chain = await compiled(
        SOURCE
        + "stages:\n- {id: one, drop: b, from: source}\n- {id: two, set: {a: a + 1}, from: one}\n"
        + "- {id: three, set: {a: a * 10, c: _value}, from: one}\n- {id: cut, drop: a, from: one}\n"
        + "- {id: way, route: {outputs: {high: a > 1}, otherwise: low}, from: one}\n"
        + "- {id: high, set: {h: 1}, from: way.high}\n- {id: low, set: {l: 1}, from: way.low}\n"
        + "sinks:\n"
        + "".join(f"  out_{name}: {{from: {name}, log: {{topic: {name}}}}}\n" for name in WAYS)
    )
    outs, failed, _ = run(chain, [record({"a": 1, "b": 1}), record({"b": 1, "a": 2, "d": 0})])
    assert not failed
    assert {target.removeprefix("out_"): values(rows) for target, rows in zip(chain.targets, outs, strict=True)} == WAYS


WAYS = {
    "two": [{"a": 2}, {"a": 3, "d": 0}],
    "three": [{"a": 10, "c": {"a": 10}}, {"a": 20, "c": {"a": 20, "d": 0}, "d": 0}],
    "cut": [{}, {"d": 0}],
    "high": [{"a": 2, "d": 0, "h": 1}],
    "low": [{"a": 1, "l": 1}],
}


async def test_a_field_may_have_any_name_of_the_generated_code(compiled: Any) -> None:
    """A failing record takes back its own rows alone, also where a field is called as the place up to which that is."""
    names = ["mark_0", "mark_1", "mark_0_2", "source", "error", "failed", "counts"]
    stages = "".join(
        f"- {{id: s{i}, from: {f's{i - 1}' if i else 'in'}, set: {{{n}: n}}}}\n" for i, n in enumerate(names)
    )
    chain = await compiled(
        f"name: p\nsources:\n- {{id: in, log: {{topic: in}}}}\nstages:\n{stages}"
        f"- {{id: u, from: s{len(names) - 1}, set: {{q: 10 / n}}}}\nsinks:\n"
        "- {id: one, from: s0, log: {topic: one}}\n- {id: two, from: u, log: {topic: two}}\n"
    )
    for plain in (False, True):
        [one, two], failed, _ = run(chain, [record({"n": n}) for n in (1, 2, 0, 5)], plain=plain)
        assert [value["n"] for value in values(one)] == [value["n"] for value in values(two)] == [1, 2, 5]
        assert len(failed) == 1

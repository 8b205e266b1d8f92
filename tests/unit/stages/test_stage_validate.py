"""The stage `validate`: what each rule means, what becomes of records that break some, and what is refused."""

from __future__ import annotations

import orjson
import pytest

from streamd.errors import FatalError

DEAD = "on_error: {dead_letter: {log: {topic: dead}}}\n"


# Documents that are parsed whole, and those of which only the fields in use are decoded.
@pytest.fixture(params=["", "- map: {broken: broken}\n"], ids=["whole", "fields"])
def judged(through, request):
    """`await judged(rule, *documents)`: for each document the names of the rules that it breaks."""

    async def run(rules, *documents, schema=""):
        stages = f"stages:\n- validate: {{{schema}rules: [{rules}], action: tag, tag: broken}}\n{request.param}"
        return [one["broken"] for one in await through(stages, *documents)]

    return run


VALUES = {
    "range: [0, 10]": ([0, 10, 5.5, None], [-1, 10.1, "5", True, [1], {}]),
    "range: [null, 10]": ([-1e300, 10, None], [11, "5", False]),
    "range: [0, null]": ([0, 1e300, None], [-0.1, "x"]),
    "pattern: '^a+$'": (["a", "aaa", None], ["", "ba", 1, True, ["a"], {"a": 1}]),
    "in: [DE, FR]": (["DE", "FR", None], ["US", "de", 1, True, ["DE"], {}]),
    "in: [1, true, x]": ([1, 1.0, True, "x", None], [0, False, "1", [1], {}]),
    "freshness: 1h, name: v_f": ([4_000_000_000_000, 4e12, "2999-01-01T00:00:00Z", None], [0, "1999-01-01", "x", True]),
    "references: {file: t.csv, column: code}, name: v_r": (["DE", "7", 7, 7.0, None], ["US", 8, True, ["DE"], {}]),
    "references: {file: t.json, column: code}, name: v_r": (["DE", 7, 7.0, None], ["7", 1, ["DE"], {}]),
}


@pytest.mark.parametrize("rule", VALUES)
@pytest.mark.parametrize("path", ["v", "a.v", "get(a, [{}])[0].v"])
async def test_a_rule_about_a_field(judged, app, rule, path):
    (app.folder / "t.csv").write_text("code,name\nDE,x\n7,y\nDE,z\n")
    (app.folder / "t.json").write_text('[{"code": "DE"}, {"code": 7}, {"code": true}]')
    good, bad = VALUES[rule]
    if "t.json" in rule:
        good = [*good, True]

    def document(value):
        return {"v": {"v": value}, "a.v": {"a": {"v": value}}}.get(path, {"a": [{"v": value}]})

    documents = [document(value) for value in (*good, *bad)]
    missing = [{"other": 1}, {"a": "text"}, {"a": None}] if "get" not in path else [{"other": 1}]
    found = await judged(f"{{name: n, field: '{path}', {rule.partition(', name')[0]}}}", *documents, *missing)
    expected = [[] for _ in good] + [["n"] for _ in bad] + [[] for _ in missing]
    assert dict(zip(map(orjson.dumps, [*documents, *missing]), found, strict=True)) == dict(
        zip(map(orjson.dumps, [*documents, *missing]), expected, strict=True)
    )


async def test_not_null(judged):
    rule = "{not_null: [a, b.c]}"
    documents = [{"a": 0, "b": {"c": ""}}, {"a": None, "b": {"c": 1}}, {"a": 1}, {"a": 1, "b": "c"}, {}]
    broken = ["a_b_c_not_null"]
    assert await judged(rule, *documents) == [[], broken, broken, broken, broken]


async def test_a_check_is_broken_where_it_has_no_value(judged):
    rule = "{name: adds_up, check: 'total == sum(items)'}"
    documents = [{"total": 3, "items": [1, 2]}, {"total": 4, "items": [1, 2]}, {"total": 3}, {"total": 3, "items": "x"}]
    assert await judged(rule, *documents) == [[], ["adds_up"], ["adds_up"], ["adds_up"]]


async def test_freshness_is_by_the_records_own_time_where_no_field_is_named(through):
    settings = (
        "source: {log: {topic: in, event_time: {field: t, max_future: null}}}\nsink: {log: {topic: out}}\nname: p\n"
    )
    stages = "stages:\n- validate: {rules: [{freshness: 1d}], action: tag}\n"
    documents = [{"t": 4_000_000_000_000}, {"t": 1_000_000_000_000}]
    assert [one["failed_rules"] for one in await through(settings + stages, *documents)] == [[], ["freshness"]]


async def test_all_broken_rules_are_told_in_the_order_written(judged):
    rules = "{field: a, range: [0, 1]}, {field: b, in: [x]}, {not_null: c}"
    assert await judged(rules, {"a": 2, "b": "y"}, {"a": 2, "b": "x", "c": 1}) == [
        ["a_range", "b_in", "c_not_null"], ["a_range"],
    ]  # fmt: skip


ACTIONS = "stages:\n- validate: {rules: [{name: low, field: v, range: [1, null], action: %s}]}\n"


async def test_what_passes_is_counted(through, app):
    values = [{"v": 0}, {"v": 1}, {"v": 2}]
    assert await through(ACTIONS % "pass", *values) == values
    assert app.total("streamd_quality_checks_total", rule="low", result="failed") == 1
    assert app.total("streamd_quality_checks_total", rule="low", result="passed", severity="error") == 2


async def test_what_is_dropped_counts_as_filtered(through, app):
    assert await through(ACTIONS % "drop", {"v": 0}, {"v": 1}) == [{"v": 1}]
    assert app.total("streamd_stage_filtered_records_total", stage="validate") == 1
    assert app.total("streamd_quality_checks_total", rule="low", result="failed") == 1


async def test_a_dead_letter_names_the_rules_and_nothing_of_the_record(app):
    await app.seed([{"v": 0, "w": "secret"}, {"v": 1}])
    rules = "{name: low, field: v, range: [1, null], action: dead_letter}, {field: w, in: [x], severity: info}"
    await app.run(DEAD + _pipeline(f"rules: [{rules}]"))
    [dead] = await app.records("dead")
    headers = dict(dead.headers)
    assert orjson.loads(dead.value) == {"v": 0, "w": "secret"}
    assert headers["streamd.message"] == b"the record breaks the rules low, w_in"
    assert (headers["streamd.error"], headers["streamd.stage"]) == (b"InvalidRecordError", b"validate")
    assert await app.values() == [{"v": 1}]
    assert app.total("streamd_quality_checks_total", result="failed") == 2


def _pipeline(settings, more=""):
    head = "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n"
    return f"{head}stages:\n- validate: {{{settings}}}\n{more}"


async def test_dead_letters_of_the_rules_whatever_on_error_says_otherwise(app):
    await app.seed([{"v": 0}, {"w": 1}, {"v": 1, "w": 1}])
    on_error = "- map: {w: w}\n  on_error: skip\n"
    settings = "rules: [{name: low, field: v, range: [1, null], action: dead_letter}]"
    await app.run(DEAD + _pipeline(settings, on_error))
    assert await app.values() == [{"w": 1}, {"w": 1}]
    assert len(await app.records("dead")) == 1


async def test_stop_stops_whatever_on_error_says(app):
    await app.seed([{"v": 1}, {"v": 0}])
    with pytest.raises(FatalError, match="InvalidRecordError: the record breaks the rule low"):
        await app.run(
            "on_error: skip\n" + _pipeline("rules: [{name: low, field: v, range: [1, null], severity: critical}]")
        )
    assert await app.values() == []


async def test_an_error_without_an_action_is_for_on_error(app):
    await app.seed([{"v": 1}, {"v": 0}])
    await app.run("on_error: skip\n" + _pipeline("rules: [{name: low, field: v, range: [1, null]}]"))
    assert await app.values() == [{"v": 1}]
    assert app.total("streamd_skipped_records_total", error="InvalidRecordError") == 1


async def test_the_strictest_action_is_done(app):
    await app.seed(
        [{"a": 0, "b": 0, "c": 0}, {"a": 1, "b": 0, "c": 0}, {"a": 1, "b": 1, "c": 0}, {"a": 1, "b": 1, "c": 1}]
    )
    rules = ", ".join(
        f"{{field: {name}, range: [1, null], action: {action}}}"
        for name, action in (("a", "dead_letter"), ("b", "drop"), ("c", "tag"))
    )
    await app.run(DEAD + _pipeline(f"rules: [{rules}]"))
    assert await app.values() == [
        {"a": 1, "b": 1, "c": 0, "failed_rules": ["c_range"]},
        {"a": 1, "b": 1, "c": 1, "failed_rules": []},
    ]
    [dead] = await app.records("dead")
    assert b"a_range, b_range, c_range" in dict(dead.headers)["streamd.message"]
    assert app.total("streamd_stage_filtered_records_total", stage="validate") == 1


async def test_a_tag_in_a_header_is_there_where_a_rule_is_broken(app):
    await app.seed([{"v": 0}, {"v": 1}])
    await app.run(_pipeline("rules: [{field: v, range: [1, 2]}, {not_null: x}], action: tag, tag: {header: bad}"))
    assert [dict(record.headers).get("bad") for record in await app.records("out")] == [
        b"v_range,x_not_null",
        b"x_not_null",
    ]


async def test_a_stage_action_is_for_the_rules_without_one(through):
    rules = "[{field: v, range: [1, null]}, {not_null: x, action: tag}]"
    stages = f"stages:\n- validate: {{rules: {rules}, action: drop}}\n"
    assert await through(stages, {"v": 1}, {"v": 0, "x": 1}) == [{"v": 1, "failed_rules": ["x_not_null"]}]


WRONG = [
    ("rules: []", "expected a `schema` or `rules`"),
    ("rules: [{field: a}]", "it says nothing that is to hold: write one of not_null, range,"),
    ("rules: [{field: a, range: [0, 1], in: [1]}]", "range and in are two rules"),
    ("rules: [{range: [0, 1]}]", "`range` needs a `field` to look at"),
    ("rules: [{field: a, not_null: b}]", "`not_null` takes no `field`"),
    ("rules: [{field: a, range: [2, 1]}]", "the smaller number first"),
    ("rules: [{field: a, range: [null, null]}]", "[least, greatest]"),
    ("rules: [{field: a, pattern: '('}]", "not a regular expression"),
    ("rules: [{field: a, pattern: '(a+)+$'}]", "could take too long"),
    ("rules: [{field: a, range: [0, 1]}, {field: a, range: [2, 3]}]", "the name 'a_range' is that of 2 checks"),
    ("rules: [{unique: a}]", "`unique` and `within` belong together"),
    ("rules: [{not_null: a, within: 1m}]", "`unique` and `within` belong together"),
    ("rules: [{unique: a, within: 1m}, {unique: b, within: 1m}]", "two rules are `unique`"),
    ("rules: [{not_null: a}]\n    tag: a.b", "the name of a field that is not inside another"),
    ("rules: [{not_null: 'a b'}]", "is no field's name"),
    ("rules: [{name: 'a b', not_null: a}]", "letters, digits"),
    ("rules: [{field: a, references: {file: t.txt, column: a}}]", "expected a name that ends in"),
    ("rules: [{not_null: a, action: dead_letter}]", "the pipeline has none"),
    ("rules: [{not_null: a, severity: bad}]", "must be one of info, warning, error, critical"),
    ("schema: {json_schema: a.json, avro: b.avsc}", "write either json_schema or avro"),
    ("rules: [{check: 'a =='}]", "the expression ends too early"),
]


def test_a_schema_written_in_place_is_checked_where_it_stands(refused):
    yaml = "stages:\n- validate:\n    schema:\n      json_schema:\n        properties:\n          a: {type: objct}\n"
    [problem] = refused(yaml)
    assert (problem.place.line, problem.place.column) == (9, 21)
    assert 'json_schema.properties.a.type` of stage `validate`: no JSON Schema: "objct" is not valid' in problem.message


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_a_mistake_is_told_with_its_place(refused, settings, message):
    [problem] = refused(f"stages:\n- validate:\n    {settings}\n")
    assert message in str(problem.message) + str(problem.expected)
    assert problem.place.line >= 5


@pytest.mark.parametrize("unique", ["", ", {unique: id, within: 1h, action: drop}"])
async def test_names_that_were_told_before_stay(through, unique):
    """Those of another stage; not those of the same one, which a record that is replayed brings along."""
    stages = (
        "stages:\n"
        "- {id: one, validate: {rules: [{name: first, field: a, range: [0, 10]}], action: tag}}\n"
        f"- {{id: two, validate: {{rules: [{{name: second, field: b, range: [0, 10]}}{unique}], action: tag}}}}\n"
    )
    documents = [
        {"id": 1, "a": 99, "b": 1},
        {"id": 2, "a": 99, "b": 99},
        {"id": 3, "a": 1, "b": 99},
        {"id": 4, "a": 1, "b": 1},
        {"id": 5, "a": 99, "b": 1, "failed_rules": ["first", "second", {"x": 1}]},
        {"id": 6, "a": 1, "b": 99, "failed_rules": "mine"},
    ]
    assert [one["failed_rules"] for one in await through(stages, *documents)] == [
        ["first"], ["first", "second"], ["second"], [], [{"x": 1}, "first"], ["second"],
    ]  # fmt: skip

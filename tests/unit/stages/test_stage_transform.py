"""The stage `transform`: what its operations do to records, and that one that fails leaves the record as it was."""

from __future__ import annotations

import json

import pytest

SHOP = {
    "items": [{"sku": "a", "price": 5, "n": 2}, {"sku": "b", "price": 20, "n": 1}, {"sku": "a", "price": 7, "n": 1}],
    "user": {"name": "Ada"},
    "limit": 6,
}


def _stage(*operations, **settings):
    """One stage `transform` in JSON, which is YAML."""
    return "stages:\n- transform: " + json.dumps({"operations": list(operations), **settings}) + "\n"


@pytest.fixture
def transformed(through):
    """`await transformed(document, operation…)`: fields that are new or other; None for those that are gone."""

    async def run(document, *operations):
        [out] = await through(_stage(*operations), document)
        changed = {name: value for name, value in out.items() if name not in document or document[name] != value}
        return changed | dict.fromkeys(document.keys() - out.keys())

    return run


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("$.items[*].sku", ["a", "b", "a"]),
        ("$.user.name", ["Ada"]),
        ("$.user.age", []),
        ("$.items[-1].price", [7]),
        ("$.items[9].price", []),
        ("$.user[0]", []),
        ("$", [SHOP]),
        ("$[0]", []),
        ("$..name", ["Ada"]),
        ("$.items[?@.price > $.limit].price", [20, 7]),
        ({"path": "$.items[?@.price > 6].price", "as": "first"}, 20),
        ({"path": "$.items[?@.price > 60].price", "as": "first"}, None),
        ({"path": "$.user.name", "as": "first"}, "Ada"),
        ({"path": "$.user.age", "as": "first"}, None),
        ({"path": "$.user.name", "as": "one"}, "Ada"),
        ({"path": "$.items[?@.price == 20].sku", "as": "one"}, "b"),
        ({"path": "$.items[*]", "as": "count"}, 3),
        ({"path": "$.user.name", "as": "count"}, 1),
        ({"path": "$.user.age", "as": "count"}, 0),
        ({"path": "$.items[?@.n == 2]", "as": "exists"}, True),
        ({"path": "$.items[?@.n == 3]", "as": "exists"}, False),
        ({"path": "$.user.name", "as": "exists"}, True),
        ({"path": "$.items[?@.n == 1]", "as": "paths"}, ["$['items'][1]", "$['items'][2]"]),
        ({"path": "$[?@.n == 1].sku", "from": "items"}, ["b", "a"]),
        ({"path": "$[1].sku", "from": "items"}, ["b"]),
        ({"path": "$", "from": "limit"}, [6]),
        ({"path": "$[?@ > 1]", "from": "[x.price for x in items]"}, [5, 20, 7]),
        ({"path": "$[*]", "from": "items", "as": "paths"}, ["$[0]", "$[1]", "$[2]"]),
    ],
)
async def test_select(transformed, selection, expected):
    assert await transformed(SHOP, {"select": {"out": selection}}) == {"out": expected}


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"set": {"total": "sum(i.price * i.n for i in items)", "user.age": 36}},
         {"total": 37, "user": {"name": "Ada", "age": 36}}),
        ({"drop": ["items", "user.name", "nothing"]}, {"items": None, "user": {}}),
        ({"drop": "limit"}, {"limit": None}),
        ({"template": {"out": 'Hello {user.name}, {"dear" if limit > 5 else "cheap"}: {limit:.1f}\\n"{{x}}"'}},
         {"out": 'Hello Ada, dear: 6.0\\n"{x}"'}),
        ({"template": {"out": "two\nlines and ''' of {limit}"}}, {"out": "two\nlines and ''' of 6"}),
        ({"rename": {"limit": "most", "user.name": "name"}}, {"limit": None, "most": 6, "user": {}, "name": "Ada"}),
        ({"rename": {"limit": "user", "user": "limit"}}, {"limit": {"name": "Ada"}, "user": 6}),
        ({"rename": {"limit": "limit"}}, {}),
        ({"rename": {"user.name": "user"}}, {"user": "Ada"}),
        ({"rename": {"nothing": {"to": "user", "on_missing": "skip"}}}, {}),
        ({"rename": {"user": "user.inner"}}, {"user": {"inner": {"name": "Ada"}}}),
        ({"rename": {"nothing": {"to": "x", "on_missing": "skip"}, "limit": {"to": "y", "on_missing": "skip"}}},
         {"limit": None, "y": 6}),
        ({"nest": {"of.it": ["limit", "user.name"]}},
         {"limit": None, "user": {}, "of": {"it": {"limit": 6, "name": "Ada"}}}),
        ({"nest": {"it": {"prefix": "li"}}}, {"limit": None, "it": {"mit": 6}}),
        ({"nest": {"it": {"prefix": "x_"}}}, {}),
        ({"unnest": "user"}, {"user": None, "name": "Ada"}),
        ({"unnest": {"user": {"prefix": "user_"}}}, {"user": None, "user_name": "Ada"}),
        ({"filter": {"list": "items", "where": "item.price > limit", "as": "dear"}}, {"dear": SHOP["items"][1:]}),
        ({"filter": {"list": "items", "where": "i.sku == 'b'", "each": "i"}}, {"items": SHOP["items"][1:2]}),
        ({"map": {"list": "items", "value": "item.price * item.n", "as": "out"}}, {"out": [10, 20, 7]}),
        ({"map": {"list": "items", "fields": {"s": "item.sku", "x-y": "limit"}, "as": "out"}},
         {"out": [{"s": "a", "x-y": 6}, {"s": "b", "x-y": 6}, {"s": "a", "x-y": 6}]}),
        ({"map": {"list": "items", "fields": {"s": "f'{user.name} {item.sku}'", "n": "item.n"}, "as": "out"}},
         {"out": [{"s": "Ada a", "n": 2}, {"s": "Ada b", "n": 1}, {"s": "Ada a", "n": 1}]}),
        ({"map": {"list": "[3, 1]", "value": "item + limit", "as": "out"}}, {"out": [9, 7]}),
        ({"sort": {"list": "items", "by": "item.price"}},
         {"items": [SHOP["items"][0], SHOP["items"][2], SHOP["items"][1]]}),
        ({"sort": {"list": "items", "by": ["item.sku", "desc(item.price)"]}},
         {"items": [SHOP["items"][2], SHOP["items"][0], SHOP["items"][1]]}),
        ({"sort": {"list": "[2, null, 3, 1]", "by": "desc(item)", "as": "out"}}, {"out": [3, 2, 1, None]}),
        ({"sort": {"list": "[2, null, 3, 1]", "by": "asc(item)", "as": "out"}}, {"out": [1, 2, 3, None]}),
        ({"sort": {"list": "items", "by": "desc(item.price * item.n)", "as": "out"}},
         {"out": [SHOP["items"][1], SHOP["items"][0], SHOP["items"][2]]}),
        ({"sort": {"list": "items", "by": ["item.sku", "item.price if item.price > 5 else null"]}},
         {"items": [SHOP["items"][2], SHOP["items"][0], SHOP["items"][1]]}),
        ({"sort": {"list": "[3, 1, 2]", "each": "limit", "by": "limit % _value.limit", "as": "out"}},
         {"out": [1, 2, 3]}),
        ({"sort": {"list": "[3, 1, 2]", "by": "item - 1", "as": "out"}}, {"out": [1, 2, 3]}),
        ({"map": {"list": "items", "value": "item.sku * item.n", "as": "out"}}, {"out": ["aa", "b", "a"]}),
        ({"map": {"list": "[2, 0.5, true, 'x', [1]]", "value": "item * 2", "as": "out"}},
         {"out": [4, 1.0, 2, "xx", [1, 1]]}),
        ({"map": {"list": "items", "value": "limit * item.n * item.sku", "as": "out"}},
         {"out": ["a" * 12, "b" * 6, "a" * 6]}),
        ({"map": {"list": "items", "value": "item.n * item.sku if item.n > 1 else item.n * 1", "as": "out"}},
         {"out": ["aa", 1, 1]}),
        ({"map": {"list": "items", "value": "f'{item.price * item.n!s:>4} EUR'", "as": "out"}},
         {"out": ["  10 EUR", "  20 EUR", "   7 EUR"]}),
        ({"map": {"list": "items", "fields": {"s": "item.sku * 2", "n": "sum(x for x in [item.n * 2])"}, "as": "out"}},
         {"out": [{"s": "aa", "n": 4}, {"s": "bb", "n": 2}, {"s": "aa", "n": 2}]}),
        ({"filter": {"list": "items", "where": "item.price * item.n >= 10 and item.n", "as": "out"}},
         {"out": SHOP["items"][:2]}),
        ({"filter": {"list": "items", "where": "item.sku * item.n == 'aa'", "as": "out"}}, {"out": SHOP["items"][:1]}),
        ({"group": {"list": "[1, true, 1.0, [1], [true]]", "by": "item", "as": "out"}},
         {"out": [{"key": 1, "items": [1, 1.0]}, {"key": True, "items": [True]}, {"key": [1], "items": [[1]]},
                  {"key": [True], "items": [[True]]}]}),
        ({"group": {"list": "items", "by": "item.sku", "shape": "object"}},
         {"items": {"a": [SHOP["items"][0], SHOP["items"][2]], "b": [SHOP["items"][1]]}}),
        ({"unique": {"list": "items", "by": "item.sku"}}, {"items": SHOP["items"][:2]}),
        ({"unique": {"list": "[1, true, 1.0, {'a': 1}, {'a': 1}]", "as": "out"}}, {"out": [1, True, {"a": 1}]}),
        ({"flatten": {"list": "[[1, [2]], 3, [[4]]]", "as": "out"}}, {"out": [1, [2], 3, [4]]}),
        ({"flatten": {"list": "[[1, [2, [3]]], 3]", "depth": 2, "as": "out"}}, {"out": [1, 2, [3], 3]}),
        ({"zip": {"lists": ["[1, 2]", "['a', 'b']"], "as": "out"}}, {"out": [[1, "a"], [2, "b"]]}),
        ({"zip": {"lists": {"n": "[1, 2]", "s": "['a']"}, "length": "longest", "as": "out"}},
         {"out": [{"n": 1, "s": "a"}, {"n": 2, "s": None}]}),
        ({"zip": {"lists": ["[1, 2]", "[3]"], "length": "shortest", "as": "out"}}, {"out": [[1, 3]]}),
        ({"pivot": {"list": "items", "key": "item.sku", "value": "item.price", "duplicates": "last", "as": "out"}},
         {"out": {"a": 7, "b": 20}}),
        ({"pivot": {"list": "items", "key": "item.sku", "value": "item.price", "duplicates": "first", "as": "out"}},
         {"out": {"a": 5, "b": 20}}),
        ({"pivot": {"list": "items", "key": "item.sku", "value": "item.price", "duplicates": "list", "as": "out"}},
         {"out": {"a": [5, 7], "b": [20]}}),
        ({"unpivot": {"object": "user", "key": "what", "value": "is", "as": "out"}},
         {"out": [{"what": "name", "is": "Ada"}]}),
        ({"unpivot": {"object": "user"}}, {"user": [{"key": "name", "value": "Ada"}]}),
        ({"merge": {"with": '{"user": {"age": 36}, "limit": 7}'}}, {"user": {"name": "Ada", "age": 36}, "limit": 7}),
        ({"merge": {"with": '{"age": 36}', "into": "user"}}, {"user": {"name": "Ada", "age": 36}}),
        ({"merge": {"with": '{"age": 36}', "into": "new"}}, {"new": {"age": 36}}),
        ({"merge": {"with": '{"age": 36, "name": null}', "into": "user"}}, {"user": {"name": None, "age": 36}}),
        ({"merge": {"with": '{"age": 36, "name": null}', "into": "user", "nulls": "remove"}}, {"user": {"age": 36}}),
        ({"merge": {"with": '{"name": "Bea"}', "into": "user", "wins": "old"}}, {}),
        ({"merge": {"with": "{}", "into": "new"}}, {"new": {}}),
        ({"merge": {"with": '{"user": 1, "x-y": "it\\"s", "": true, "f": -1.5}'}},
         {"user": 1, "x-y": 'it"s', "": True, "f": -1.5}),
        ({"rename": {"limit": "user.most"}}, {"limit": None, "user": {"name": "Ada", "most": 6}}),
        ({"rename": {"limit": "new.most"}}, {"limit": None, "new": {"most": 6}}),
        ({"rename": {"user.name": "user.called"}}, {"user": {"called": "Ada"}}),
        ({"rename": {"user.name": "user.name"}}, {}),
        ({"patch": [{"op": "remove", "path": "/limit"}, {"op": "add", "path": "/user/age", "value": 36}]},
         {"limit": None, "user": {"name": "Ada", "age": 36}}),
        ({"patch": {"in": "items", "operations": [{"op": "remove", "path": "/0"}]}}, {"items": SHOP["items"][1:]}),
        ({"patch": {"in": "limit", "operations": [{"op": "replace", "path": "", "value": [1]}]}}, {"limit": [1]}),
        ({"patch": {"from": '[{"op": "copy", "from": "/limit", "path": "/most"}]'}}, {"most": 6}),
        ({"when": "limit > 5", "then": [{"set": {"tier": "'gold'"}}], "else": [{"set": {"tier": "'silver'"}}]},
         {"tier": "gold"}),
        ({"when": "limit > 6", "then": [{"set": {"tier": "'gold'"}}], "else": [{"set": {"tier": "'silver'"}}]},
         {"tier": "silver"}),
        ({"when": "limit > 6", "then": [{"drop": "user"}]}, {}),
        ({"when": "limit > 6", "else": [{"drop": "user"}]}, {"user": None}),
        ({"when": "limit < 7", "then":
         [{"when": "limit < 6", "then": [{"drop": "user"}], "else": [{"set": {"a": 1}}]}]},
         {"a": 1}),
    ],
)  # fmt: skip
async def test_operations(transformed, operation, expected):
    assert await transformed(SHOP, operation) == expected


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"select": {"out": {"path": "$.user.age", "as": "one"}}}, "finds no value"),
        ({"select": {"out": {"path": "$.items[*]", "as": "one"}}}, "finds 3 values"),
        ({"set": {"out": "nothing"}}, "'nothing' is missing"),
        ({"rename": {"nothing": "x"}}, "'nothing' is missing"),
        ({"rename": {"limit": "user"}}, "has a field 'user' already"),
        ({"rename": {"limit": {"to": "user", "on_missing": "skip"}}}, "has a field 'user' already"),
        ({"rename": {"limit": "user.name"}}, "has a field 'user.name' already"),
        ({"rename": {"user": "limit.inner"}}, "cannot set 'inner' inside a number"),
        ({"rename": {"limit": "x", "items": "x"}}, "has a field 'x' already"),
        ({"nest": {"x": ["nothing"]}}, "'nothing' is missing"),
        ({"nest": {"limit": {"prefix": "it"}}}, "nest needs an object"),
        ({"nest": {"limit": ["user.name"]}}, "cannot set 'name' inside a number"),
        ({"nest": {"user.name": ["limit"]}}, "cannot set 'limit' inside a string"),
        ({"unnest": "limit"}, "unnest needs an object"),
        ({"unnest": "nothing"}, "'nothing' is missing"),
        ({"unnest": "user"}, "also beside it"),
        ({"filter": {"list": "user", "where": "true"}}, "filter needs a list"),
        ({"filter": {"list": "items", "where": "item.nothing"}}, "'nothing' is missing"),
        ({"map": {"list": "limit", "value": "item"}}, "map needs a list"),
        ({"map": {"list": "items", "value": "item.sku * item.sku"}}, "`*` cannot be used on text"),
        ({"map": {"list": "items", "value": "item.sku * 1000001"}}, "makes it longer than 1,000,000"),
        ({"map": {"list": "items", "value": "item.sku * 400000"}}, "builds more than 1,000,000"),
        ({"map": {"list": "items", "value": "item.n * item.nothing"}}, "'nothing' is missing"),
        ({"filter": {"list": "items", "where": "item.sku * 400000"}}, "builds more than 1,000,000"),
        ({"sort": {"list": "[1, 'a']", "by": "item", "as": "x"}}, "number and text have no order"),
        ({"group": {"list": "items", "by": "item.price", "shape": "object"}}, "the key is of type number"),
        ({"flatten": {"list": "limit"}}, "flatten needs a list"),
        ({"zip": {"lists": ["[1]", "[1, 2]"], "as": "x"}}, "the lists have 1 and 2 elements"),
        ({"pivot": {"list": "items", "key": "item.sku", "value": "1"}}, "two elements have the same key"),
        ({"pivot": {"list": "items", "key": "item.price", "value": "1"}}, "the key is of type number"),
        ({"unpivot": {"object": "items"}}, "unpivot needs an object"),
        ({"merge": {"with": "items"}}, "merge needs an object"),
        ({"merge": {"with": "user", "into": "limit"}}, "merge needs an object"),
        ({"merge": {"with": '{"a": 7}', "into": "limit"}}, "merge needs an object"),
        ({"merge": {"with": '{"limit": 7}', "wins": "error"}}, "both have a value"),
        ({"coerce": {"user": "int"}}, "of type object, is no int"),
        ({"coerce": {"nothing": "int"}}, "'nothing' is missing"),
        ({"patch": [{"op": "remove", "path": "/nothing"}]}, "operation 0 (remove)"),
        ({"patch": [{"op": "replace", "path": "", "value": 1}]}, "not be an object any more"),
        ({"patch": {"from": "items"}}, "operation 0 has no `op`"),
        ({"patch": {"from": "limit"}}, "the operations are a list"),
    ],
)  # fmt: skip
async def test_what_fails_is_an_error_of_the_record_and_the_record_is_what_it_was(through, app, operation, said):
    raw = json.dumps({**SHOP, "name": 1}).encode()
    stages = _stage({"set": {"limit": "limit"}}, {"drop": "other"}, operation)
    assert await through(stages + "on_error:\n  dead_letter: {log: {topic: dead}}\n", raw) == []
    [dead] = await app.records("dead")
    assert dead.value == raw
    headers = dict(dead.headers)
    assert said in headers["streamd.message"].decode()
    assert headers["streamd.stage"] == b"transform"


async def test_rollback_gives_the_record_byte_for_byte_as_it_was(through, app):
    raw = b' {"n": 1.0e2,  "a": "\\u00e9", "list": [1, 2]}'
    operations = [{"set": {"n": "n + 1", "new": 1}}, {"drop": "a"}, {"patch": [{"op": "remove", "path": "/list/1"}]},
                  {"set": {"n": "1 / (n - 101)"}}]  # fmt: skip
    await app.seed([raw, {"n": 1, "list": [1, 2], "a": 1}])
    await app.run(_stage(*operations, on_failure="rollback"))
    first, second = await app.records("out")
    assert first.value == raw
    assert json.loads(second.value) == {"n": 1 / -99, "new": 1, "list": [1]}
    assert app.total("streamd_stage_rolled_back_records_total", stage="transform") == 1
    assert app.total("streamd_failed_records_total") == 0


async def test_what_follows_a_rollback_sees_the_record_as_it_was(through):
    stages = _stage({"set": {"a": "a + 1"}}, {"set": {"b": "1 / a"}}, on_failure="rollback") + "- set: {c: a * 10}\n"
    assert await through(stages, {"a": 1}, {"a": -1}) == [{"a": 2, "b": 0.5, "c": 20}, {"a": -1, "c": -10}]


async def test_behind_a_filter_and_before_a_map(through):
    stages = "stages:\n- filter: a > 1\n" + _stage({"when": "a > 2", "then": [{"set": {"b": 1}}]})[8:]
    assert await through(stages + "- map: {a: a, b: 'get(b, 0)'}\n", {"a": 1}, {"a": 2}, {"a": 3}) == [
        {"a": 2, "b": 0},
        {"a": 3, "b": 1},
    ]


async def test_metadata_and_constants_in_expressions(through):
    out = await through(_stage({"set": {"k": "_key"}}, {"map": {"list": "l", "value": "_key + item"}}), {"l": ["x"]})
    assert out == [{"l": ["k0x"], "k": "k0"}]


async def test_constants_are_merged_into_what_is_there_or_not(through):
    stages = _stage({"merge": {"with": "{'a': 1, 'b': 'x'}", "into": "o"}})
    assert await through(stages, {"o": {"a": {"deep": 1}, "c": 2}}, {"z": 1}, {"o": {}}) == [
        {"o": {"a": 1, "c": 2, "b": "x"}},
        {"z": 1, "o": {"a": 1, "b": "x"}},
        {"o": {"a": 1, "b": "x"}},
    ]


async def test_constants_are_merged_into_the_document_whatever_was_there(through):
    stages = _stage({"merge": {"with": "{'a': 1, 'b': 'x'}"}})
    assert await through(stages, {"a": {"deep": 1}, "c": 2}) == [{"a": 1, "c": 2, "b": "x"}]


async def test_a_null_is_no_object_to_merge_into(through):
    stages = _stage({"merge": {"with": "{'a': 1}", "into": "o"}})
    assert await through(stages + "on_error: skip\n", {"o": None}, {"o": {}}) == [{"o": {"a": 1}}]


async def test_a_null_is_one_to_rename_into(through):
    assert await through(_stage({"rename": {"n": "o.n"}}), {"o": None, "n": 1}) == [{"o": {"n": 1}}]


async def test_fields_that_are_taken_out_of_an_object_are_in_its_place(through, app):
    await app.seed([{"first": 1, "o": {"b": 2, "o": {"x": 3}}, "last": 4}])
    await app.run(_stage({"unnest": "o"}))
    [out] = await app.records("out")
    assert out.value == b'{"first":1,"b":2,"o":{"x":3},"last":4}'


async def test_a_field_that_has_the_name_of_a_loop_variable(through):
    operations = [
        {"set": {"each_item": "2", "price": "3", "each_built": "5"}},
        {"sort": {"list": "l", "by": "(item.price - each_item) % 3"}},
        {"map": {"list": "l", "value": "item.price * each_item * price * each_built"}},
    ]
    assert await through(_stage(*operations), {"l": [{"price": 1}, {"price": 2}, {"price": 3}]}) == [
        {"l": [60, 90, 30], "each_item": 2, "price": 3, "each_built": 5}
    ]


async def test_an_operation_that_has_run_through_the_list_once_may_do_so_again(through):
    stages = _stage({"map": {"list": "l", "value": "item * 2"}}, {"map": {"list": "l", "value": "item * 2", "as": "m"}})
    assert await through(stages, {"l": [1, "a"]}, {"l": []}) == [
        {"l": [2, "aa"], "m": [4, "aaaa"]},
        {"l": [], "m": []},
    ]


@pytest.mark.parametrize(
    ("before", "selection", "expected"),
    [
        ({"coerce": {"u": "object"}}, {"path": "$.u.a", "as": "first"}, {"u": {"a": {"b": 1}}, "y": {"b": 1}}),
        ({"coerce": {"u": "object"}}, {"path": "$.u.a.b"}, {"u": {"a": {"b": 1}}, "y": [1]}),
        ({"coerce": {"u": "object"}}, {"path": "$.a.b", "from": "u", "as": "one"}, {"u": {"a": {"b": 1}}, "y": 1}),
        ({"coerce": {"u": "object"}}, {"path": "$.u.a", "from": "_value", "as": "count"},
         {"u": {"a": {"b": 1}}, "y": 1}),
        ({"drop": "u"}, {"path": "$.u.a", "as": "first"}, {"u": None, "y": None}),
        ({"set": {"NOTHING": "[]"}}, {"path": "$.u.a"}, {"NOTHING": [], "y": []}),
        ({"drop": "u"}, {"path": "$.u.a.b"}, {"u": None, "y": []}),
    ],
)  # fmt: skip
async def test_select_leaves_what_it_looks_into(transformed, before, selection, expected):
    another = {"select": {"z": {"path": "$.q.r", "as": "exists"}}}
    out = await transformed({"u": '{"a": {"b": 1}}'}, before, {"select": {"y": selection}}, another)
    assert out == {**expected, "z": False}

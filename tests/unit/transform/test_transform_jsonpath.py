"""JSONPath by RFC 9535: each selector, operator and function, valid and invalid; the limits of a query."""

from __future__ import annotations

import pickle

import pytest

from streamd.errors import TransformError
from streamd.expr.errors import ExpressionError
from streamd.transform.jsonpath import JsonPath, normalized

DOCUMENT = {
    "o": {"j": 1, "k": 2, "j j": {"k.k": 3}},
    "a": [5, 3, {"b": "j"}, {"b": "k"}, {"b": {}}, {"b": "kilo"}],
    "'": {"@": 4},
    "e": [],
    "n": None,
    "t": True,
    "☺": "smile",
}


def _found(path, document=DOCUMENT):
    """The nodes, which are where their locations say."""
    query = JsonPath(path)
    nodes = query.nodes(document)
    located = query.locate(document)
    assert repr([value for _, value in located]) == repr(nodes)
    for location, value in located:
        at = document
        for step in location:
            at = at[step]
        assert at is value
        assert repr(JsonPath(normalized(location)).nodes(document)) == repr([value])
    return nodes


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", [DOCUMENT]),
        # names
        ("$.o.k", [2]),
        ("$['o']['k']", [2]),
        ('$["o"]["k"]', [2]),
        ("$.o['j j']['k.k']", [3]),
        ('$.o["j j"]["k.k"]', [3]),
        ('$["\'"]["@"]', [4]),
        ("$['\\'']['@']", [4]),
        ("$.☺", ["smile"]),
        ("$['\\u263A']", ["smile"]),
        ("$.n", [None]),
        ("$.nothing", []),
        ("$.n.x", []),
        ("$.a.b", []),
        ("$ .o [ 'k' ]", [2]),
        ("$\n.o\t.k", [2]),
        # wildcards
        ("$.o[*]", [1, 2, {"k.k": 3}]),
        ("$.o.*", [1, 2, {"k.k": 3}]),
        ("$.a[*].b", ["j", "k", {}, "kilo"]),
        ("$.e[*]", []),
        ("$.t.*", []),
        ("$.o[*, *]", [1, 2, {"k.k": 3}, 1, 2, {"k.k": 3}]),
        # indexes
        ("$.a[1]", [3]),
        ("$.a[-1].b", ["kilo"]),
        ("$.a[-6]", [5]),
        ("$.a[-7]", []),
        ("$.a[6]", []),
        ("$.o[0]", []),
        ("$.☺[0]", []),
        # slices
        ("$.a[:2]", [5, 3]),
        ("$.a[4:].b", [{}, "kilo"]),
        ("$.a[0:4:2]", [5, {"b": "j"}]),
        ("$.a[1::-1]", [3, 5]),
        ("$.a[::-1].b", ["kilo", {}, "k", "j"]),
        ("$.a[-2:].b", [{}, "kilo"]),
        ("$.a[5:0:-2].b", ["kilo", "k"]),
        ("$.a[::0]", []),
        ("$.a[2:1]", []),
        ("$.a[0:100:9007199254740991]", [5]),
        ("$.o[:]", []),
        ("$.☺[:]", []),
        # several selectors
        ("$.a[0, -6, 1:2, 9]", [5, 5, 3]),
        ("$['t', 'n', 't']", [True, None, True]),
        ("$.a[?@.b == 'j', 0].b", ["j"]),
        # descendants
        ("$..k", [2]),
        ("$..b", ["j", "k", {}, "kilo"]),
        ("$..[0]", [5]),
        ("$.o..*", [1, 2, {"k.k": 3}, 3]),
        ("$.a..[?@ == 'k']", ["k"]),
        ("$..['j', 'k']", [1, 2]),
        ("$.a..b..b", []),
        ("$..[1, 0]", [3, 5]),
        # existence, and, or, not
        ("$.a[?@.b].b", ["j", "k", {}, "kilo"]),
        ("$.a[?@.*]", [{"b": "j"}, {"b": "k"}, {"b": {}}, {"b": "kilo"}]),
        ("$.a[?@[?@.b]]", []),
        ("$[?@[?@.b]][0]", [5]),
        ("$.a[?!@.b]", [5, 3]),
        ("$.a[?@.b == 'j' || @.b == 'k'].b", ["j", "k"]),
        ("$.a[?@ > 2 && @ < 5]", [3]),
        ("$.a[?!(@.b == 'j') && @.b || @ == 3].b", ["k", {}, "kilo"]),
        ("$.o[?@ < 3, ?@ < 2]", [1, 2, 1]),
        ("$[?@..b].*", DOCUMENT["a"]),
        ("$.a[?$.t]", DOCUMENT["a"]),
        ("$.a[?$.nothing]", []),
        ("$[?@ == $.n]", [None]),
        ("$.n[?@]", []),
    ],
)
def test_what_a_query_finds(path, expected):
    assert _found(path) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # Comparisons: of `x` and `y`, of literals, and of what is not there.
        ("@.x == @.y", ["numbers", "texts", "lists", "objects", "nulls", "neither"]),
        ("@.x != @.y", ["less", "bool and number", "list of a bool", "object of a bool", "only x", "kinds", "ints"]),
        ("@.x < @.y", ["less", "ints"]),
        ("@.y > @.x", ["less", "ints"]),
        ("@.x <= @.y", ["numbers", "less", "texts", "lists", "objects", "nulls", "neither", "ints"]),
        ("@.y >= @.x", ["numbers", "less", "texts", "lists", "objects", "nulls", "neither", "ints"]),
        ("@.x == 1", ["numbers", "only x", "kinds"]),
        ("1.0 == @.x", ["numbers", "only x", "kinds"]),
        ("@.x == 1e0", ["numbers", "only x", "kinds"]),
        ("@.x == -0", []),
        ("@.x == true", ["bool and number"]),
        ("@.x == null", ["nulls"]),
        ("@.x != null && @.x", ["numbers", "less", "texts", "bool and number", "lists", "list of a bool", "objects",
                                "object of a bool", "only x", "kinds", "ints"]),
        ("@.x <= null", ["nulls"]),
        ("@.x < null", []),
        ("@.x >= true", ["bool and number"]),
        ("@.x == 'é'", ["texts"]),
        ("@.x == \"\\u00e9\"", ["texts"]),
        ("@.x > 'z'", ["texts"]),
        ("@.x <= 'z'", ["less"]),
        ("@.x > 9007199254740992", ["ints"]),
        ("@.x == @.nothing", ["neither"]),
        ("1 == 1 && @.name == 'kinds'", ["kinds"]),
        ("1 == true || 'a' < 'b' && @.name == 'kinds'", ["kinds"]),
        ("2 < 1", []),
        ("'a' != 1 && @.name == 'kinds'", ["kinds"]),
        # Functions.
        ("length(@.x) == 2", ["lists", "object of a bool"]),
        ("length(@.x) == 1", ["texts", "less", "list of a bool", "objects"]),
        ("length(@.x) == length(@.nothing)", ["numbers", "bool and number", "nulls", "neither", "only x", "kinds",
                                                "ints"]),
        ("length('😀é') == 2 && @.name == 'kinds'", ["kinds"]),
        ("count(@.x.*) == 2", ["lists", "object of a bool"]),
        ("count(@..*) > 5", ["lists", "objects", "object of a bool"]),
        ("count(@.nothing) == 0 && @.name == 'kinds'", ["kinds"]),
        ("value(@.x..b) == 1", ["objects"]),
        ("value(@..nothing) == value(@..missing) && @.name == 'kinds'", ["kinds"]),
        ("value(@.*) == 1", []),
        ("match(@.x, '.')", ["less", "texts"]),
        ("match(@.name, 'less|texts')", ["less", "texts"]),
        ("match(@.name, 'tex')", []),
        ("search(@.name, 'tex|ss$')", ["less", "texts"]),
        ("!search(@.name, '[a-z]')", []),
        ("search(@.name, @.x)", ["texts"]),
        ("match(1, '1') || match(@.x, 1) || match(@.name, '(') || match(@.name, @.nothing)", []),
        ("length(value(@.x[1:])) == 1", ["lists"]),
    ],
)  # fmt: skip
def test_comparisons_and_functions(condition, expected):
    cases = {
        "numbers": (1, 1.0),
        "less": ("a", "b"),
        "texts": ("é", "é"),
        "bool and number": (True, 1),
        "lists": ([1, [2]], [1.0, [2]]),
        "list of a bool": ([1], [True]),
        "objects": ({"a": {"b": 1}}, {"a": {"b": 1}}),
        "object of a bool": ({"a": 0, "c": 1}, {"c": 1, "a": False}),
        "nulls": (None, None),
        "neither": (),
        "only x": (1,),
        "kinds": (1, "1"),
        "ints": (9007199254740993, 9007199254740994),
    }
    rows = [{"name": name, **dict(zip("xy", pair, strict=False))} for name, pair in cases.items()]
    if "search(@.name, @.x)" in condition:
        rows[2]["x"] = "t.x"
    assert sorted(row["name"] for row in _found(f"$[?{condition}]", rows)) == sorted(expected)


def test_the_root_in_a_filter_of_a_filter_is_the_root_of_all():
    document = {"k": 1, "a": [{"b": [{"c": 1}]}, {"b": [{"c": 2}]}]}
    assert _found("$.a[?@.b[?@.c == $.k]]", document) == [{"b": [{"c": 1}]}]
    assert _found("$.a[?count(@.b[?@.c == $.k]) == 0]", document) == [{"b": [{"c": 2}]}]


@pytest.mark.parametrize(
    "path",
    [
        "", " $", "$ ", "a", "@.a", "$.", "$..", "$.a.", "$a", "$.'a'", "$.1a", "$.a-b", "$[a]", "$['a]", '$[\'a"]',
        '$["a\']', "$['\\x']", "$['\\uD800']", "$['\\uDC00x']", "$['\u0001']", "$[]", "$[,]", "$[0,]", "$[01]",
        "$[-0]", "$[1.0]", "$[9007199254740992]", "$[-9007199254740992]", "$[1:01]", "$[::-0]", "$[1:2:3:4]",
        "$[1:2:9007199254740992]", "$[**]", "$...a", "$[?]", "$[?()]", "$[?@.a = 1]", "$[?@.a == ]",
        "$[? == 1]", "$[?@.a &&]", "$[?@.a & @.b]", "$[?true]", "$[?1]", "$[?'a']", "$[?null]", "$[?@.a == True]",
        "$[?@.* == 1]", "$[?@..a == 1]", "$[?@[0, 1] == 1]", "$[?@[1:] == 1]", "$[?@.a == 01]", "$[?@.a == .5]",
        "$[?@.a == 1.]", "$[?@.a == 1.e1]", "$[?@.a == (1)]", "$[?(@.a == 1) == (@.b == 2)]", "$[?!@.a == 1]",
        "$[?@.a == 1 == 2]", "$[?@.a < 1 < 2]", "$[?length(@.a)]", "$[?length(@.*) == 1]", "$[?length() == 1]",
        "$[?length(@.a, @.b) == 1]", "$[?count(1) == 1]", "$[?count(@.a, 1) == 1]", "$[?count(@.*)]",
        "$[?match(@.a, 'a') == true]", "$[?match(@.a)]", "$[?search(@.*, 'a')]", "$[?value(1) == 1]",
        "$[?value(@.a)]", "$[?nosuch(@.a)]", "$[?Length(@.a) == 1]", "$[?length (@.a) == 1]", "$[?@.a == [1]]",
        "$[?@.a == {}]", "$[?@.a][", "$.a]", "$[?@.a in [1]]", "$[?@.a =~ 'x']", "$[(@.length-1)]", "$.a~", "$^",
        "$.a | $.b", "$['a' 'b']", "$[?!!@.a]", "$[?!length(@.a)]", "$[?length(@.a) && @.b]",
        "$[?(length(@.a)) == 1]", "$[?(@.a) == 1]",
    ],
)  # fmt: skip
def test_what_is_no_query(path):
    with pytest.raises(ExpressionError) as caught:
        JsonPath(path)
    assert 0 <= caught.value.offset <= len(path)
    assert caught.value.message


def test_the_place_of_a_mistake():
    with pytest.raises(ExpressionError) as caught:
        JsonPath("$.items[?@.price < 10 && nosuch(@.a)]")
    assert caught.value.offset == 25


def test_deep_documents():
    deep: dict = {"z": 1}
    for _ in range(900):
        deep = {"a": deep}
    assert JsonPath("$..z").nodes(deep) == [1]
    assert [value for _, value in JsonPath("$..z").locate(deep)] == [1]


@pytest.mark.parametrize("path", ["$..*..*..*", "$[?count($..*) > 0 && @[?count($..*) > 1]]", "$" + "[*,*,*,*]" * 12])
def test_a_query_that_takes_too_many_steps_is_an_error_of_the_record(path):
    document = [[[[[number] * 5] * 5] * 5] * 5 for number in range(200)] if "?" not in path else [[1] * 2000] * 2000
    for run in (JsonPath(path).nodes, JsonPath(path).locate):
        with pytest.raises(TransformError, match="steps"):
            run(document)


def test_queries_are_equal_and_pickled_by_their_text():
    path = JsonPath("$.a[?@ > 1]")
    assert pickle.loads(pickle.dumps(path)) == path == JsonPath("$.a[?@ > 1]")
    assert len({path, JsonPath("$.a[?@ > 1]"), JsonPath("$.a")}) == 2
    assert (str(path), repr(path)) == ("$.a[?@ > 1]", "JsonPath('$.a[?@ > 1]')")


def test_a_location_as_the_rfc_writes_it():
    assert normalized(("a", 0, "'\\\n\u000b☺\"")) == "$['a'][0]['\\'\\\\\\n\\u000b☺\"']"


@pytest.mark.parametrize(("text", "hint"), [("a.b", "write $.a.b"), (".a", "write $.a"), (" $.a ", "write $.a")])
def test_what_does_not_start_with_the_root_is_told_what_would(text, hint):
    with pytest.raises(ExpressionError) as caught:
        JsonPath(text)
    assert caught.value.hint == hint

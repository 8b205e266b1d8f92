"""What expressions mean: the same compiled and interpreted."""

from __future__ import annotations

from typing import Any

import pytest

from streamd.errors import MissingFieldError, RecordError, TransformError
from streamd.expr import Scope, compile_expression, parse

DOCUMENT: dict[str, Any] = {
    "amount": 500,
    "name": "Anna",
    "user": {"country": "DE", "tags": ["a", "b"], "none": None},
    "items": [{"price": 2, "count": 3}, {"price": 5, "count": 1}],
    "x-y": 7,
    "from": "here",
    "class": {"from": 1},
    "__class__": "a field",
    "null_field": None,
    "x": 1,
}
SCOPE = Scope(DOCUMENT, key="k", timestamp=1767225600000, topic="t", partition=3, offset=42, headers={"h": "v"})


def value(text: str, scope: Scope = SCOPE) -> Any:
    expression = parse(text)
    interpreted = expression.interpret(scope)
    compiled = compile_expression(expression)(scope)
    assert compiled == interpreted
    assert type(compiled) is type(interpreted)
    return compiled


def error(text: str, scope: Scope = SCOPE) -> RecordError:
    expression = parse(text)
    with pytest.raises(RecordError) as interpreted:
        expression.interpret(scope)
    with pytest.raises(RecordError) as compiled:
        compile_expression(expression)(scope)
    assert type(compiled.value) is type(interpreted.value)
    assert str(compiled.value) == str(interpreted.value)
    return compiled.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount > 400", True),
        ("amount * 2", 1000),
        ("name * 2", "AnnaAnna"),
        ("2 * [0]", [0, 0]),
        ("amount % 123", 8),
        ("2 ** 10", 1024),
        ("user.country", "DE"),
        ("user['country']", "DE"),
        ("user.tags[0]", "a"),
        ("user.tags[-1]", "b"),
        ("user.tags[1:]", ["b"]),
        ("name[0]", "A"),
        ('_value["x-y"]', 7),
        ('_value["from"]', "here"),
        ('_value["class"]["from"]', 1),
        ('_value["__class__"]', "a field"),
        ("len(_value)", 10),
        ("_key", "k"),
        ("_timestamp", 1767225600000),
        ("_topic", "t"),
        ("_partition", 3),
        ("_offset", 42),
        ("_headers.h", "v"),
        ("true and not false", True),
        ("null_field == null", True),
        ("null_field is null", True),
        ("amount is not None", True),
        ("1 < 2 < 3", True),
        ("3 > 2 > 2", False),
        ("'nn' in name", True),
        ("'country' in user", True),
        ("amount in {1, 500}", True),
        ("name if amount > 1 else missing", "Anna"),
        ("amount > 1 or missing", True),
        ("amount > 1000 and missing", False),
        ("amount and name", "Anna"),
        ("[i.price * i.count for i in items]", [6, 5]),
        ("sum(i.price * i.count for i in items)", 11),
        ("[i.price for i in items if i.count > 1]", [2]),
        ("[x for x in user.tags]", ["a", "b"]),
        ("[x for x in user.tags] + [x]", ["a", "b", 1]),
        ("[x for x in [x, x]]", [1, 1]),
        ("[x + y for x in [1, 2] for y in [10, 20]]", [11, 21, 12, 22]),
        ("[y for x in [[1], [2]] for y in x]", [1, 2]),
        ("[[y for y in x if y > 1] for x in [[1, 2], [3]]]", [[2], [3]]),
        ("[x for x in [[1], [2]] for x in x]", [1, 2]),
        ("[k for k in user]", ["country", "tags", "none"]),
        ("[f'{k}:{v}' for k, v in entries({'a': 1})]", ["a:1"]),
        ("any(i.price > 4 for i in items)", True),
        ("max(i.price for i in items)", 5),
        ("sorted(i.price for i in reverse(items))", [2, 5]),
        ("unique(c for i in items for c in 'aa')", ["a"]),
        ("any(y in user.tags for x in [['z'], ['a']] for y in x)", True),
        ("f'{name:>6}|{amount:,.1f}|{name!r}|{{}}'", "  Anna|500.0|'Anna'|{}"),
        ("f\"it's {user['country']} \\n\"", "it's DE \n"),
        ("f'{f\"{name}\"}!'", "Anna!"),
        ("f'{ {\"a\": 1} }'", '{"a":1}'),
        ("f'{null} {true} {amount > 5!s:>6} {name} {[1, null, name]}'", 'null true   true Anna [1,null,"Anna"]'),
        ("str(null) + str(false) + str(name) + str(1.5) + str(10 ** 20)", "nullfalseAnna1.5100000000000000000000"),
        ("f'plain'", "plain"),
        ("{'a': amount, name: 1}", {"a": 500, "Anna": 1}),
        ("{'DE': 49}[user.country]", 49),
        ("(1, name)", (1, "Anna")),
        ("lower(name)", "anna"),
        ("split('a/b', limit=1, separator='/')", ["a", "b"]),
        ("has(amount)", True),
        ("has(missing)", False),
        ("has(null_field)", True),
        ("has(user.tags[1])", True),
        ("has(user.tags[2])", False),
        ("has(user.tags.x)", False),
        ("has(user.none.x)", False),
        ("has(amount.x)", False),
        ("has(missing.x[0].y)", False),
        ('has(_value["x-y"])', True),
        ("has(_headers.h)", True),
        ("has(_headers['z'])", False),
        ("has(items[0].price) and not has(items[0].x)", True),
        ("[has(i.z) for i in items]", [False, False]),
        ("get(amount, 0)", 500),
        ("get(missing, 0)", 0),
        ("get(missing)", None),
        ("get(missing, default=5)", 5),
        ("get(null_field, 0)", None),
        ("get(user.country, '?')", "DE"),
        ("get(user.city, '?')", "?"),
        ("get(user.tags[7], [])", []),
        ("get(missing.a.b, amount + 1)", 501),
        ("get(user.country, missing)", "DE"),
        ("get(amount, missing)", 500),
        ("get(user[name], 1)", 1),
        ("[get(i.z, i.price) for i in items]", [2, 5]),
        ("coalesce(null_field, get(missing), 3)", 3),
    ],
)
def test_value(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing", "field 'missing' is missing"),
        ("user.city", "field 'city' is missing"),
        ("user['city']", "field 'city' is missing"),
        ("_value['a-b']", "field 'a-b' is missing"),
        ("_headers.z", "field 'z' is missing"),
        ("user[name]", "a looked-up key is missing"),
        ("user.tags[9]", "a list or text has no item at the given index"),
        ("first([])", "first: the list is empty"),
        ("get(user.city, missing)", "field 'missing' is missing"),
        ("[missing for i in items]", "field 'missing' is missing"),
    ],
)
def test_what_is_missing_is_an_error_that_tells_only_names_of_the_expression(text: str, message: str) -> None:
    found = error(text)
    assert isinstance(found, MissingFieldError)
    assert str(found) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amount / 0", "division by zero"),
        ("amount % 0", "division by zero"),
        ("1e308 * amount // 1 ** 400 + amount ** 400.5", "a number is out of range"),
        ("name > 1", "wrong type: `>` cannot compare text with number"),
        ("name + amount", "wrong type: `+` cannot be used on text and number"),
        ("name % amount", "wrong type: text is no number"),
        ("lower(amount)", "wrong type: lower takes text, not number"),
        ("[i for i in amount]", "wrong type: cannot loop over number"),
        ("[i for i in items for j in amount]", "wrong type: cannot loop over a number"),
        ("user.tags.x", "wrong type: list has no fields, only items by their number"),
        ("amount.x", "wrong type: number has no fields and no items"),
        ("amount in {1: 2, name: 3} and user in {1, 2}", ""),
        ("get(user[items], 1)", "wrong type: list cannot be the name of a field"),
        ("has(amount[items])", "wrong type: list cannot be the name of a field"),
        ("int(name)", "int: the text is not a whole number"),
        ("float('nan')", "float: the text"),
        ("(-8) ** 0.5", "a negative number has no real power with this exponent"),
        ("round(amount, amount)", "round: digits are a whole number from -30 to 30"),
        ("json_parse(name)", "json_parse: the text is not JSON"),
        ("min([])", "the expression has no value for this record (ValueError)"),
        ("format_time(10 ** 20, '%Y')", "the time is out of range"),
        ("[a for a, b in [[1]]]", "the expression has no value for this record (ValueError)"),
        ("sum(['a'])", "wrong type"),
        ("-name", "wrong type"),
    ],
)
def test_what_has_no_value_is_an_error(text: str, message: str) -> None:
    if not message:
        assert value(text) is False
        return
    if message.startswith("float"):
        assert "infinite, or not a number" in str(error(text))
        return
    found = error(text)
    assert type(found) is TransformError
    assert str(found).startswith(message)


def test_messages_hold_no_record_contents() -> None:
    scope = Scope({"a": "s3cret", "b": {"s3cret": 1}, "c": ["s3cret"], "n": 5})
    texts = (
        "int(a)", "float(a)", "bool(a)", "parse_time(a)", "parse_time(a, '%Y')", "json_parse(a)", "base64_decode(a)",
        "hex_decode(a)", "a + 1", "a < 1", "n[a]", "b[b.s3cret]", "{}[a]", "c[n]", "c.x", "sorted([a, 1])",
        "url_part('http://[' + a, 'host')", "first(a)", "len(n)", "split(a, '')", "index_of(n, a)", "join([n], a)",
        "f'{a:d}'", "f'{c:>10}'", "range(a)", "chunk(c, 0)", "merge(a)", "keys(c)", "sum(c)", "min_by(c, a)", "hour(a)",
        "timestamp(n, n * 3, n)", "extract(a, '(x)|s', n)", "substring(a, 0, -n)", "pad_start(a, n, a)", "power(a, n)",
    )  # fmt: skip
    for text in texts:
        found = error(text, scope)
        assert "s3cret" not in str(found), text


def test_short_circuits_read_nothing_more() -> None:
    scope = Scope({"a": 0})
    assert value("a and b", scope) == 0
    assert value("a == 0 or b", scope) is True
    assert value("1 < a < b", scope) is False
    assert value("has(b) and b > 1", scope) is False
    assert value("b if a else 5", scope) == 5


def test_arguments_are_never_changed() -> None:
    scope = Scope({"a": [3, 1], "o": {"x": {"y": 1}}})
    for text in ("sorted(a)", "unique(a)", "merge(o, {'z': 1})", "concat(a, a)", "reverse(a)", "omit(o, 'x')", "a + a"):
        value(text, scope)
    assert scope.document == {"a": [3, 1], "o": {"x": {"y": 1}}}


@pytest.mark.parametrize(
    ("bid", "expected"),
    [
        ({"channel": "Apple", "url": "https://x/a/b/c"}, "0"),
        ({"channel": "BAIDU", "url": "https://x/a/b/c"}, "3"),
        ({"channel": "c-7", "url": "https://x/a/b/c?q=1&channel_id=77&z"}, "77"),
        ({"channel": "c-7", "url": "https://x/a/b/c"}, None),
    ],
)
def test_nexmark_channel(bid: dict[str, Any], expected: str | None) -> None:
    text = """
        {"apple": "0", "google": "1", "facebook": "2", "baidu": "3"}[lower(channel)]
        if lower(channel) in ["apple", "google", "facebook", "baidu"]
        else extract(url, "&channel_id=([^&]*)")
    """
    assert value(text, Scope(bid)) == expected


def test_nexmark_queries_can_be_said() -> None:
    bid = {"auction": 1230, "price": 2_000_000, "extra": "abcc", "date_time": 1767225600000, "url": "https://s/a/b/c?x"}
    scope = Scope(bid)
    assert value("round(0.908 * price, 3)", scope) == 1816000.0
    assert value("auction % 123 == 0", scope) is True
    assert value("1000000 < 0.908 * price < 50000000", scope) is True
    time = "'dayTime' if 8 <= hour(date_time) <= 18 else 'otherTime' if 6 < hour(date_time) < 20 else 'nightTime'"
    assert value(time, scope) == "nightTime"
    assert value("count(extra, 'c')", scope) == 2
    assert value("[split(url, '/')[i] for i in [3, 4, 5]]", scope) == ["a", "b", "c?x"]
    assert value("format_time(date_time, '%Y-%m-%d')", scope) == "2026-01-01"

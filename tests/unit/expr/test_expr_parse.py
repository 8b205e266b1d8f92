"""What is an expression and what is not, and what people are told."""

from __future__ import annotations

import copy
import pickle

import pytest

from streamd.errors import ConfigError
from streamd.expr import Expression, ExpressionError, parse


def refused(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    error = caught.value
    assert 0 <= error.offset <= len(text)
    assert error.offset + error.length <= len(text) + 1
    return error


@pytest.mark.parametrize(
    ("text", "marked", "hint"),
    [
        ("a && b", "&&", "use and, not &&"),
        ("a || b", "||", "use or, not ||"),
        ("a = 1", "=", "use == to compare, not ="),
        ("a === 1", "===", "use ==, not ==="),
        ("a !== 1", "!==", "use !=, not !=="),
        ("!x", "!", "use not x, not !x"),
        ("a <> b", "<>", "use !=, not <>"),
        ("a => b", "=>", "use >= for 'at least'"),
        ("a ? b : c", "?", "use x if condition else y, not condition ? x : y"),
        ("a AND b", "AND", "use and"),
        ("a like 'x%'", "like", 'use matches(text, "pattern"), starts_with, ends_with or contains'),
        ("lowr(x)", "lowr", "did you mean lower?"),
        ("1 + startswith(a, 'b')", "startswith", "did you mean starts_with?"),
        ("strftime(a, 'b')", "strftime", "did you mean format_time?"),
        ("name.upper()", "name.upper", "write upper(value)"),
        ("name.startswith('a')", "name.startswith", "write starts_with(value)"),
        ("from == 1", "from", 'for a field of that name write _value["from"]'),
        ("class", "class", 'for a field of that name write _value["class"]'),
        ("a.from > 1", "from", 'write ["from"] in place of .from'),
        ("__secret", "__secret", 'for a field of that name write _value["__secret"]'),
        ("_timestmp > 5", "_timestmp", 'did you mean _timestamp? A field of that name is _value["_timestmp"]'),
        ("a | b", "a | b", "use or for conditions, merge(a, b) for objects, bit_or(a, b) for bits"),
        ("a is b", "a is b", "use == or !="),
        ("{1, 2}", "{1, 2}", "use a list: [a, b]"),
        ("[*a]", "*a", "use concat(a, b)"),
        ("{**a}", "{**a}", "use merge(a, b)"),
        ("lambda: 1", "lambda: 1", "use a comprehension: [f(x) for x in items]"),
        ("a, b", "a, b", "write [a, b] for a list"),
        ("x for x in y", "x for x in y", "write [… for x in items]"),
        ('"total: " + 5', '"total: " + 5', 'use an f-string: f"{a}{b}"'),
        ("split(a, seperator=1)", "seperator=1", "did you mean separator?"),
    ],
)
def test_slips_are_pointed_at_with_what_would_be_right(text: str, marked: str, hint: str) -> None:
    error = refused(text)
    assert text[error.offset : error.offset + error.length] == marked
    assert error.hint == hint


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("", "empty", 0),
        ("   \n ", "empty", 0),
        ("# only a comment", "empty", 0),
        ("(a", "'(' is never closed", 0),
        ("f(a]", "']' closes nothing", 3),
        ("a)", "')' closes nothing", 1),
        ("a) + (b", "')' closes nothing", 1),
        ("'abc", "never closed", 0),
        ("a +", "ends too early", 3),
        ("a b", "side by side", 0),
        ("äöü == ß ß", "side by side", 0),
        ("ä + ß == + * c", "not an expression", 11),
        ("ä.b +\n  ü.__class__", "'__class__' is not allowed", 8),
        ("lower()", "'text' is missing", 0),
        ("lower(a, b)", "at most 1 argument, not 2", 0),
        ("split(a, separator='x', separator='y')", "given twice", 24),
        ("split(a, 'x', separator='y')", "given twice", 14),
        ("get(1, 2)", "no path", 4),
        ("has(_key)", "no path", 4),
        ("has()", "'path' is missing", 0),
        ("[has(x) for x in a]", "always there", 5),
        ("matches(a, b)", "has to be written out", 11),
        ("matches(a, '[')", "not a regular expression", 11),
        ("matches(a, null)", "has to be written out", 11),
        ("format_time(a, '%Q')", "'%Q' is not a time directive", 15),
        ("truncate_time(a, 'soon')", "not a duration", 17),
        ("duration('0s x')", "not a duration", 9),
        ("url_part(a, 'hots')", "not a part of a URL", 12),
        ("sum(5)", "takes a list", 4),
        ("1e999", "too large", 0),
        ("1j", "complex", 0),
        ("b'x'", "bytes", 0),
        ("...", "ellipsis", 0),
        ("5 .x", "no items or fields", 0),
        ("a[1, 2]", "one value", 0),
        ("'a' - 1", "- does not work on a text", 0),
        ("-'a'", "does not work on a text", 0),
        ("'%d' % a", "% does not work on a text", 0),
        ("null + 1", "+ does not work on null", 0),
        ("[1] + 'a'", "cannot be added", 0),
        ("[x for x in 5]", "cannot loop over a number", 12),
        ("[_x for _x in a]", "cannot be a loop variable", 8),
        ("[x for x.y in a]", "plain name", 7),
        ("[x async for x in a]", "", 0),
        ("(yield)", "yield", 1),
        ("a := 1", "assignment", 0),
        ("f(**a)", "no function 'f'", 0),
        ("len(**a)", "** is not allowed", 4),
        ("len(*a)", "* is not allowed", 4),
        ("a()()", "only a function can be called", 0),
        ("'x'()", "only a function can be called", 0),
        ("f'{x:{w}}'", "has to be written out", 0),
        ("f'{x:nonsense}'", "is not a format", 0),
        ("\0", "no text can have", 0),
        ("\ud800", "no text can have", 0),
    ],
)
def test_refused(text: str, message: str, offset: int) -> None:
    error = refused(text)
    assert message in error.message
    assert error.offset == offset


def test_not_even_a_text() -> None:
    with pytest.raises(ExpressionError, match="is a text, not a int"):
        parse(5)  # type: ignore[arg-type]


def test_errors_are_config_errors_and_value_errors_and_survive_pickling() -> None:
    error = refused("a && b")
    assert isinstance(error, ConfigError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.offset, again.length, again.hint) == (error.message, 2, 2, "use and, not &&")


def test_several_lines_comments_and_carriage_returns() -> None:
    expression = parse("  amount > 50 # cents\r\n  and type\n  != 'x'")
    assert expression.fields == {"amount", "type"}


@pytest.mark.parametrize(
    ("text", "fields", "required"),
    [
        ("a + b", {"a", "b"}, {"a", "b"}),
        ("a and b", {"a", "b"}, {"a"}),
        ("a or b or c", {"a", "b", "c"}, {"a"}),
        ("a if b else c", {"a", "b", "c"}, {"b"}),
        ("a.x if b else a", {"a", "b"}, {"a", "b"}),
        ("a < b < c", {"a", "b", "c"}, {"a", "b"}),
        ("a in [b, c]", {"a", "b", "c"}, {"a", "b", "c"}),
        ("has(a)", {"a"}, set()),
        ("has(a.b[i])", {"a", "i"}, set()),
        ("get(a.b, c)", {"a", "c"}, set()),
        ("get(a, 1) + a", {"a"}, {"a"}),
        ("[x + a for x in b if c]", {"a", "b", "c"}, {"b"}),
        ("[x for x in x]", {"x"}, {"x"}),
        ("[y for x in a for y in x]", {"a"}, {"a"}),
        ("[y for x in a for y in y]", {"a", "y"}, {"a"}),
        ("any(x for x in a) and b", {"a", "b"}, {"a"}),
        ("lower(a) == coalesce(b, c)", {"a", "b", "c"}, {"a", "b", "c"}),
        ("f'{a}{b.c}'", {"a", "b"}, {"a", "b"}),
        ("{a: b}", {"a", "b"}, {"a", "b"}),
        ("a[b:c]", {"a", "b", "c"}, {"a", "b", "c"}),
        ("not a", {"a"}, {"a"}),
        ('_value["x-y"] + _value.z', {"x-y", "z"}, {"x-y", "z"}),
        ('has(_value["x-y"])', {"x-y"}, set()),
        ("true", set(), set()),
        ("len", {"len"}, {"len"}),
        ("_id", {"_id"}, {"_id"}),
        ('_value["_timestmp"]', {"_timestmp"}, {"_timestmp"}),
    ],
)
def test_fields(text: str, fields: set[str], required: set[str]) -> None:
    expression = parse(text)
    assert expression.fields == fields
    assert expression.required == required
    assert not expression.whole_document


def test_facts() -> None:
    expression = parse('_key == "a" and _headers.b == str(_timestamp)')
    assert expression.metadata == {"_key", "_headers", "_timestamp"}
    assert not expression.constant
    assert parse("_value").whole_document
    assert parse("_value[a]").whole_document
    assert not parse("now() > 5").constant
    assert not parse("uuid()").constant
    assert parse("1 + len('abc')").constant
    assert parse("a.b['c'] + d").names == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1", "number"),
        ("a > 1", "bool"),
        ("not a", "bool"),
        ("a > 1 and b > 1", "bool"),
        ("a > 1 and b", "any"),
        ("'x'", "text"),
        ("f'{a}'", "text"),
        ("a + 'x'", "text"),
        ("a * 1.1", "number"),
        ("a * 2", "any"),
        ("a - b", "number"),
        ("a + b", "any"),
        ("a + 1", "number"),
        ("round(a, 2)", "number"),
        ("lower(a)", "text"),
        ("split(a)", "list"),
        ("[x for x in a]", "list"),
        ("{'a': 1}", "object"),
        ("_value", "object"),
        ("_headers", "object"),
        ("_timestamp", "number"),
        ("_key", "any"),
        ("null", "any"),
        ("'a' if b else 'c'", "text"),
        ("1 if b else 2.5", "number"),
        ("1 if b else 'c'", "any"),
        ("a.b", "any"),
        ("has(a.b)", "bool"),
        ("min(1, 2.5)", "number"),
    ],
)
def test_static_type(text: str, kind: str) -> None:
    assert parse(text).static_type == kind


def test_an_expression_is_its_text() -> None:
    expression = parse("a > 1")
    assert str(expression) == "a > 1"
    assert expression == parse("a > 1")
    assert expression != parse("a > 2")
    assert expression != "a > 1"
    assert len({expression, parse("a > 1")}) == 1
    for again in (pickle.loads(pickle.dumps(expression)), copy.deepcopy(expression), copy.copy(expression)):
        assert isinstance(again, Expression)
        assert again == expression
    assert repr(expression) == "Expression('a > 1')"
    with pytest.raises(AttributeError):
        expression.text = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del expression.text


def test_patterns_may_have_backslashes_without_a_warning() -> None:
    assert parse('matches(a, "\\d+\\.\\d")').fields == {"a"}


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("amount > 1", set()),
        ("_headers.a.x == 1 and _headers['b'] != 2", {"a", "b"}),
        ("get(_headers.a, 1) or has(_headers.b.c)", {"a", "b"}),
        ("'a' in _headers", {""}),
        ("_headers[kind]", None),
        ("len(_headers)", None),
        ("[_headers, _headers.a]", None),
    ],
)
def test_the_headers_that_an_expression_reads_by_name(text, headers):
    assert parse(text).headers == headers

"""Generated source and interpreter agree: the same value, or the same error, for any expression and any document."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from streamd.errors import RecordError
from streamd.expr import FUNCTIONS, ExpressionError, Scope, compile_expression, parse
from streamd.expr.compiled import DictResolver

NAMES = ["a", "b", "c", "items", "text", "missing"]
VARIABLES = ["x", "y", "a"]

numbers = st.one_of(
    st.integers(-5, 5), st.integers(-(10**12), 10**12), st.floats(-100, 100).map(lambda number: round(number, 2))
)
texts = st.sampled_from(["", "a", "b", "abc", "x-y", "12", "ä'\"\n", "{}", "%d", "2026-01-01"])
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "x-y"]), inner, max_size=3)
    ),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["a", "b", "c", "items", "text", "x-y"]), values, max_size=6)

literals = st.one_of(
    numbers.map(repr), texts.map(repr), st.sampled_from(["true", "false", "null", "None", "[]", "{}", "()", "[1, 2]"])
)
fields = st.sampled_from(
    [
        *NAMES,
        "x",
        "y",
        "_key",
        "_timestamp",
        "_headers",
        "_headers.h",
        "_value",
        '_value["x-y"]',
        "a.b",
        "a.b[0]",
        "items[0].a",
    ]
)
CALLABLE = [f for f in FUNCTIONS.values() if f.deterministic and not f.literals and f.name not in ("has", "get")]
WITH_LITERALS = [
    "matches({}, '^a')", "extract({}, '(a)|b')", "extract_all({}, '[ab]')", "replace_pattern({}, 'a', {})",
    "split_pattern({}, 'b')", "format_time({}, '%Y-%m')", "parse_time({})", "parse_time({}, '%Y')",
    "truncate_time({}, 'hour')", "duration('1m')", "url_part({}, 'host')", "round({}, 2)", "round({}, {})",
]  # fmt: skip
SPECS = ["", ":>5", ":.2f", "!r", "!s:<4", ":,", ":05d", "!a"]


@st.composite
def calls(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    if draw(st.integers(0, 3)) == 0:
        template = draw(st.sampled_from(WITH_LITERALS))
        return template.format(*[draw(inner) for _ in range(template.count("{}"))])
    function = draw(st.sampled_from(CALLABLE))
    least, most = function.arity
    count = draw(st.integers(least, min(most, least + 2)))
    return f"{function.name}({', '.join(draw(inner) for _ in range(count))})"


@st.composite
def loops(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    sources = ""
    for _ in range(draw(st.integers(1, 2))):
        target = draw(st.sampled_from([*VARIABLES, "x, y"]))
        condition = f" if {draw(inner)}" if draw(st.booleans()) else ""
        sources += f" for {target} in {draw(inner)}{condition}"
    body = f"{draw(inner)}{sources}"
    shape = draw(
        st.sampled_from(["[{}]", "[{}]", "any({})", "sum({})", "max({})", "sorted({})", "len({})", "join({})"])
    )
    return shape.format(body)


@st.composite
def f_strings(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        value = draw(inner)
        assume("'" not in value and "\\" not in value and '"""' not in value)
        literal = draw(st.sampled_from(["", "-", "it''s", "{{}}", "ä "])).replace(
            "'", "’" if draw(st.booleans()) else ""
        )
        parts.append(f"{literal}{{ {value} {draw(st.sampled_from(SPECS))}}}")
    return "f'''" + "".join(parts) + "'''"


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    paths = st.tuples(
        st.sampled_from(["a", "items", "missing", "_value", '_value["x-y"]', "x"]),
        st.lists(
            st.one_of(st.sampled_from([".a", ".b", "[0]", '["x-y"]', "[-1]"]), inner.map("[{}]".format)), max_size=2
        ),
    ).map(lambda path: path[0] + "".join(path[1]))
    binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "and", "or"])
    compare = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
    return st.one_of(
        st.tuples(inner, binary, inner).map(lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"),
        st.tuples(inner, binary, inner).map(lambda parts: f"{parts[0]} {parts[1]} {parts[2]}"),
        st.tuples(inner, compare, inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        st.tuples(inner, compare, inner, compare, inner).map(" ".join),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        st.tuples(st.sampled_from(["not ", "-", "+"]), inner).map("".join),
        inner.map("({}) is null".format),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, min_size=2, max_size=3).map(lambda items: f"({', '.join(items)})"),
        st.tuples(inner, st.lists(inner, min_size=1, max_size=3)).map(
            lambda parts: f"{parts[0]} in {{{', '.join(parts[1])}}}"
        ),
        st.tuples(inner, inner).map(lambda parts: f"{{{parts[0]}: {parts[1]}}}"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]})[{parts[1]}]"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]})[{parts[1]}:]"),
        inner.map("({}).a".format),
        paths.map("has({})".format),
        st.tuples(paths, inner).map(lambda parts: f"get({parts[0]}, {parts[1]})"),
        paths.map("get({})".format),
        calls(inner),
        loops(inner),
        f_strings(inner),
    )


expressions = st.recursive(st.one_of(literals, fields), larger, max_leaves=8)


def same(left: Any, right: Any) -> bool:
    """Equal in type and value; not-a-number is equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return bool(left == right)


def outcome(run: Any, scope: Scope) -> Any:
    try:
        return run(scope)
    except RecordError as error:
        return error


@given(expressions, st.lists(documents, min_size=1, max_size=3))
@example("((has(a) == (0) is null)) is null", [{}])
@example("f'''{ 0.0 :05d}{{}}{ a }'''", [{}])
@example("0 in {[], a}", [{}])
@example("(0 if 0 else '') % a", [{}])
@example("(1, 2)[0] is null", [{}])
@example("'abc'[1]", [{}])
@settings(
    max_examples=1500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
def test_compiled_and_interpreted_agree(text: str, examples: list[dict[str, Any]]) -> None:
    try:
        expression = parse(text)
    except ExpressionError:
        assume(False)
        return
    compiled = compile_expression(expression)
    source = expression.source(DictResolver())
    for document in examples:
        scope = Scope(document, key="k", timestamp=1767225600000, headers={"h": "v"})
        interpreted, run = outcome(expression.interpret, scope), outcome(compiled, scope)
        if isinstance(interpreted, RecordError) or isinstance(run, RecordError):
            assert type(interpreted) is type(run), (source, interpreted, run)
        else:
            assert same(interpreted, run), (source, interpreted, run)
        if not isinstance(run, RecordError):
            assert expression.required <= document.keys()


@given(expressions, documents)
@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
def test_the_static_type_holds(text: str, document: dict[str, Any]) -> None:
    try:
        expression = parse(text)
    except ExpressionError:
        assume(False)
        return
    kinds: dict[str, tuple[type, ...]] = {
        "number": (int, float),
        "text": (str,),
        "bool": (bool,),
        "list": (list, tuple),
        "object": (dict,),
        "any": (object,),
    }
    value = outcome(compile_expression(expression), Scope(document))
    if not isinstance(value, RecordError):
        assert isinstance(value, kinds[expression.static_type])


@given(expressions)
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
def test_only_the_declared_fields_are_read(text: str) -> None:
    """A document without a field that an expression does not name gives the same as one with it."""
    try:
        expression = parse(text)
    except ExpressionError:
        assume(False)
        return
    assume(not expression.whole_document)
    document: dict[str, Any] = {name: [{"a": 1}] for name in ("a", "b", "c", "items", "text", "x-y", "x", "y")}
    fewer = {name: value for name, value in document.items() if name in expression.fields}
    whole, part = (outcome(compile_expression(expression), Scope(fields)) for fields in (document, fewer))
    assert type(whole) is type(part)
    assert isinstance(whole, RecordError) or same(whole, part)

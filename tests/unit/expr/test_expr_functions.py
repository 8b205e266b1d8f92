"""The library: every documented example is true, compiled and interpreted; what is documented is what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamd.errors import RecordError, TransformError
from streamd.expr import FUNCTIONS, Function, Scope, compile_expression, parse
from streamd.expr.suggest import ALIASES, closest

EXAMPLES = [(text, result) for function in FUNCTIONS.values() for text, result in function.examples]
EMPTY = Scope({})


@pytest.mark.parametrize(("text", "result"), EXAMPLES, ids=[text for text, _ in EXAMPLES])
def test_example(text: str, result: Any) -> None:
    expression = parse(text)
    for value in (compile_expression(expression)(EMPTY), expression.interpret(EMPTY)):
        assert value == result
        assert type(value) is type(result)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_is_documented(function: Function) -> None:
    assert function.signature.startswith(f"{function.name}(")
    assert function.doc.endswith((".", "`"))
    assert function.examples
    assert any(f"{function.name}(" in text for text, _ in function.examples)
    assert function.category in ("text", "number", "time", "collection", "type")
    assert callable(function.callable)
    least, most = function.arity
    assert least <= most


def test_what_other_languages_call_them_leads_to_functions() -> None:
    assert set(ALIASES.values()) <= set(FUNCTIONS)
    assert not set(ALIASES) & set(FUNCTIONS)
    assert closest("startswith", FUNCTIONS) == "starts_with"
    assert closest("uper", FUNCTIONS) == "upper"
    assert closest("qqqqqq", FUNCTIONS) is None


def test_static_results_are_true_of_the_examples() -> None:
    kinds: dict[str, tuple[type, ...]] = {
        "number": (int, float),
        "text": (str,),
        "bool": (bool,),
        "list": (list, tuple),
        "object": (dict,),
        "any": (object,),
    }
    for text, result in EXAMPLES:
        assert isinstance(result, kinds[parse(text).static_type]), text


@pytest.mark.parametrize(
    "function", [f for f in FUNCTIONS.values() if f.name not in ("has", "get")], ids=lambda f: f.name
)
def test_wrong_types_give_record_errors_and_nothing_else(function: Function) -> None:
    strange = [
        None,
        True,
        -1,
        0,
        3,
        2.5,
        float("inf"),
        "",
        "a\ud800",
        "9" * 5000,
        [],
        [1, "a", None],
        {"a": {}},
        10**400,
    ]
    literals = {"pattern": "'a'", "format": "'%Y'", "unit": "'day'", "part": "'host'"}
    names = [parameter.name for parameter in function.parameters]
    if not names or function.name == "duration":
        return
    arguments = [literals[name] if name in function.literals else f"p{n}" for n, name in enumerate(names)]
    run = compile_expression(parse(f"{function.name}({', '.join(arguments)})"))
    for number, first in enumerate(strange):
        for shift in (0, 1, 5, 9):
            document = {f"p{n}": first if n == 0 else strange[(number + n * shift) % len(strange)] for n in range(9)}
            cause = failure_of(lambda document=document: run(Scope(document)))
            assert not isinstance(cause, AttributeError | MemoryError), (function.name, document)


def failure_of(run: Callable[[], Any]) -> BaseException | None:
    try:
        run()
    except RecordError as error:
        return error.__cause__
    return None


def run(text: str, **fields: Any) -> Any:
    expression = parse(text)
    compiled = compile_expression(expression)(Scope(fields))
    assert compiled == expression.interpret(Scope(fields))
    return compiled


def test_times_before_1970_and_with_fractions() -> None:
    assert run("format_time(t, '%Y-%m-%d %H:%M:%S')", t=-1000) == "1969-12-31 23:59:59"
    assert run("hour(t)", t=-1) == 23
    assert run("minute(t)", t=-1.5) == 59
    assert run("truncate_time(t, 'day')", t=-1) == -86_400_000
    assert run("iso_time(t)", t=0.5) == "1970-01-01T00:00:00.000Z"
    assert run("weekday(truncate_time(t, 'week'))", t=1767225600000) == 1


def test_times_that_are_none() -> None:
    for text in (
        "parse_time('soon')",
        "parse_time('', '%Y')",
        "timestamp(2026, 2, 30)",
        "year(10**30)",
        "year(1.0e300)",
    ):
        with pytest.raises(TransformError):
            run(text)


def test_url_parameters() -> None:
    assert run("url_parameter(u, 'a')", u="http://x/?a=1&a=2") == "1"
    assert run("url_parameter(u, 'a')", u="http://x/?a=") == ""
    with pytest.raises(TransformError, match="1,000 parameters"):
        run("url_parameter(u, 'a')", u="http://x/?" + "&".join("b=1" for _ in range(2000)))


def test_stable_hash_is_the_same_everywhere() -> None:
    assert run("hash(a)", a="user-1") == run("hash(a)", a="user-1")
    assert 0 <= run("hash(a)", a="") < 2**63


def test_unique_of_what_cannot_be_hashed_keeps_order() -> None:
    assert run("unique(a)", a=[{"x": [1]}, 2, {"x": [1]}, [2], 2]) == [{"x": [1]}, 2, [2]]


def test_merge_and_pick_do_not_need_the_fields() -> None:
    assert run("pick(a, 'x', 'y')", a={"x": 1, "z": 2}) == {"x": 1}
    assert run("omit(a, 'x', 'y')", a={"x": 1, "z": 2}) == {"z": 2}
    assert run("merge(a)", a={"x": 1}) == {"x": 1}


def test_not_deterministic_are_just_these() -> None:
    assert {function.name for function in FUNCTIONS.values() if not function.deterministic} == {"now", "random", "uuid"}

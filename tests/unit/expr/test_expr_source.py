"""What generated code gets: the source a person would write, with guards only where sizes could multiply."""

from __future__ import annotations

import ast
import builtins
from typing import Any

import pytest

from streamd.expr import BUILTINS, parse


class LocalsResolver:
    """Fields are local variables of the same name, as in a fused chain."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}

    def field(self, name: str) -> str:
        return name if name.isidentifier() else f"document[{name!r}]"

    def field_or(self, name: str, default: str) -> str:
        return f"({name} if {name} is not UNSET else {default})"

    def has_field(self, name: str) -> str:
        return f"{name} is not UNSET"

    def metadata(self, name: str) -> str:
        return f"record{name.replace('_', '.', 1)}"

    def document(self) -> str:
        return "document"

    def constant(self, hint: str, value: object) -> str:
        name = hint if self.bound.get(hint, value) is value else f"{hint}_{len(self.bound)}"
        self.bound[name] = value
        return name


def source(text: str) -> str:
    return parse(text).source(LocalsResolver())


@pytest.mark.parametrize(
    "text",
    [
        "amount > 400",
        "amount * 1.1",
        "round(amount * 1.1, 2)",
        "type != 'refund' and amount > 50",
        "0.908 * price",
        "a + b",
        "a - b * 2.0",
        "(a + b) * 0.5",
        "-(a - b)",
        "a / b // c",
        "x in ['DE', 'FR']",
        "x in {'DE', 'FR'}",
        "x not in y",
        "1 < a <= b",
        "a if b else c",
        "not (a or b)",
        "len(a) + 1",
        "len(a) * 2",
        "abs(a) + max(b, 0)",
        "{'a': [b, (c, 1)]}",
        "f'{lower(a)}-{b:>10}'",
        "a is not None",
        "lower(a)",
        "split(url, '/')[3]",
        "a[1:-1]",
    ],
)
def test_source_is_what_a_person_would_write(text: str) -> None:
    assert source(text) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('type != "refund"', "type != 'refund'"),
        ("a.b[0]", "a['b'][0]"),
        ('_value["x-y"] + 1', "document['x-y'] + 1"),
        ("_value.a", "a"),
        ("_timestamp - ts", "record.timestamp - ts"),
        ("_value", "document"),
        ("true and x == null", "True and x == None"),
        ("is_null(a)", "a is None"),
        ('contains(a, "x")', "'x' in a"),
        ("a % 123 == 0", "+a % 123 == 0"),
        ("len(a) % 10", "len(a) % 10"),
        ("a * 2", "times(a, 2)"),
        ("a ** 2", "power(a, 2)"),
        ("round(a)", "round(a)"),
        ("round(a, n)", "round_(a, n)"),
        ("round(a, 400)", "round_(a, 400)"),
        ("int(a) * 2", "int_(a) * 2"),
        ("get(a, 0)", "a if a is not UNSET else 0"),
        ("get(a, 0) + 1", "(a if a is not UNSET else 0) + 1"),
        ("get(a, b)", "a if a is not UNSET else b"),
        ("get(a.b, 0)", "get_path(a if a is not UNSET else MISSING, 0, 'b')"),
        ("not has(a)", "not a is not UNSET"),
        ("has(a.b[0])", "has_path(a if a is not UNSET else MISSING, 'b', 0)"),
        ("split(a, limit=1, separator='/')", "split(a, '/', 1)"),
        ("[x.p for x in items if x.q > 1]", "[each_x['p'] for each_x in items if each_x['q'] > 1]"),
        ("sum(x.p * 1.5 for x in items)", "sum((each_x['p'] * 1.5 for each_x in items))"),
        (
            "sum(x.p * 2 for x in a)",
            "sum((product(each_x['p'], 2, each_built) for each_built in ([0],) for each_x in a))",
        ),
        ("[x for x in a * 2]", "[each_x for each_x in times(a, 2)]"),
        ("str(a)", "str_(a)"),
        ("f'{a}'", "f'{as_text(a)}'"),
        ("f\"{a['k']}!\"", "f\"{as_text(a['k'])}!\""),
        ('f"it\'s {a}"', '"it\'s {}".format(as_text(a))'),
        ("f'{len(a)} {a!s} {a!r}'", "f'{len(a)} {as_text(a)} {a!r}'"),
        ("'a' 'b'", "'ab'"),
        ("-5", "-5"),
        ("a - -5", "a - -5"),
    ],
)
def test_written(text: str, written: str) -> None:
    assert source(text) == written


def test_loop_variables_hide_fields_and_never_the_resolvers_names() -> None:
    class Awkward(LocalsResolver):
        def field(self, name: str) -> str:
            return f"each_{name}"

    assert parse("[x + 1 for x in x]").source(Awkward()) == "[each_x_2 + 1 for each_x_2 in each_x]"


def test_loops_that_could_multiply_have_a_budget() -> None:
    for text in (
        "[x for x in a for y in b]",
        "[x for x in a if x in b]",
        "[a for x in b]",
        "[f'{x}{b}' for x in a]",
        "[f'{x:>900}' for x in a]",
        "[x + b for x in a]",
        "[[x, b] for x in a]",
        "[{'k': b} for x in a]",
        "[get(x.k, b) for x in a]",
        "[x or b for x in a]",
        "[lower(b) for x in a]",
        "[replace(x, 'a', 'bb') for x in a]",
        "any(x in b for x in a)",
        "[b[1:] for x in a]",
    ):
        assert "budget()" in source(text), text


def test_loops_over_parts_of_their_items_have_none() -> None:
    for text in (
        "[f'{x.a} of {x.b:.2f}' for x in items]",
        "[x.a + x.b for x in items]",
        "[{'a': x.a, 'b': [x.b, 1]} for x in items]",
        "[get(x.a, 0) for x in items]",
        "[x.a or 'none' for x in items]",
        "[lower(trim(x.a)) for x in items]",
        "[x.a[1:] for x in items if 'k' in x.b and contains(x.c, 'd')]",
    ):
        assert "budget" not in source(text), text
        assert "collect" not in source(text), text


def test_precedence_holds_whatever_the_resolver_gives() -> None:
    class Ternary(LocalsResolver):
        def field(self, name: str) -> str:
            return f"{name} if ok else 0"

    assert parse("a + b").source(Ternary()) == "(a if ok else 0) + (b if ok else 0)"


def test_builtins_called_by_name_are_builtins() -> None:
    called = set()
    for text in [
        *(f"{name}(a)" for name in BUILTINS - {"ascii", "format", "repr"}),
        'f"\'{a!r:>3}{a!a:>3}"',
    ]:
        tree = ast.parse(source(text))
        called |= {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
    assert called == BUILTINS
    assert all(hasattr(builtins, name) for name in BUILTINS)


def test_what_is_bound_never_hides_a_builtin() -> None:
    resolver = LocalsResolver()
    for text in ("sorted(a)", "int(a)", "float(a)", "bool(a)", "hash(a)", "range(3)", "zip(a, b)", "round(a, n)"):
        parse(text).source(resolver)
    assert not [name for name in resolver.bound if hasattr(builtins, name)]


def test_many_additions_of_unknown_values_are_guarded() -> None:
    assert "plus(" not in source("+".join(["a"] * 16))
    assert "plus(" in source("+".join(["a"] * 20))

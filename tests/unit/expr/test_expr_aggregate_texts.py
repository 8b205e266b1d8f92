"""What is no aggregate: the place of what is wrong, and what would be right."""

from __future__ import annotations

import pytest

from streamd.expr import AGGREGATES, ExpressionError, parse_aggregate
from streamd.expr.aggregates import sketches


@pytest.mark.parametrize(
    ("text", "wrong", "message", "hint"),
    [
        ("amount", "amount", "expected an aggregate such as count() or sum(amount)", None),
        ("sum(a) / count()", "sum(a) / count()", "expected an aggregate such as count() or sum(amount)",
         "write ratio(sum(a), count()), or compute with results in a stage behind this one"),
        ("suum(a)", "suum", "there is no aggregate 'suum'", "did you mean sum?"),
        ("avg(a)", "avg", "there is no aggregate 'avg'", "did you mean mean?"),
        ("percentile(a, 0.5)", "percentile", "there is no aggregate 'percentile'", "did you mean quantile?"),
        ("count_if(a > 1)", "count_if", "there is no aggregate 'count_if'", "write count(where=amount > 50)"),
        ("round(a)", "round", "'round' is a function, not an aggregate",
         "write it inside, as in sum(round(amount)), or in a stage behind this one"),
        ("sum()", ")", "sum has the wrong number of arguments: it is sum(x)", "write sum(amount)"),
        ("collect(a)", "a", "collect has the wrong number of arguments: it is collect(x, n, order_by=…)",
         "write collect(product, 100)"),
        ("count(a)", "a", "count counts records and takes no value", "write count(where=a != null)"),
        ("count(a > 1)", "a > 1", "count counts records and takes no value", "write count(where=a > 1)"),
        ("sum(a, b > 1)", "b > 1", "sum takes a condition by its name", "write where=b > 1"),
        ("sum(a, b)", "b", "sum takes at most 1 argument", "write sum(amount)"),
        ("first(a, b)", "b", "first takes at most 1 argument", "write order_by=b"),
        ("sum(a, when=b)", "when=b", "sum has no argument 'when'", "did you mean where=?"),
        ("first(a, sort=b)", "sort=b", "first has no argument 'sort'", "it is first(x, order_by=…), and where="),
        ("sum(a, x=b)", "x=b", "the argument 'x' is given twice", None),
        ("sum(*a)", "*a", "* is not allowed before an argument", None),
        ("sum(**a)", "**a", "** is not allowed before an argument", None),
        ("sum(upper(a))", "upper(a)", "sum needs a number, and this is a text", None),
        ("mean([a])", "[a]", "mean needs a number, and this is a list", None),
        ("collect(a, 0)", "0", "'n' is how many to keep: a whole number from 1 to 100,000, written out",
         "write collect(product, 100)"),
        ("collect(a, b)", "b", "'n' is how many to keep: a whole number from 1 to 100,000, written out",
         "write collect(product, 100)"),
        ("top_k(a, 2.5)", "2.5", "'k' is how many to keep: a whole number from 1 to 100,000, written out",
         "write top_k(product, 10)"),
        ("quantile(a, 95)", "95",
         "'q' is a number from 0 to 1, or a list of such, written out", "write quantile(amount, 0.95)"),
        ("quantile(a, [0.5, true])", "[0.5, true]",
         "'q' is a number from 0 to 1, or a list of such, written out", "write quantile(amount, 0.95)"),
        ("histogram(a, [2, 1])", "[2, 1]", "'bounds' is a list of numbers that ascend, written out",
         "write histogram(amount, [10, 100, 1000])"),
        ("histogram(a, 5)", "5", "'bounds' is a list of numbers that ascend, written out",
         "write histogram(amount, [10, 100, 1000])"),
        ("first(a, order_by=[])", "[]", "an order is one value or a list of some", "write [desc(price), date_time]"),
        ("first(a, order_by=desc(a, b))", "desc(a, b)", "desc takes one value", "write desc(price)"),
        ("argmax(a, [b, nope(c)])", "nope", "there is no function 'nope'", None),
        ("sum(a, where=uper(b))", "uper", "there is no function 'uper'", "did you mean upper?"),
        ("ratio(sum(a), first(b))", "first(b)", "ratio is of two numbers, and first may give something else",
         "write ratio(sum(amount), count())"),
        ("ratio(a, count())", "a", "expected an aggregate such as count() or sum(amount)", None),
        ("custom(a, b)", "a", "'code' is a text, the module and the class of your own code",
         'write custom("shop.aggregates:Basket", item)'),
        ('custom("shop.Basket", b)', '"shop.Basket"', "'code' is a text, the module and the class of your own code",
         'write custom("shop.aggregates:Basket", item)'),
        ('custom("shop:Basket")', '"shop:Basket"', 'custom has the wrong number of arguments: it is custom(code, x, …)',
         'write custom("shop.aggregates:Basket", item)'),
    ],
)  # fmt: skip
def test_a_text_that_is_none(text, wrong, message, hint):
    with pytest.raises(ExpressionError) as caught:
        parse_aggregate(text)
    error = caught.value
    assert (error.message, error.hint) == (message, hint)
    assert text[error.offset : error.offset + error.length] == wrong


@pytest.mark.parametrize("text", ["", " sum( a. )", "sum(a", "sum(a))", "sum(a b)", "sum(" * 300, "a" * 20_000, "\0"])
def test_a_text_that_is_no_value_at_all(text):
    with pytest.raises(ExpressionError) as caught:
        parse_aggregate(text)
    assert 0 <= caught.value.offset <= len(text)


def test_an_error_after_several_lines_has_its_place_in_the_whole_text():
    text = "first(\n  [ä, b],\n  order_by=[desc(uper(c))],\n)"
    with pytest.raises(ExpressionError) as caught:
        parse_aggregate(text)
    assert text[caught.value.offset :].startswith("uper")


def test_a_sketch_without_its_library_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(sketches.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExpressionError, match="`datasketches`, which is not installed") as caught:
        parse_aggregate("approx_count_distinct(a)")
    assert caught.value.hint == "pip install 'streamd[sketches]'"


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_every_hint_is_itself_right(name):
    function = AGGREGATES[name]
    assert parse_aggregate(function.example).name == name
    assert function.signature.startswith(f"{name}(")
    assert function.doc.endswith(".")


def test_other_spaces_are_the_same_aggregate_and_other_conditions_another():
    assert str(parse_aggregate("quantile( a ,[ .5 ])")) == "quantile(a, [ .5 ])"
    assert str(parse_aggregate("ratio( sum( a ), count( where = b ) )")) == "ratio(sum(a), count(where=b))"
    assert parse_aggregate("count(where=a)") != parse_aggregate("count(where=b)")

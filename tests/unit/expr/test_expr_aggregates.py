"""Aggregates: what they give, what they take, what they keep."""

from __future__ import annotations

import copy
import pickle
import sys

import orjson
import pytest

from streamd.errors import FatalError, TransformError
from streamd.expr import AGGREGATES, Scope, compile_expression, parse_aggregate
from streamd.expr.aggregates import Accumulator, compiled

RANGE = "{} is out of range: expected 64 bits for an integer, a finite number otherwise"


def arguments_of(many: Accumulator, document):
    """The values of the columns for a document, checked."""
    texts = {argument.text: argument for aggregate in many.aggregates for argument in aggregate.arguments}
    return many.check([compile_expression(argument)(Scope(document)) for argument in texts.values()])


def over(text, documents):
    """The result over documents, by way of what the changelog would hold."""
    many = compiled([parse_aggregate(text)])
    kept = many.start()
    for document in documents:
        many.step(kept, arguments_of(many, document))
        kept = many.unpack(orjson.loads(orjson.dumps(many.pack(kept))))
    [result] = many.results(kept)
    return result


def values(*found):
    return [{"a": value} for value in found]


@pytest.mark.parametrize(
    ("text", "documents", "result"),
    [pytest.param(*example, id=example[0]) for one in AGGREGATES.values() for example in one.examples],
)
def test_examples(text, documents, result):
    assert over(text, documents) == (pytest.approx(result) if isinstance(result, float) else result)


@pytest.mark.parametrize(
    ("text", "documents", "result"),
    [
        ("count()", [], 0),
        ("count(where=a)", values(1, 0, "", "x", None, True), 3),
        ("sum(a)", [], 0),
        ("sum(a)", values(1, None, 2.5), 3.5),
        ("min(a)", values("b", "a"), "a"),
        ("min(a)", values("1", 7, None), 7),
        ("max(a)", values(7, "1", 8), "1"),
        ("max(a)", [], None),
        ("mean(a)", [], None),
        ("variance(a)", values(3), None),
        ("variance_pop(a)", values(3), 0.0),
        ("stddev(a)", [], None),
        ("first(a)", values(None, [1], 2), [1]),
        ("first(a)", values(False, 2), False),
        ("last(a)", values(1, {"b": 2}, None), {"b": 2}),
        ("last(a)", [], None),
        ("collect(a, 2)", [], []),
        ("collect(a, 2)", values(None, 1, [2], 3), [1, [2]]),
        ("count_distinct(a)", values(1, 1.0, True, "1", None, [1], [1.0], {"b": 1}), 6),
        ("approx_count_distinct(a)", values(1, 1.0, True, "1", None, [1], {"b": 1}, 2**64 - 1), 6),
        ("approx_count_distinct(a)", values("", "\0", "\0\0", '\0""', 1.5, "\0001.5"), 6),
        ("approx_count_distinct(a)", [], 0),
        ("quantile(a, [0.5, 0.9])", [], [None, None]),
        ("quantile(a, 0.5)", values(0, -3, 3), 0.0),
        ("median(a)", [], None),
        ("histogram(a, [0])", [], [0, 0]),
        ("ratio(sum(a), count())", [], None),
        ("ratio(sum(a), sum(a))", values(1, -1), None),
        ("ratio(max_, count())".replace("max_", "sum(a, where=a > 1)"), values(1, 4), 2.0),
        ("ratio(sum(a, where=a > 1), count(), where=a < 5)", values(1, 4, 9), 2.0),
        ("top_k(a, 2)", values(1, "x", 3), ["x", 3]),
        ("argmax(a, a)", values(None, 2), 2),
    ],
)  # fmt: skip
def test_over_values(text, documents, result):
    assert over(text, documents) == result


BIDS = [
    {"price": 9, "at": 2, "bidder": 1, "extra": "b"},
    {"price": 9, "at": 1, "bidder": 2, "extra": "z"},
    {"price": 9, "at": 1, "bidder": 2, "extra": "c"},
    {"price": 9, "at": 1, "bidder": 3, "extra": "a"},
    {"price": 8, "at": 0, "bidder": 0, "extra": "a"},
]


def test_an_order_of_several_values_in_both_directions():
    best = over("first(_value, order_by=[desc(price), at, bidder, extra])", BIDS)
    assert best == BIDS[2]
    assert over("last(extra, order_by=[price, desc(at), desc(bidder), desc(extra)])", BIDS) == "c"
    ranked = over("collect({'p': price, 'x': extra}, 3, order_by=[desc(price), at, bidder, extra])", BIDS)
    assert ranked == [{"p": 9, "x": "c"}, {"p": 9, "x": "z"}, {"p": 9, "x": "a"}]
    assert over("first(extra, order_by=desc(extra))", BIDS) == "z"


def test_of_equal_ones_arrival_decides():
    assert over("first(bidder, order_by=price, where=price == 9)", BIDS) == 1
    assert over("last(bidder, order_by=price)", BIDS) == 3
    assert over("argmax(bidder, price)", BIDS) == 1
    assert over("top_k(bidder, 2, price)", BIDS) == [1, 2]


def test_texts_come_after_numbers_in_any_order():
    mixed = values("b", 2, "a", 1)
    assert over("collect(a, 9, order_by=a)", mixed) == [1, 2, "a", "b"]
    assert over("collect(a, 9, order_by=desc(a))", mixed) == ["b", "a", 2, 1]
    assert over("last(a, order_by=a)", mixed) == "b"


def test_a_condition_is_asked_before_values_are_read():
    documents = [{"kind": "bid", "price": 3}, {"kind": "person"}]
    assert over('sum(price, where=kind == "bid")', documents) == 3
    assert over('first(kind, order_by=price, where=kind == "bid")', documents) == "bid"


def test_sums_of_integers_are_exact_beyond_64_bits_and_come_back():
    big = 2**63
    assert over("sum(a)", values(big, big)) == float(2**64)
    assert over("sum(a)", values(big, big, big, 1, -big, -big)) == big + 1
    assert over("mean(a)", values(big, big, big)) == float(big)
    assert over("sum(a)", values(*[-(2**63)] * 40, *[2**63] * 40, 7)) == 7
    assert over("sum(a)", values(big, big, 0.5)) == 2**64 + 0.5


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("sum(a)", "x", "sum(a) needs a number, got a text"),
        ("sum(a)", True, "sum(a) needs a number, got a boolean"),
        ("mean(a)", {}, "mean(a) needs a number, got an object"),
        ("min(a)", [1], "min(a) needs a number or a text, got a list"),
        ("sum(a)", 2**64, RANGE.format("sum(a)")),
        ("sum(a)", 1e308, "sum(a) is out of range: expected a number between -1e+290 and 1e+290"),
        ("variance(a)", 1e200, "variance(a) is out of range: expected a number between -1e+140 and 1e+140"),
        ("last(a)", float("nan"), RANGE.format("last(a)")),
        ("last(a)", {1, 2}, "last(a) keeps JSON values, got set that is none"),
        ("count(where=a)", {1, 2}, "count(where=a) keeps JSON values, got set that is none"),
        ("count_distinct(a)", [2**64], "count_distinct(a) keeps JSON values, got a list that is none"),
        ("last(a)", "\ud800", "last(a) got half of a surrogate pair, which is no text"),
        ("argmax(1, a)", [1], "an order needs a number or a text, got a list"),
        ("argmax(1, a)", float("inf"), RANGE.format("an order")),
        ("quantile(a, 0.5)", "x", "quantile(a, 0.5) needs a number, got a text"),
        ("ratio(sum(a), count())", "x", "sum(a) needs a number, got a text"),
    ],
)  # fmt: skip
def test_a_value_that_it_cannot_take(text, value, message):
    with pytest.raises(TransformError) as caught:
        over(text, [{"a": value}])
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["first(a)", "last(a)", "collect(a, 3)", "argmax(a, 1)", "top_k(a, 3, 1)"])
def test_nobody_else_can_change_what_is_kept(text):
    many = compiled([parse_aggregate(text)])
    kept = many.start()
    given = {"b": [1]}
    many.step(kept, arguments_of(many, {"a": given}))
    given["b"].append(2)
    before = copy.deepcopy(many.results(kept))
    [result] = many.results(kept)
    (result[0] if isinstance(result, list) else result)["b"].append(3)
    assert many.results(kept) == before
    assert "2" not in repr(before)


@pytest.mark.parametrize("text", [one.examples[0][0] for one in AGGREGATES.values() if one.examples])
def test_an_accumulator_can_be_copied(text):
    many = compiled([parse_aggregate(text)])
    kept = many.start()
    document = {"a": 1, "bidder": "x", "price": 1, "at": 1}
    many.step(kept, arguments_of(many, document))
    before = many.results(kept)
    copied = copy.deepcopy(kept)
    many.step(kept, arguments_of(many, {name: "z" if name == "bidder" else 9 for name in document}))
    assert many.results(copied) == before


def test_what_is_nested_so_deep_that_it_could_not_be_written_is_refused():
    deep = []
    for _ in range(246):
        deep = [deep]
    with pytest.raises(TransformError, match="keeps JSON values"):
        over("collect(a, 2)", [{"a": deep}])
    assert over("collect(a, 2)", [{"a": deep[0][0]}]) == [deep[0][0]]


def test_one_value_may_be_taken_in_several_ways():
    many = compiled([parse_aggregate(text) for text in ("count_distinct(a)", "last(a)", "count(where=a)", "min(b)")])
    assert len(many.columns.names) == 2
    kept = many.start()
    many.step(kept, arguments_of(many, {"a": [1], "b": 2}))
    assert many.results(kept) == [1, [1], 1, 2]


def test_an_aggregate_is_equal_and_pickled_by_its_text():
    one = parse_aggregate(" sum( a , where= b>1 ) ")
    assert str(one) == "sum(a, where=b>1)"
    assert one == pickle.loads(pickle.dumps(one)) == parse_aggregate("sum(a, where=b>1)")
    assert one != parse_aggregate("sum(a)")
    assert {one, parse_aggregate(str(one))} == {one}


def test_what_grows_says_so():
    texts = ("count()", "collect(a, 5)", "count_distinct(a)", "ratio(count_distinct(a), count())")
    assert [parse_aggregate(text).bounded for text in texts] == [True, True, False, False]
    assert parse_aggregate("collect(a, 5)").growth == "at most 5 values"


OWN = """
class Longest:
    def start(self):
        return {"text": "", "seen": 0}
    def add(self, state, text, weight=1):
        state["seen"] += weight
        if len(text) > len(state["text"]):
            state["text"] = text
        return state
    def merge(self, state, later):
        self.add(state, later["text"], later["seen"])
        return state
    def result(self, state):
        return (state["text"], state["seen"])

class Nothing(Longest):
    def add(self, state, text):
        return None

class Broken(Longest):
    def result(self, state):
        raise ValueError("secret")

class Partial:
    def start(self): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_aggregates.py").write_text(OWN)
    yield str(tmp_path)
    sys.modules.pop("own_aggregates", None)


def custom(own, name, *more):
    many = compiled([*map(parse_aggregate, more), prepared(own, f'custom("own_aggregates:{name}", a)')])
    return many, many.start()


def prepared(own, text):
    aggregate = parse_aggregate(text)
    aggregate.prepare(own)
    return aggregate


def test_own_code_steps_merges_and_gives(own):
    many, kept = custom(own, "Longest")
    assert many.results(kept) == [["", 0]]
    for text in ("aa", None, "b"):
        many.step(kept, arguments_of(many, {"a": text}))
    later = many.start()
    many.step(later, arguments_of(many, {"a": "ccc"}))
    many.merge(kept, later)
    assert many.results(kept) == [["ccc", 3]]


def test_own_code_that_fails_changes_nothing(own):
    many, kept = custom(own, "Longest", "count()")
    many.step(kept, arguments_of(many, {"a": "x"}))
    before = copy.deepcopy(kept)
    with pytest.raises(TransformError, match=r"^custom: add of own_aggregates:Longest failed with TypeError$"):
        many.step(kept, arguments_of(many, {"a": 5}))
    assert kept == before
    assert many.fallible


def test_own_code_that_cannot_work_is_said(own):
    many, kept = custom(own, "Nothing")
    with pytest.raises(TransformError, match="gave null; expected the new state"):
        many.step(kept, arguments_of(many, {"a": "x"}))
    many, kept = custom(own, "Broken")
    with pytest.raises(FatalError, match="result of own_aggregates:Broken failed with ValueError") as caught:
        many.results(kept)
    assert "secret" not in str(caught.value)
    with pytest.raises(FatalError, match="has no method `add`"):
        prepared(own, 'custom("own_aggregates:Partial", a)')
    with pytest.raises(FatalError, match="cannot be made: ModuleNotFoundError"):
        prepared(own, 'custom("there_is_none:Such", a)')

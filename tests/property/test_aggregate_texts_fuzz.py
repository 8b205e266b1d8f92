"""Whatever the text, it is an aggregate or is refused at a place in it; and an aggregate's text is its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.expr import AGGREGATES, Aggregate, ExpressionError, parse_aggregate

WORDS = st.sampled_from(
    [
        *AGGREGATES,
        "desc",
        "asc",
        "where",
        "order_by",
        "a",
        "b.c",
        "_value",
        "1",
        "0.5",
        "-1",
        "10",
        "1e999",
        "'m:C'",
        "ä",
    ]
)
SIGNS = st.sampled_from(["(", ")", "[", "]", ",", "=", "==", "*", "**", ":", " ", "\n", '"', "{", "}", "<", " and "])
TOKENS = st.lists(WORDS | SIGNS, max_size=14).map("".join)
VALUES = st.sampled_from(["a", "b.c", "a + 1", "[a, 1]", "_value", '{"x": a}', "'t'", "upper(a)"])


@st.composite
def calls(draw: st.DrawFn) -> str:
    """Something like a call, often right."""
    name = draw(st.sampled_from(list(AGGREGATES)))
    parts = draw(st.lists(VALUES | st.sampled_from(["10", "0.5", "[1, 2]", "sum(a)", "count()", "'m:C'"]), max_size=3))
    if draw(st.booleans()):
        order = ", ".join(draw(st.lists(VALUES | VALUES.map("desc({})".format), max_size=3)))
        parts.append(f"order_by=[{order}]")
    if draw(st.booleans()):
        parts.append(f"where={draw(VALUES)} == 1")
    return f"{name}({', '.join(parts)})"


def read(text: str) -> tuple[Aggregate | None, tuple[int, int]]:
    try:
        return parse_aggregate(text), (0, 0)
    except ExpressionError as error:
        return None, (error.offset, error.length)


@given(TOKENS | calls() | st.text(max_size=20))
def test_any_text_is_an_aggregate_or_refused_at_a_place_in_it(text: str) -> None:
    aggregate, place = read(text)
    if aggregate is None:
        assert 0 <= place[0] <= len(text)
        assert sum(place) <= len(text) + 1
        return
    again = parse_aggregate(str(aggregate))
    assert again == aggregate
    assert [str(argument) for argument in again.arguments] == [str(argument) for argument in aggregate.arguments]
    assert again.slots == aggregate.slots == len(eval(f"[{aggregate.start_source()}]"))

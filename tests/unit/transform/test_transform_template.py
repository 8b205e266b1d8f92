"""Templates: what is told about braces."""

from __future__ import annotations

import pytest

from streamd.expr.errors import ExpressionError
from streamd.transform.fields import parse_template


@pytest.mark.parametrize("text", ["{a", "a}", "{", "x {a} {b", "{}", "{ }", "{a}}"])
def test_a_brace_without_a_partner_or_an_expression(text):
    with pytest.raises(ExpressionError, match="a brace has no partner, or nothing in it") as caught:
        parse_template(text)
    assert (caught.value.offset, caught.value.length) == (0, len(text))


def test_a_mistake_within_braces_is_told_at_its_place():
    with pytest.raises(ExpressionError, match="there is no function 'f'") as caught:
        parse_template("ab {f(1)}")
    assert caught.value.offset == 4

"""Compiled queries find what the library's own evaluation finds, and are where their locations say."""

from __future__ import annotations

from typing import Any

import jsonpath_rfc9535
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.transform.jsonpath import JsonPath, normalized

names = st.sampled_from(["a", "b", "c d", "é", "'"])
scalar = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.floats(-2, 2), st.sampled_from(["", "a", "ab", "b"])
)
values = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=25,
)
small = st.one_of(st.just(""), st.integers(-4, 4).map(str))
quoted = names.map(lambda name: repr(name) if "'" not in name else '"\'"')
single = st.lists(st.one_of(quoted.map("[{}]".format), st.integers(-3, 3).map("[{}]".format)), max_size=2).map("".join)
# Scalars alone are compared: the library takes [1] and [true] for equal.
literal = st.sampled_from(["1", "0", "-1.5", "2e0", "true", "false", "null", "'a'", "''"])
operator = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
operand = st.one_of(
    single.map("@{}".format),
    st.builds("length(@{})".format, single),
    st.builds("count(@{}.*)".format, single),
    st.builds("value(@..{})".format, quoted.map("[{}]".format)),
)
basic = st.one_of(
    st.builds("{} {} {}".format, operand, operator, literal),
    st.builds("{} {} {}".format, literal, operator, operand),
    # Not of a bare @: the library takes its value for the answer.
    st.builds("{}@[{}]{}".format, st.sampled_from(["", "!"]), quoted, single),
    st.builds("@..{}".format, quoted.map("[{}]".format)),
    st.builds(
        "{}(@{}, '{}')".format, st.sampled_from(["match", "search"]), single, st.sampled_from(["a", "a.*", "[ab]b?"])
    ),
)
condition = st.recursive(
    basic,
    lambda inner: st.builds(
        "{}({} {} {})".format, st.sampled_from(["", "!"]), inner, st.sampled_from(["&&", "||"]), inner
    ),
    max_leaves=4,
)
selector = st.one_of(
    quoted,
    st.integers(-4, 4).map(str),
    st.builds("{}:{}:{}".format, small, small, small),
    st.just("*"),
    condition.map("?{}".format),
)
segment = st.builds(
    "{}[{}]".format, st.sampled_from(["", "", ".."]), st.lists(selector, min_size=1, max_size=3).map(", ".join)
)
paths = st.lists(segment, max_size=4).map(lambda segments: "$" + "".join(segments))


@settings(max_examples=1500)
@given(path=paths, document=values)
def test_compiled_queries_find_what_the_library_finds(path: str, document: Any) -> None:
    query = JsonPath(path)
    expected = jsonpath_rfc9535.find(path, document)
    assert repr(query.nodes(document)) == repr(expected.values())
    located = query.locate(document)
    assert repr([value for _, value in located]) == repr(expected.values())
    assert [location for location, _ in located] == [node.location for node in expected]
    for location, value in located:
        assert repr(JsonPath(normalized(location)).nodes(document)) == repr([value])

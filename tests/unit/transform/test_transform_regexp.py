"""Regular expressions of `match` and `search`: I-Regexp, in a time that the pattern cannot make long."""

from __future__ import annotations

import pytest

from streamd.errors import TransformError
from streamd.transform.regexp import MAX_PATTERN, compiled, match, search


@pytest.mark.parametrize(
    ("pattern", "whole", "not_whole"),
    [
        ("a.c", "a\u2028c", "a\nc"),
        ("a.c", "a😀c", "a\rc"),
        ("[.]", ".", "a"),
        ("a|b*", "bbb", "ab"),
        ("(ab){2,3}", "abab", "ab"),
        ("a{2}", "aa", "a"),
        ("[0-9]{10}", "0123456789", "012345678"),
        ("a{0,1000}b", "aab", "c"),
        ("()|a||(b)", "", "c"),
        ("[^^]", "a", "^"),
        ("[a^]", "^", "b"),
        ("a{2,}", "aaaa", "a"),
        ("a?b+", "bb", "aab"),
        ("[^a-c]", "d", "b"),
        ("[a&&b]+", "a&b", "c"),
        ("[-a]+", "a-", "b"),
        (r"[\-\]\[\\]+", r"]-[\ "[:-1], "a"),
        (r"\.\*\n\t", ".*\n\t", "a"),
        (r"\p{Lu}\p{Ll}", "Éa", "éA"),
        (r"\P{L}", "1", "a"),
        (r"[\p{N}x]+", "x٣", "a"),
        (r"\p{Cn}", "\u0378", "a"),
        (r"\P{Cn}", "a", "\u0378"),
        (r"[\p{Cn}b]", "b", "c"),
        (r"\p{C}", "\u0378", "a"),
        (r"\P{C}", "a", "\u0000"),
    ],
)
def test_patterns(pattern, whole, not_whole):
    assert match(whole, pattern)
    assert search(f"\n{whole}\n", pattern) is True
    assert not match(not_whole, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "[[]",
        r"\d",
        r"\b",
        "(?i)a",
        "a*?",
        "a++",
        r"(a)\1",
        "(?=a)",
        "[a-c&&[b]]",
        r"\p{X}",
        "[z-a]",
        "a{2,1}",
        "[]",
        "[^]",
        "a{,2}",
        "*",
        "a|*",
        "(?:a)",
        "a)",
        "]",
        "}",
        "[a--b]",
        "[a-\\p{L}]",
    ],
)
def test_what_is_no_pattern_matches_nothing(pattern):
    assert compiled(pattern) is None
    assert not search("aaa", pattern)


def test_nothing_but_text_is_matched():
    assert not match(1, "1")
    assert not search(["a"], "a")
    assert not match("a", ["a"])


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*)*(.*)*(.*)*b"])
def test_no_pattern_takes_more_than_time_in_proportion_to_the_text(pattern):
    assert not search("a" * 200_000, pattern)


@pytest.mark.parametrize("pattern", ["a" * (MAX_PATTERN + 1), "(" * 100_000, "a{2000}"])
def test_a_pattern_that_is_too_large(pattern):
    with pytest.raises(TransformError, match="the pattern"):
        compiled(pattern)

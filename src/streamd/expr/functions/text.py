"""Functions of text. Methods of `str` are taken as they are: no call in between, and only text is accepted."""

from __future__ import annotations

import operator
from typing import Any

from streamd.errors import TransformError
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import check_text, times, type_name

TEXT = Catalogue("text")

TEXT.add("lower(text)", "The text in lower case.", str.lower, ('lower("ABC")', "abc"), result="text", linear=True)
TEXT.add("upper(text)", "The text in upper case.", str.upper, ('upper("abc")', "ABC"), result="text", linear=True)
TEXT.add(
    "capitalize(text)",
    "The first letter in upper case, the others in lower case.",
    str.capitalize,
    ('capitalize("anna MARIA")', "Anna maria"),
    result="text",
    linear=True,
)
TEXT.add(
    "title(text)",
    "Each word with a capital.",
    str.title,
    ('title("anna maria")', "Anna Maria"),
    result="text",
    linear=True,
)
TEXT.add(
    "trim(text, characters=null)",
    "The text without white space, or the given characters, at both ends.",
    str.strip,
    ('trim("  a b ")', "a b"),
    ('trim("--a-b-", "-")', "a-b"),
    result="text",
    linear=True,
)
TEXT.add(
    "trim_start(text, characters=null)",
    "The text without white space, or the given characters, at its start.",
    str.lstrip,
    ('trim_start("  a ")', "a "),
    ('trim_start("007", "0")', "7"),
    result="text",
    linear=True,
)
TEXT.add(
    "trim_end(text, characters=null)",
    "The text without white space, or the given characters, at its end.",
    str.rstrip,
    ('trim_end(" a  ")', " a"),
    result="text",
    linear=True,
)
TEXT.add(
    "remove_prefix(text, prefix)",
    "The text without the prefix, where it starts with it.",
    str.removeprefix,
    ('remove_prefix("order-17", "order-")', "17"),
    result="text",
    linear=True,
)
TEXT.add(
    "remove_suffix(text, suffix)",
    "The text without the suffix, where it ends with it.",
    str.removesuffix,
    ('remove_suffix("a.json", ".json")', "a"),
    result="text",
    linear=True,
)
TEXT.add(
    "starts_with(text, prefix)",
    "Whether the text starts with the prefix.",
    str.startswith,
    ('starts_with("order-17", "order-")', True),
    result="bool",
    linear=True,
)
TEXT.add(
    "ends_with(text, suffix)",
    "Whether the text ends with the suffix.",
    str.endswith,
    ('ends_with("a.json", ".json")', True),
    result="bool",
    linear=True,
)
TEXT.add(
    "contains(text, part)",
    "Whether the part is in the text (an item in a list, a key in an object). The same as `part in text`.",
    operator.contains,
    ('contains("abcd", "bc")', True),
    ("contains([1, 2], 3)", False),
    result="bool",
    linear=True,
)
TEXT.add(
    "split(text, separator=null, limit=-1)",
    "The parts of the text between separators (white space when none is given), at most `limit` cuts.",
    str.split,
    ('split("a/b/c", "/")', ["a", "b", "c"]),
    ('split("a/b/c", "/", limit=1)', ["a", "b/c"]),
    ('split(" a  b ")', ["a", "b"]),
    result="list",
    linear=True,
)
TEXT.add(
    "lines(text)",
    "The lines of the text, without their ends.",
    str.splitlines,
    ('lines("a\\nb")', ["a", "b"]),
    result="list",
)
TEXT.add(
    "index_of(text, part, start=0)",
    "Where the part first is in the text, from 0 on; -1 where it is not.",
    str.find,
    ('index_of("abcabc", "c")', 2),
    ('index_of("abcabc", "x")', -1),
    result="int",
)
TEXT.add(
    "count(text, part)",
    "How many times the part is in the text, without overlaps.",
    str.count,
    ('count("banana", "an")', 2),
    result="int",
)
TEXT.add(
    "is_digits(text)",
    "Whether the text is digits only, and not empty.",
    str.isdigit,
    ('is_digits("042")', True),
    ('is_digits("4.2")', False),
    result="bool",
    linear=True,
)
TEXT.add(
    "is_letters(text)",
    "Whether the text is letters only, and not empty.",
    str.isalpha,
    ('is_letters("Ärger")', True),
    result="bool",
    linear=True,
)


@TEXT.function(
    'join(parts, separator="")', ('join(["a", "b"], ", ")', "a, b"), ('join(["a", "b"])', "ab"), result="text"
)
def join(parts: Any, separator: Any) -> str:
    """The texts of a list as one text, with the separator between them."""
    if not isinstance(parts, list | tuple):
        raise TypeError(f"join takes a list of texts, not a {type_name(parts)}")
    if len(parts) > 1:
        check_text(len(separator) * (len(parts) - 1))
    joined: str = str.join(separator, parts)
    check_text(len(joined))
    return joined


@TEXT.function(
    "replace(text, old, new)",
    ('replace("a-b-c", "-", "/")', "a/b/c"),
    ('replace("a-b-c", "-", "")', "abc"),
    result="text",
)
def replace(text: Any, old: Any, new: Any) -> str:
    """The text with each `old` replaced by `new`."""
    if len(new) > len(old):
        check_text(len(text) + str.count(text, old) * (len(new) - len(old)))
    return str.replace(text, old, new)


@TEXT.function("repeat(text, times)", ('repeat("ab", 3)', "ababab"), result="text")
def repeat(text: Any, count: Any) -> str:
    """The text that many times."""
    if not isinstance(text, str) or not isinstance(count, int):
        raise TypeError(f"repeat takes a text and a whole number, not a {type_name(text)} and a {type_name(count)}")
    repeated: str = times(text, count)
    return repeated


@TEXT.function("reverse(text)", ('reverse("abc")', "cba"), ("reverse([1, 2])", [2, 1]))
def reverse(text: Any) -> Any:
    """The text or list from its end to its start."""
    if not isinstance(text, str | list | tuple):
        raise TypeError(f"reverse takes a text or a list, not a {type_name(text)}")
    return text[::-1]


@TEXT.function(
    "substring(text, start, length=null)",
    ('substring("abcdef", 2, 3)', "cde"),
    ('substring("abcdef", -2)', "ef"),
    result="text",
)
def substring(text: Any, start: Any, length: Any) -> str:
    """At most `length` characters from `start` (from 0 on; negative: from the end), or all that follow."""
    if not isinstance(text, str):
        raise TypeError(f"substring takes a text, not a {type_name(text)}")
    tail = text[start:]
    if length is None:
        return tail
    if length < 0:
        raise TransformError("substring: the length is negative")
    return tail[:length]


@TEXT.function(
    'pad_start(text, width, fill=" ")',
    ('pad_start("7", 3, "0")', "007"),
    ('pad_start("1234", 3)', "1234"),
    result="text",
)
def pad_start(text: Any, width: Any, fill: Any) -> str:
    """The text, filled up at its start to `width` characters."""
    check_text(width)
    return str.rjust(text, width, fill)


@TEXT.function('pad_end(text, width, fill=" ")', ('pad_end("ab", 4, ".")', "ab.."), result="text")
def pad_end(text: Any, width: Any, fill: Any) -> str:
    """The text, filled up at its end to `width` characters."""
    check_text(width)
    return str.ljust(text, width, fill)


@TEXT.function('mask(text, keep=4, fill="*")', ('mask("4111111111111111")', "************1111"), result="text")
def mask(text: Any, keep: Any, fill: Any) -> str:
    """The text with all characters but the last `keep` hidden."""
    if not isinstance(text, str) or not isinstance(fill, str) or len(fill) != 1:
        raise TypeError("mask takes a text, how many characters to keep, and one character to fill with")
    hidden: int = max(0, len(text) - max(0, keep))
    return str(fill * hidden + text[hidden:])

"""Functions with regular expressions. A pattern is a literal text, compiled and checked when the expression is read.

Python's `re` backtracks: some patterns take exponential time on some texts. `streamd.expr.functions.ambiguity` refuses
those, and tells how the time of the others grows with the text; the length of text that a pattern may be tried on
follows from that.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

from streamd.errors import TransformError
from streamd.expr.functions.ambiguity import growth
from streamd.expr.functions.catalogue import Catalogue
from streamd.expr.limits import check_text, type_name

PATTERN = Catalogue("text")
MAX_PATTERN = 500
# Longest text for patterns whose time grows with this power of its length: about a second on the worst text there is.
MAX_LENGTHS = {1: 1_000_000, 2: 20_000, 3: 1_000, 4: 300, 5: 120}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A checked regular expression. `longest`: the most characters it may be tried on."""

    regex: re.Pattern[str]
    longest: int

    def on(self, text: Any) -> str:
        """The text, if the pattern may be tried on it."""
        if not isinstance(text, str):
            raise TypeError(f"a pattern is tried on a text, not on a {type_name(text)}")
        if len(text) > self.longest:
            raise TransformError(f"the text is longer than the {self.longest:,} characters allowed for this pattern")
        return text

    def __repr__(self) -> str:
        return repr(self.regex.pattern)


def read_pattern(text: str) -> Pattern:
    """Raises ValueError for what is no regular expression, or one that could take too long."""
    if len(text) > MAX_PATTERN:
        raise ValueError(f"the pattern has more than {MAX_PATTERN} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            regex = re.compile(text)
            power = growth(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if power not in MAX_LENGTHS:
        raise ValueError(
            "the pattern could take too long: too many repeats in it can match what may follow them; "
            "start it with ^, or write [^ ]* for .* where a space follows"
        )
    return Pattern(regex, MAX_LENGTHS[power])


_TRAITS: dict[str, Any] = {"literals": {"pattern": read_pattern}}


@PATTERN.function(
    "matches(text, pattern)",
    ('matches("order-17", "^order-\\\\d+$")', True),
    ('matches("an order-17", "order")', True),
    result="bool",
    **_TRAITS,
)
def matches(text: Any, pattern: Any) -> bool:
    """Whether the regular expression is found in the text; `^…$` for the whole of it."""
    return pattern.regex.search(pattern.on(text)) is not None


@PATTERN.function(
    "extract(text, pattern, group=null)",
    ('extract("?a=1&channel_id=42&b", "&channel_id=([^&]*)")', "42"),
    ('extract("2026-01", "(?P<year>\\\\d{4})-(\\\\d\\\\d)", "year")', "2026"),
    ('extract("abc", "x")', None),
    **_TRAITS,
)
def extract(text: Any, pattern: Any, group: Any) -> Any:
    """What the regular expression finds: the group with this number or name, by default the first; null for nothing.

    Without any group in the pattern it is all that was found.
    """
    found = pattern.regex.search(pattern.on(text))
    if found is None:
        return None
    if group is None:
        group = 1 if pattern.regex.groups else 0
    try:
        return found[group]
    except IndexError:
        raise TransformError("extract: the pattern has no such group") from None


@PATTERN.function(
    "extract_all(text, pattern)", ('extract_all("a1b22", "\\\\d+")', ["1", "22"]), result="list", **_TRAITS
)
def extract_all(text: Any, pattern: Any) -> list[str]:
    """Everything that the regular expression finds, as a list of texts (of its first group, where it has one)."""
    group = 1 if pattern.regex.groups else 0
    return [found[group] for found in pattern.regex.finditer(pattern.on(text))]


@PATTERN.function(
    "replace_pattern(text, pattern, new)", ('replace_pattern("a1b22", "\\\\d+", "#")', "a#b#"), result="text", **_TRAITS
)
def replace_pattern(text: Any, pattern: Any, new: Any) -> str:
    """The text with all that the regular expression finds replaced by `new`, taken as it is."""
    if not isinstance(new, str):
        raise TypeError(f"replace_pattern puts in a text, not a {type_name(new)}")
    check_text((len(pattern.on(text)) + 1) * len(new) if len(new) > 1 and len(text) * len(new) > 1 << 24 else 0)
    replaced = str(pattern.regex.sub(lambda found: new, text))
    check_text(len(replaced))
    return replaced


@PATTERN.function(
    "split_pattern(text, pattern)", ('split_pattern("a, b;c", "[,;] *")', ["a", "b", "c"]), result="list", **_TRAITS
)
def split_pattern(text: Any, pattern: Any) -> list[Any]:
    """The parts of the text between what the regular expression finds."""
    if pattern.regex.groups:
        raise TransformError("split_pattern: the pattern has groups; write (?:…) for them")
    return pattern.regex.split(pattern.on(text))  # type: ignore[no-any-return]

"""The regular expressions of JSONPath's `match` and `search`: I-Regexp (RFC 9485), matched by RE2.

RE2 takes time in proportion to the text, whatever the pattern is; so a pattern may come out of a record as well.
Anchors (^, $) mean what they mean everywhere, though I-Regexp has none: that is how all others read JSONPath.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

import re2

from streamd.errors import TransformError

MAX_PATTERN = 1_000  # characters
MAX_REPEAT = 1_000  # what RE2 allows
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True

# The grammar of RFC 9485. A class begins with its ^ or does not: no backtracking there.
_ESCAPE = r"\\[()*+\-.?\[\\\]^nrt{|}]"
_CATEGORY = r"\\[pP]\{(?:L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|Z[lps]?|S[ckmo]?|C[cfno]?)\}"
_CHARACTER = rf"(?:[^\-\[\\\]]|{_ESCAPE})"
_MEMBER = rf"(?:{_CHARACTER}(?:-{_CHARACTER})?|{_CATEGORY})"
_TOKEN = re.compile(
    rf"(?P<class>\[\^?+(?:-|{_MEMBER}){_MEMBER}*-?\])|(?P<category>{_CATEGORY})|(?P<dot>\.)"
    rf"|(?P<atom>{_ESCAPE}|[^()*+.?\[\\\]{{|}}])"
    r"|(?P<quantifier>[*+?]|\{(?P<least>[0-9]+)(?:,(?P<most>[0-9]*))?\})|(?P<open>\()|(?P<close>\))|(?P<or>\|)",
    re.DOTALL,
)
_UNASSIGNED = re.compile(r"\\([pP])\{(Cn?)\}")
_OTHER = frozenset({"Cn", "Cc", "Cf", "Co", "Cs"})  # \p{C}


@lru_cache(maxsize=4)
def _ranges(name: str, *, inside: bool) -> str:
    """The characters of \\p{Cn} or \\p{C}, or all others, as in a class: RE2 knows of no unassigned characters."""
    categories = frozenset({"Cn"}) if name == "Cn" else _OTHER
    found, start = [], -1
    for code in range(0x110000):
        belongs = (unicodedata.category(chr(code)) in categories) is inside and not 0xD800 <= code <= 0xDFFF
        if belongs and start < 0:
            start = code
        elif not belongs and start >= 0:
            found.append(f"\\x{{{start:x}}}-\\x{{{code - 1:x}}}")
            start = -1
    return "".join([*found, f"\\x{{{start:x}}}-\\x{{10ffff}}"] if start >= 0 else found)


def _assigned(text: str) -> str:
    return _UNASSIGNED.sub(lambda found: _ranges(found[2], inside=found[1] == "p"), text)


def _translated(pattern: str) -> str | None:
    """An I-Regexp in the words of RE2; None for what is none. Raises TransformError for a number beyond RE2's."""
    parts: list[str] = []
    depth, at, repeatable = 0, 0, False
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return None
        kind, text, at = token.lastgroup, token[0], token.end()
        if token["quantifier"] is not None:
            if not repeatable or not _is_range(token["least"], token["most"]):
                return None
            repeatable = False
        elif kind == "close":
            depth, repeatable = depth - 1, True
            if depth < 0:
                return None
        else:
            depth, repeatable = depth + (kind == "open"), kind not in ("open", "or")
        if kind == "dot":
            text = r"[^\n\r]"
        elif kind == "class":
            text = _assigned(text)
        elif kind == "category" and _UNASSIGNED.fullmatch(text):
            text = f"[{_assigned(text)}]"
        parts.append(text)
    return "".join(parts) if depth == 0 else None


def _is_range(least: str | None, most: str | None) -> bool:
    if least is None:
        return True
    if max(len(least.lstrip("0")), len((most or "").lstrip("0"))) > 4 or max(int(least), int(most or 0)) > MAX_REPEAT:
        raise TransformError(f"the pattern is too large: a part may be repeated at most {MAX_REPEAT:,} times")
    return not most or int(least) <= int(most)


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """The pattern ready for use; None for what is no I-Regexp, and so matches nothing.

    Raises TransformError for one that is too large.
    """
    if len(pattern) > MAX_PATTERN:
        raise TransformError(f"the pattern has more than {MAX_PATTERN:,} characters")
    translated = _translated(pattern)
    if translated is None:
        return None
    try:
        return re2.compile(translated, _OPTIONS)
    except re2.error as error:
        if "range" in str(error) and "class" in str(error):  # [z-a]
            return None
        raise TransformError("the pattern is too large") from error


def match(text: Any, pattern: Any) -> bool:
    """Whether the pattern is all of the text. What is no text, or no pattern, does not match."""
    regex = compiled(pattern) if text.__class__ is str and pattern.__class__ is str else None
    return regex is not None and regex.fullmatch(text) is not None


def search(text: Any, pattern: Any) -> bool:
    """Whether the pattern is somewhere in the text."""
    regex = compiled(pattern) if text.__class__ is str and pattern.__class__ is str else None
    return regex is not None and regex.search(text) is not None

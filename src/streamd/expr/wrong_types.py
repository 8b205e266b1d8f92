"""What Python says of a value of a wrong type, in the words of expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

# Python's names of types, as `type_name` tells them.
_WORDS: Mapping[str, str] = {
    "NoneType": "null", "str": "text", "int": "number", "float": "number", "bool": "bool",
    "dict": "object", "list": "list", "tuple": "list", "bytes": "bytes",
}  # fmt: skip
_TOLD: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"'(\w+)' object is not subscriptable", lambda of: f"{of} has no fields and no items"),
    (r"string indices must be integers.*", lambda: "text has no fields, only characters by their number"),
    (r"(list|tuple) indices must be integers.*", lambda of: f"{of} has no fields, only items by their number"),
    (r"'(\S+)' not supported between instances of '(\w+)' and '(\w+)'",
     lambda sign, a, b: f"`{sign}` cannot compare {a} with {b}"),
    (r"unsupported operand type\(s\) for (.+?): '(\w+)' and '(\w+)'",
     lambda sign, a, b: f"`{sign.split()[0]}` cannot be used on {a} and {b}"),
    (r"can only concatenate (\w+) \(not \"(\w+)\"\) to \w+", lambda a, b: f"`+` cannot be used on {a} and {b}"),
    (r"can't multiply sequence by non-int of type '(\w+)'",
     lambda of: "`*` cannot be used on text or list and " + ("a number with a fraction" if of == "number" else of)),
    (r"bad operand type for unary (\S): '(\w+)'",
     lambda sign, of: f"`{sign}` cannot be used on {of}" if sign != "+" else f"{of} is no number"),
    (r"'(\w+)' object is not iterable", lambda of: f"cannot loop over {of}"),
    (r"argument of type '(\w+)' is not .*", lambda of: f"`in` looks into text, list or object, not into {of}"),
    (r"unhashable type: '(\w+)'", lambda of: f"{of} cannot be the name of a field"),
    (r"unsupported format string passed to (\w+)\.__format__", lambda of: f"{of} has no such format"),
    (r"object of type '(\w+)' has no len\(\)", lambda of: f"len takes text, list or object, not {of}"),
    (r"descriptor '(\w+)' for '(\w+)' objects doesn't apply to an? '(\w+)' object",
     lambda name, wanted, of: f"{name} takes {wanted}, not {of}"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern), told) for pattern, told in _TOLD)


def in_words(message: str) -> str:
    """A TypeError's text, which names types and never values; as it is where it is none of Python's own."""
    for pattern, told in _PATTERNS:
        found = pattern.fullmatch(message)
        if found is not None:
            return told(*(_WORDS.get(part, part) for part in found.groups()))
    return message

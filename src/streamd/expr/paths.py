"""Walking into a value where a missing part is an answer and not an error: the runtime of `has` and `get`."""

from __future__ import annotations

from typing import Any, Final


class _Missing:
    """The sentinel's class; it survives pickling as the same object and reads well in generated code."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


def find(value: Any, *keys: Any) -> Any:
    """`value[key][key]…`, or MISSING where a level has no such key or index, or is no object, list or text at all."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        elif isinstance(value, list | tuple | str) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        else:
            hash(key)  # a list is no key for any value: an error whatever the record holds
            return MISSING
    return value


def has_path(value: Any, *keys: Any) -> bool:
    """Whether every level of the path is there. A null at its end is there."""
    return find(value, *keys) is not MISSING


def get_path(value: Any, default: Any, *keys: Any) -> Any:
    """What the path leads to, or `default` where a level is missing."""
    found = find(value, *keys)
    return default if found is MISSING else found

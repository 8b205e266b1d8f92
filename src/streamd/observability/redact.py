"""What may stand in a log line: plain values, cut to size, without secrets or objects that could show records."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from streamd.errors import RecordError, StreamdError
from streamd.record import TaskId

HIDDEN = "***"
MAX_TEXT = 2000
MAX_ITEMS = 20
MAX_DEPTH = 4

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authorization|api[_.-]?key|private[_.-]?key|sasl[_.-]?jaas",
    re.IGNORECASE,
)
# name=value and name: value with a secret name, Bearer/Basic headers, and the password in a URL.
_SECRET_TEXT = (
    (
        re.compile(
            r"""(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_.-]?key|private[_.-]?key)["']?\s*[=:]\s*)"""
            r"""("[^"]*"|'[^']*'|[^\s,;&)}\]]+)"""
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
)
# Names that only look secret: a token count says nothing.
_HARMLESS = frozenset({"tokens", "token_count", "secrets_count"})

_known: set[str] = set()


def hide(secret: str) -> None:
    """From here on this text is shown as *** wherever what is printed or logged has it, escaped or not.

    Texts under 6 characters are in many words: they are only sought in quotes.
    """
    if len(secret) >= 6:
        _known.update((secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]))
    elif secret:
        _known.update((f"'{secret}'", f'"{secret}"'))


def known(value: str) -> str:
    """The text without what is known as a secret; the rest as it is."""
    for secret in sorted(_known, key=len, reverse=True):
        value = value.replace(secret, HIDDEN)
    return value


def text(value: str, limit: int = MAX_TEXT) -> str:
    """The text without what looks like, or is known as, a secret; cut to `limit` characters."""
    value = known(value)
    for pattern, shown in _SECRET_TEXT:
        value = pattern.sub(shown, value)
    return value if len(value) <= limit else value[: limit - 1] + "…"


def plain(value: Any, name: str = "", depth: int = 0) -> Any:
    """The value as a log line may hold it.

    Text, numbers, paths, enums and errors as they are; mappings and sequences to a depth of 4 and 20 elements; bytes as
    their length; anything else as its class, because its repr could show records or secrets.
    """
    if name and _SECRET_NAME.search(name) and name not in _HARMLESS:
        return HIDDEN if value not in (None, "") else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str):
        return text(value)
    if isinstance(value, TaskId | PurePath):
        return text(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return error_line(value)
    return _collection(value, depth)


def _collection(value: Any, depth: int) -> Any:
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            items = list(value.items())[:MAX_ITEMS]
            return {str(key): plain(item, str(key), depth + 1) for key, item in items}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(item, "", depth + 1) for item in list(value)[:MAX_ITEMS]]
    return f"<{type(value).__name__}>"


def error_line(error: BaseException) -> str:
    """An error in one line: class and message. Of what lies behind a record's error only the class is shown."""
    return _line(error, private=any(isinstance(each, RecordError) for each in _chain(error)))


def error_text(error: BaseException) -> str:
    """An error with its traceback and its causes, without local variables.

    Where a record's error is in the chain, messages of errors that are not streamd's own are left out: libraries like
    to quote what they could not parse.
    """
    chain = list(_chain(error))
    private = any(isinstance(each, RecordError) for each in chain)
    parts: list[str] = []
    for each in reversed(chain):
        frames = "".join(traceback.format_tb(each.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{_line(each, private)}")
        if isinstance(each, BaseExceptionGroup):
            parts.extend(error_text(inner) for inner in each.exceptions[:MAX_ITEMS])
    return "\n\nwhich led to:\n\n".join(parts)


def _line(error: BaseException, private: bool) -> str:
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ in {"builtins", "streamd.errors"}
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    if private and not isinstance(error, StreamdError):
        return f"{name} (message left out: it may hold record contents)"
    message = text(str(error))
    return f"{name}: {message}" if message else name


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, what caused that, …"""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_ITEMS:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)

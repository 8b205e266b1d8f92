"""The source of a kernel while it is written: lines, the objects that they name, and the functions they become."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

_NUMBERS = count(1)


class Code:
    """Functions of generated source, and the namespace they run in."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.namespace: dict[str, Any] = {}

    def add(self, lines: Iterable[str], indent: int = 0) -> None:
        """Append lines, so many levels further in."""
        self.lines += indented(lines, indent)

    def constant(self, hint: str, value: Any) -> str:
        """Make a Python object known to the code, and return the name it has there."""
        name, n = hint, 2
        while name in self.namespace and self.namespace[name] is not value:
            name, n = f"{hint}_{n}", n + 1
        self.namespace[name] = value
        return name

    @property
    def source(self) -> str:
        """All of it."""
        return "\n".join(self.lines) + "\n"

    def functions(self, what: str) -> dict[str, Callable[..., Any]]:
        """Compile it: the namespace with the functions. Tracebacks show their lines."""
        source, filename = self.source, f"<streamd {what} {next(_NUMBERS)}>"
        namespace = dict(self.namespace)
        exec(compile(source, filename, "exec"), namespace)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        return namespace


def indented(lines: Iterable[str], levels: int = 1) -> list[str]:
    """The lines, further in."""
    return [f"{'    ' * levels}{line}" for line in lines]

"""A problem in a configuration file, and how it is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from streamd.config.file_text import FileText
from streamd.config.pipeline import Place
from streamd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: where, a stable code, what was wrong, what was expected, and what may help.

    `note`: what else belongs to it, such as where a chain was used.
    `source`, where the file could be read, with the span [start, end) of characters at fault.
    """

    code: str
    message: str
    place: Place
    expected: str = ""
    help: str = ""
    source: FileText | None = field(default=None, repr=False, compare=False)
    start: int = field(default=0, repr=False)
    end: int = field(default=0, repr=False)
    note: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.place}: error[{self.code}]: {self.message}"

    def render(self) -> str:
        """The problem with the lines of the file, a caret, what was expected, and help."""
        lines = [str(self)]
        if self.source is not None and self.source.text:
            lines += self.source.snippet(self.start, self.end)
        if self.expected:
            lines.append(f"   = expected: {self.expected}")
        if self.help:
            lines.append(f"   = help: {self.help}")
        if self.note:
            lines.append(f"   = note: {self.note}")
        return "\n".join(lines)


def config_error(diagnostics: Iterable[Diagnostic]) -> ConfigError:
    """One error of all problems, sorted by place; its message is every problem on a line of its own."""
    unique = dict.fromkeys(diagnostics)
    found = tuple(sorted(unique, key=lambda d: (d.place.file, d.place.line, d.place.column)))
    return ConfigError("\n".join(str(diagnostic) for diagnostic in found), found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` for the nearest known word, or an empty text."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near is not None else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    candidates = {name.lower().replace("-", "_"): name for name in known}
    matches = difflib.get_close_matches(word.lower().replace("-", "_"), candidates, n=1, cutoff=0.6)
    return candidates[matches[0]] if matches else None


def one_of(words: Sequence[str]) -> str:
    """`one of a, b, c`, or the only one."""
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)

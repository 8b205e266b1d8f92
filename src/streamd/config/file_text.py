"""The text of a configuration file: places in it, and lines of it that may be shown."""

from __future__ import annotations

import re
from bisect import bisect_right

from streamd.config.pipeline import Place

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|(^|[_.\-])pwd|(^|[_.\-])pw($|[_.\-])|[_.\-]pass$|secret|token|credential|private"
    r"|api[_\-]?key|access[_\-]?key",
    re.IGNORECASE,
)
_KEY_IN_LINE = re.compile(r"""["']?(?P<key>[A-Za-z0-9_.\-]+)["']?\s*:(?=\s|$)\s*""")

_MASK = "***"
_MAX_SHOWN = 160


def is_secret_name(name: str) -> bool:
    """Whether a key's name says that its value must not be shown."""
    return _SECRET_NAME.search(name) is not None


class FileText:
    """A file's name and text. An index is a character's place in the text, from 0; lines and columns start at 1."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]
        # Spans (start, end) of values that must not be shown.
        self._masked: list[tuple[int, int]] = []

    def place(self, index: int) -> Place:
        """File, line and column of a character."""
        line = bisect_right(self._starts, index)
        return Place(self.name, line, index - self._starts[line - 1] + 1)

    def index(self, line: int) -> int:
        """Where a line starts."""
        return self._starts[min(line, len(self._starts)) - 1]

    def mask(self, start: int, end: int) -> None:
        """Never show these characters."""
        if end > start:
            self._masked.append((start, end))

    def mask_by_text(self) -> None:
        """Mask what looks like a secret, in a text that could not be parsed.

        From a key with a secret's name to the end of its line, and every following line that is indented deeper.
        """
        deeper_than: int | None = None
        for number in range(1, len(self._starts) + 1):
            start, line = self.index(number), self._line(number)
            indent = len(line) - len(line.lstrip())
            if deeper_than is not None and (indent > deeper_than or not line.strip()):
                self.mask(start, start + len(line))
                continue
            deeper_than = None
            for match in _KEY_IN_LINE.finditer(line):
                if is_secret_name(match["key"]):
                    self.mask(start + match.end(), start + len(line))
                    deeper_than = indent
                    break

    def snippet(self, start: int, end: int) -> list[str]:
        """The line of `start`, the one before it, and a caret line under [start, end); secrets masked."""
        place = self.place(start)
        first = place.line - 1 if place.line > 1 and self._line(place.line - 1).strip() else place.line
        width = len(str(place.line))
        lines = []
        for number in range(first, place.line):
            shown, _ = self._shown(number, 0)
            lines.append(f" {number:>{width}} | {shown[:_MAX_SHOWN]}".rstrip())
        line_start, line = self.index(place.line), self._line(place.line)
        shown, caret = self._shown(place.line, start - line_start)
        _, caret_end = self._shown(place.line, min(max(end, start + 1) - line_start, max(len(line), 1)))
        cut = max(0, caret - _MAX_SHOWN // 2) if len(shown) > _MAX_SHOWN else 0
        window, caret = shown[cut : cut + _MAX_SHOWN], caret - cut
        length = min(max(1, caret_end - cut - caret), max(1, len(window) - caret))
        lines.append(f" {place.line:>{width}} | {window}".rstrip())
        lines.append(f" {'':>{width}} | {' ' * caret}{'^' * length}")
        return lines

    def _line(self, number: int) -> str:
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def _shown(self, number: int, column: int) -> tuple[str, int]:
        """A line as it may be printed, and where a column (from 0) of it is then."""
        start, line = self.index(number), self._line(number)
        shown: list[str] = []
        length, new_column, at = 0, 0, 0
        while at < len(line):
            if at <= column:
                new_column = length
            masked_end = max((e for s, e in self._masked if s <= start + at < e), default=0)
            piece = _MASK if masked_end else (line[at] if line[at].isprintable() else " ")
            at = masked_end - start if masked_end else at + 1
            shown.append(piece)
            length += len(piece)
        return "".join(shown), new_column if column < len(line) else length

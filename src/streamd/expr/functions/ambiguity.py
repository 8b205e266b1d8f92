"""How the time of a regular expression grows with its text, told from the pattern alone.

A backtracking matcher is slow where it can cut the same text in several ways: a repeat whose body can start with a
character that may also follow the repeat has to try each place to stop. One such repeat multiplies the work by the
length of the text. Inside another repeat it doubles the work with each character: such patterns are refused. The
analysis looks one character ahead, so it may count an ambiguity that is none; it never misses one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as reader  # type: ignore[attr-defined]
from typing import Any, TypeAlias


class TooSlowError(ValueError):
    """The pattern could take exponential time on some text."""


Characters: TypeAlias = frozenset[int]

# Every ASCII character, and one (128) that stands for all others.
_OTHER = 128
_ALL: Characters = frozenset(range(_OTHER + 1))
_MAX_CHOICES = 8  # each at most doubles the work
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_LOOKS = (codes.ASSERT, codes.ASSERT_NOT)
_SINGLE = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)


def growth(pattern: str) -> int:
    """The power of the text's length that the time grows with: 1 is linear. Raises TooSlowError."""
    tree = reader.parse(pattern)
    # A flag inside the pattern may hold for a part of it only; taking it for the whole errs on the safe side.
    scan = _Scan(bool(tree.state.flags & re.IGNORECASE) or re.search(r"\(\?\w*i", pattern) is not None)
    scan.sequence(list(tree), frozenset(), looping=False)
    items = list(tree)
    anchored = bool(items) and items[0] in ((codes.AT, codes.AT_BEGINNING), (codes.AT, codes.AT_BEGINNING_STRING))
    anchored = anchored and not tree.state.flags & re.MULTILINE
    starts = 0 if anchored or not scan.repeats else 1
    return 1 + starts + scan.ambiguities


class _Scan:
    """Walks the parsed pattern from its end, so that what may follow is known at each part."""

    def __init__(self, ignore_case: bool) -> None:
        self.ignore_case = ignore_case
        self.ambiguities = 0
        self.choices = 0
        self.repeats = 0

    def sequence(self, items: Sequence[Any], follow: Characters, *, looping: bool) -> None:
        for item in reversed(items):
            self._part(item, follow, looping)
            start, empty = self._first_of(item)
            follow = start | follow if empty else start

    def _part(self, item: Any, follow: Characters, looping: bool) -> None:
        code, value = item
        if code in _SINGLE or code is codes.AT:
            return
        if code in _REPEATS:
            self._repeat(value, follow, looping)
        elif code is codes.SUBPATTERN:
            self.sequence(list(value[3]), follow, looping=looping)
        elif code is codes.ATOMIC_GROUP:
            self.sequence(list(value), follow, looping=looping)
        elif code is codes.BRANCH:
            self._branch(value[1], follow, looping)
        elif code in _LOOKS:
            if looping:
                raise TooSlowError("looking ahead or behind inside a repeat can take too long")
            self.repeats += 1
            self.ambiguities += 1
            self.sequence(list(value[1]), frozenset(), looping=False)
        else:
            raise TooSlowError("references to groups are not supported, they can take too long")

    def _repeat(self, value: Any, follow: Characters, looping: bool) -> None:
        least, most, body = value
        body = list(body)
        start, empty = self._first(body)
        again = most > 1
        simple = len(body) == 1 and body[0][0] in _SINGLE
        if again and not simple:
            if empty and most != least:
                raise TooSlowError("a repeat of something that can be empty can take too long")
            self.sequence(body, start | follow, looping=True)
        else:
            self.sequence(body, start | follow if again else follow, looping=looping)
        if most > 16:
            self.repeats += 1
        if most != least and start & follow:
            self._ambiguous("a repeat", looping, counts=most - least > 1)

    def _branch(self, branches: Sequence[Any], follow: Characters, looping: bool) -> None:
        taken: Characters = frozenset()
        for branch in branches:
            self.sequence(list(branch), follow, looping=looping)
            start, empty = self._first(list(branch))
            start = start | follow if empty else start
            if taken & start:
                self._ambiguous("an alternative", looping, counts=False)
            taken |= start

    def _ambiguous(self, what: str, looping: bool, *, counts: bool) -> None:
        if looping:
            raise TooSlowError(
                f"{what} inside a repeat can match the same characters in several ways, and could take too long"
            )
        if counts:
            self.ambiguities += 1
        else:
            self.choices += 1
            if self.choices > _MAX_CHOICES:
                raise TooSlowError("too many parts can match the same characters, and could take too long")

    def _first(self, items: Sequence[Any]) -> tuple[Characters, bool]:
        """Characters that a sequence can start with, and whether it can be empty."""
        start: Characters = frozenset()
        for item in items:
            characters, empty = self._first_of(item)
            start |= characters
            if not empty:
                return start, False
        return start, True

    def _first_of(self, item: Any) -> tuple[Characters, bool]:
        code, value = item
        if code in _SINGLE:
            return self._characters(code, value), False
        if code in _REPEATS:
            start, empty = self._first(list(value[2]))
            return start, empty or value[0] == 0
        if code is codes.SUBPATTERN:
            return self._first(list(value[3]))
        if code is codes.ATOMIC_GROUP:
            return self._first(list(value))
        if code is codes.BRANCH:
            firsts = [self._first(list(branch)) for branch in value[1]]
            return frozenset().union(*(start for start, _ in firsts)), any(empty for _, empty in firsts)
        return frozenset(), True

    def _characters(self, code: Any, value: Any) -> Characters:
        if code is codes.LITERAL:
            return self._folded(frozenset((min(value, _OTHER),)))
        if code is codes.NOT_LITERAL:
            return self._class([(codes.NEGATE, None), (codes.LITERAL, value)])
        if code is codes.ANY:
            return _ALL
        return self._class(value)

    def _class(self, parts: Sequence[Any]) -> Characters:
        found: set[int] = set()
        negated = False
        for code, value in parts:
            if code is codes.NEGATE:
                negated = True
            elif code is codes.LITERAL:
                found.add(min(value, _OTHER))
            elif code is codes.RANGE:
                found.update(range(min(value[0], _OTHER), min(value[1], _OTHER) + 1))
            else:
                found |= _category(value)
        characters = self._folded(frozenset(found))
        return (_ALL - characters) | {_OTHER} if negated else characters

    def _folded(self, characters: Characters) -> Characters:
        if not self.ignore_case:
            return characters
        swapped = {ord(chr(code).swapcase()) for code in characters if code < _OTHER}
        # A few letters have other cases outside of ASCII, such as the Kelvin sign for k.
        return characters | swapped | {_OTHER}


def _category(value: Any) -> Characters:
    ascii_digits = frozenset(range(ord("0"), ord("9") + 1))
    spaces = frozenset(code for code in range(_OTHER) if chr(code).isspace())
    words = frozenset(code for code in range(_OTHER) if chr(code).isalnum() or chr(code) == "_")
    table = {
        codes.CATEGORY_DIGIT: ascii_digits | {_OTHER},
        codes.CATEGORY_SPACE: spaces | {_OTHER},
        codes.CATEGORY_WORD: words | {_OTHER},
        codes.CATEGORY_NOT_DIGIT: _ALL - ascii_digits,
        codes.CATEGORY_NOT_SPACE: _ALL - spaces,
        codes.CATEGORY_NOT_WORD: _ALL - words,
    }
    return table.get(value, _ALL)

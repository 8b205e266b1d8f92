"""Expected records against those that came: which belong together, and what differs in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What aligning may cost: beyond it records are compared by their numbers.
_MOST_CELLS = 400_000
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Pair:
    """An expected record and the one that came for it, by their numbers from 0; None where one of them is missing."""

    wanted: int | None
    got: int | None
    same: bool = False


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field: `name` as a dotted path, with what was expected and what is there; absent where it is not there."""

    name: str
    wanted: Any
    got: Any

    @property
    def added(self) -> bool:
        """Whether nothing was expected there."""
        return self.wanted is _NOTHING

    @property
    def gone(self) -> bool:
        """Whether nothing is there."""
        return self.got is _NOTHING


def same(wanted: Any, got: Any) -> bool:
    """Whether two JSON values mean the same: 1 and 1.0 do, true and 1 do not; the order of fields means nothing."""
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        return wanted.keys() == got.keys() and all(same(value, got[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(same, wanted, got))
    return bool(wanted == got) or (wanted != wanted and got != got)


def align(wanted: int, got: int, equal: Callable[[int, int], bool], *, ordered: bool) -> list[Pair]:
    """Which of `wanted` and `got` records belong together: the equal ones, then by place what lies between them."""
    if not ordered:
        return _any_order(wanted, got, equal)
    start = 0
    while start < min(wanted, got) and equal(start, start):
        start += 1
    end = 0
    while end < min(wanted, got) - start and equal(wanted - 1 - end, got - 1 - end):
        end += 1
    pairs = [Pair(i, i, same=True) for i in range(start)]
    pairs += _middle(range(start, wanted - end), range(start, got - end), equal)
    return pairs + [Pair(wanted - i, got - i, same=True) for i in range(end, 0, -1)]


def _any_order(wanted: int, got: int, equal: Callable[[int, int], bool]) -> list[Pair]:
    left = list(range(got))
    pairs: list[Pair] = []
    open_: list[int] = []
    for number in range(wanted):
        found = next((other for other in left if equal(number, other)), None)
        if found is None:
            open_.append(number)
        else:
            left.remove(found)
            pairs.append(Pair(number, found, same=True))
    return pairs + _by_place(open_, left)


def _middle(wanted: range, got: range, equal: Callable[[int, int], bool]) -> list[Pair]:
    """The longest row of equal records in both, and what lies between them by place."""
    if not wanted or not got or len(wanted) * len(got) > _MOST_CELLS:
        return _by_place(wanted, got)
    rows, columns = len(wanted), len(got)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    equals = [[equal(w, g) for g in got] for w in wanted]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            best[i][j] = best[i + 1][j + 1] + 1 if equals[i][j] else max(best[i + 1][j], best[i][j + 1])
    pairs: list[Pair] = []
    i = j = begin_i = begin_j = 0
    while i < rows and j < columns:
        if equals[i][j] and best[i][j] == best[i + 1][j + 1] + 1:
            pairs += _by_place(wanted[begin_i:i], got[begin_j:j])
            pairs.append(Pair(wanted[i], got[j], same=True))
            i, j = i + 1, j + 1
            begin_i, begin_j = i, j
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs + _by_place(wanted[begin_i:], got[begin_j:])


def _by_place(wanted: Sequence[int], got: Sequence[int]) -> list[Pair]:
    both = min(len(wanted), len(got))
    pairs = [Pair(w, g) for w, g in zip(wanted, got, strict=False)]
    return pairs + [Pair(w, None) for w in wanted[both:]] + [Pair(None, g) for g in got[both:]]


def changes(wanted: Any, got: Any, path: str = "") -> list[FieldChange]:
    """Field by field what differs, in the order of the expected one."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        names = [*wanted, *(name for name in got if name not in wanted)]
        return [
            change
            for name in names
            for change in changes(
                wanted.get(name, _NOTHING), got.get(name, _NOTHING), f"{path}.{name}" if path else str(name)
            )
        ]
    if wanted is not _NOTHING and got is not _NOTHING and same(wanted, got):
        return []
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        return [
            change
            for i, (one, other) in enumerate(zip(wanted, got, strict=True))
            for change in changes(one, other, f"{path}[{i}]")
        ]
    return [FieldChange(path, wanted, got)]

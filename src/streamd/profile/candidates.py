"""What fields could serve as: event time, key, enum."""

from __future__ import annotations

from dataclasses import dataclass

from streamd.profile.times import Times
from streamd.profile.values import Values

# Names that people give to the time of a record, the likelier ones first.
_TIME_NAMES = ("event_time", "ts", "timestamp", "time", "created_at", "occurred_at", "date", "created", "updated_at")
_MANY = 20


@dataclass(frozen=True, slots=True)
class Candidates:
    """Paths. `times`: the likeliest first, with what was seen; `always`: those of them that no record lacks."""

    times: tuple[tuple[str, Times], ...]
    always: frozenset[str]
    keys: tuple[str, ...]
    enums: tuple[str, ...]


def candidates(root: Values) -> Candidates:
    """What the fields of a sample could serve as. Nothing inside lists and maps is one."""
    times: list[tuple[str, Times]] = []
    keys: list[str] = []
    enums: list[str] = []
    always: set[str] = set()
    for path, values, _ in root.walk():
        if "[]" in path or "*" in path or not values.scalars:
            continue
        whole = values.scalars == root.count
        if values.times is not None and values.times.count == values.scalars:
            times.append((path, values.times))
            always |= {path} if whole else set()
        elif whole and values.distinct.exact and values.distinct.count == values.count > 1 and _plain(values):
            keys.append(path)
        if values.few and values.scalars >= _MANY and len(values.few) * 5 <= values.scalars and _plain(values):
            enums.append(path)
    times.sort(key=lambda found: _likeliness(*found))
    return Candidates(tuple(times), frozenset(always), tuple(keys), tuple(enums))


def _plain(values: Values) -> bool:
    """Whether all are texts or whole numbers: what is a key, or one of few values."""
    return set(values.types) - {"null"} in ({"text"}, {"integer"})


def _likeliness(path: str, times: Times) -> tuple[int, int]:
    name = path.rpartition(".")[2].lower()
    known = _TIME_NAMES.index(name) if name in _TIME_NAMES else len(_TIME_NAMES)
    return known, path.count(".")

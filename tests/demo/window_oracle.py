"""What windows come to, worked out the slow way from all records at once: the truth that kernels are held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from streamd.record import BEGINNING
from streamd.windows.spec import WindowSpec

Event = tuple[Any, int, Any]


class Seen(NamedTuple):
    """A record, and the watermark after it. `at`: its number."""

    at: int
    key: Any
    time: int
    value: Any
    watermark: int


def seen(events: Sequence[Event], out_of_order: int) -> list[Seen]:
    """The records with their watermarks."""
    found, highest = [], BEGINNING
    for at, (key, time, value) in enumerate(events):
        highest = max(highest, time - out_of_order)
        found.append(Seen(at, key, time, value, highest))
    return found


def document(spec: WindowSpec, key: Any, records: Iterable[Seen], bounds: tuple[int, int] | None) -> dict[str, Any]:
    """The result of some records, without the mark of the last one."""
    values = [record.value for record in sorted(records)]
    numbers = [value for value in values if value is not None]
    found: dict[str, Any] = {"k": key}
    if bounds is not None:
        found |= {"window_start": bounds[0], "window_end": bounds[1]}
    return found | {"n": len(values), "sum": sum(numbers), "max": max(numbers, default=None)}


class Answer(NamedTuple):
    """`final` in order, `early` in order, `late`: (key, time, value)."""

    final: list[dict[str, Any]]
    early: list[dict[str, Any]]
    late: list[Any]


class Early:
    """When early results from time to time are due."""

    def __init__(self, spec: WindowSpec) -> None:
        self.every = spec.emit if isinstance(spec.emit, int) else 0
        self.due = BEGINNING

    def passed(self, watermark: int) -> int | None:
        """The time that the watermark has just passed; None: none."""
        if not self.every or watermark < self.due:
            return None
        was = self.due
        self.due = (watermark // self.every + 1) * self.every
        return was if was > BEGINNING else None


def aligned(spec: WindowSpec, records: Sequence[Seen]) -> Answer:
    """Tumbling and hopping windows."""
    windows: dict[int, dict[Any, list[Seen]]] = {}
    late, early, changed, ticks = [], [], set(), Early(spec)

    def given(end: int, key: Any) -> dict[str, Any]:
        return document(spec, key, windows[end][key], (end - spec.size, end))

    for record in records:
        due = ticks.passed(record.watermark)
        if due is not None:
            order = sorted((end, windows[end][key][0].at, key) for end, key in changed if end + spec.grace > due)
            early += [given(end, key) for end, _, key in order]
            changed.clear()
        ends = [
            end
            for end in range(record.time + 1, record.time + spec.size + 1)
            if (end - spec.size - spec.offset) % spec.every == 0 and end + spec.grace > record.watermark
        ]
        if not ends:
            late.append((record.key, record.time, record.value))
        for end in ends:
            windows.setdefault(end, {}).setdefault(record.key, []).append(record)
            changed.add((end, record.key))
            if spec.emit == "update":
                early.append(given(end, record.key))
    return Answer([given(end, key) for end in sorted(windows) for key in windows[end]], early, late)


class Session:
    """The records of one session."""

    def __init__(self, spec: WindowSpec, records: list[Seen]) -> None:
        self.spec, self.records, self.changed = spec, records, True

    @property
    def first(self) -> int:
        return min(record.time for record in self.records)

    @property
    def last(self) -> int:
        return max(record.time for record in self.records)

    @property
    def end(self) -> int:
        end = self.last + self.spec.gap
        return min(end, self.first + self.spec.longest) if self.spec.longest else end

    @property
    def limit(self) -> int:
        """The watermark that closes it."""
        end = self.last + self.spec.gap + 1
        return self.spec.grace + (min(end, self.first + self.spec.longest) if self.spec.longest else end)

    @property
    def order(self) -> tuple[int, int]:
        return self.limit, min(record.at for record in self.records)

    def fits(self, record: Seen, others: Sequence[Session]) -> bool:
        if not self.first - self.spec.gap <= record.time <= self.last + self.spec.gap:
            return False
        whole = Session(self.spec, [record, *self.records, *(one for other in others for one in other.records)])
        return not self.spec.longest or (
            whole.last - whole.first < self.spec.longest and whole.limit > record.watermark
        )


def sessions(spec: WindowSpec, records: Sequence[Seen]) -> Answer:
    """Sessions, as they grow and merge record by record."""
    by_key: dict[Any, list[Session]] = {}
    late, early, ticks = [], [], Early(spec)

    def given(key: Any, session: Session) -> dict[str, Any]:
        return document(spec, key, session.records, (session.first, session.end))

    for record in records:
        due = ticks.passed(record.watermark)
        if due is not None:
            found = [(one, key) for key, some in by_key.items() for one in some if one.changed and one.limit > due]
            early += [given(key, one) for one, key in sorted(found, key=lambda pair: pair[0].order)]
            for some in by_key.values():
                for one in some:
                    one.changed = False
        mine = by_key.setdefault(record.key, [])
        joined: list[Session] = []
        for one in sorted(mine, key=lambda one: one.first, reverse=True):
            if one.limit > record.watermark and one.fits(record, joined):
                joined.append(one)
        whole = Session(spec, [record, *(one for some in joined for one in some.records)])
        if not joined and whole.limit <= record.watermark:
            late.append((record.key, record.time, record.value))
            continue
        by_key[record.key] = [one for one in mine if one not in joined] + [whole]
        if spec.emit == "update":
            early.append(given(record.key, whole))
    every = [(one, key) for key, some in by_key.items() for one in some]
    return Answer([given(key, one) for one, key in sorted(every, key=lambda pair: pair[0].order)], early, late)


def sliding(spec: WindowSpec, records: Sequence[Seen]) -> Answer:
    """One result for each record."""
    taken = [record for record in records if record.time + 1 + spec.grace > record.watermark]
    late = [(record.key, record.time, record.value) for record in records if record not in taken]
    final = []
    for record in sorted(taken, key=lambda record: (record.time, record.at)):
        start, end = record.time + 1 - spec.size, record.time + 1
        within = [one for one in taken if one.key == record.key and start <= one.time < end]
        final.append(document(spec, record.key, within, (start, end)))
    return Answer(final, [], late)


def counted(spec: WindowSpec, records: Sequence[Seen]) -> Answer:
    """Windows of so many records."""
    final, early, rest = [], [], []
    by_key: dict[Any, list[Seen]] = {}
    left: dict[Any, list[Seen]] = {}
    for record in records:
        mine = by_key.setdefault(record.key, [])
        mine.append(record)
        whole = len(mine) % spec.every == 0
        begun = -(-len(mine) // spec.every) * spec.every - spec.size  # where the window that is being filled begins
        window = mine[max(0, begun) :]
        times = [one.time for one in window]
        result = document(spec, record.key, window, (min(times), max(times) + 1))
        left[record.key] = [] if whole else window
        if whole:
            final.append(result)
        elif spec.emit == "update":
            early.append(result)
    for key, window in left.items():
        if window:
            times = [one.time for one in window]
            found = document(spec, key, window, (min(times), max(times) + 1))
            rest.append((max(times), window[0].at, found))
    return Answer(final + [found for _, _, found in sorted(rest, key=lambda one: one[:2])], early, [])


def running(spec: WindowSpec, records: Sequence[Seen]) -> Answer:
    """One window for ever."""
    by_key: dict[Any, list[Seen]] = {}
    early, changed, ticks = [], set(), Early(spec)
    for record in records:
        if ticks.passed(record.watermark) is not None:
            early += [document(spec, key, by_key[key], None) for key in by_key if key in changed]
            changed.clear()
        by_key.setdefault(record.key, []).append(record)
        changed.add(record.key)
        if spec.emit == "update":
            early.append(document(spec, record.key, by_key[record.key], None))
    return Answer([document(spec, key, by_key[key], None) for key in by_key], early, [])


def answer(spec: WindowSpec, events: Sequence[Event], out_of_order: int) -> Answer:
    """What windows must give, whatever the batches are and wherever a task crashes."""
    kinds = {"session": sessions, "sliding": sliding, "count": counted, "global": running}
    return kinds.get(spec.kind, aligned)(spec, seen(events, out_of_order))

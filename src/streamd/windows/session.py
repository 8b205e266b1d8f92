"""Sessions: each key has windows of its own, which grow with its records and close when none comes for a gap.

A record belongs to a session from a gap before its first record to a gap after its last, both included; one that lies
between two makes one of them. Where there is a longest session, a record that would make it longer begins a new one.

When to look at a session again is noted once, when it begins; a session that has grown by then is noted anew. So a
record that only makes its session longer costs nothing beside its aggregates.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Final

from streamd.component.state import Store, Table
from streamd.record import Result
from streamd.windows.accumulators import Accumulators, Coder, for_keys, guarded, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import LARGEST_TIME, Accumulator, Kernel
from streamd.windows.spec import WindowSpec

# The slots of a session.
ARRIVAL, FIRST, LAST, TIMER, CHANGED = range(5)
NEVER: Final = 2**62


class SessionWindows(Kernel):
    """A table {key: its sessions by their first record}."""

    def __init__(self, spec: WindowSpec) -> None:
        self.own = ("first", "last", "timer", *(["changed"] if spec.periodic else []))
        self._longest = spec.longest or NEVER
        self._limits: list[int] = []
        self._timers: dict[int, dict[Hashable, None]] = {}
        self._changes: dict[Hashable, None] = {}
        super().__init__(spec)

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        spec = self.spec
        end = f"a[2] + {spec.gap}"
        fits = f"a[1] <= time <= {end} and watermark <= a[2] + {spec.gap + spec.grace}"
        if spec.longest:
            end = f"min({end}, a[1] + {spec.longest})"
            fits += f" and time - a[1] < {spec.longest} and watermark < a[1] + {spec.longest + spec.grace}"
        take = [
            "s = table[key]",
            *(["undo.append((table, key, deepcopy(s)))"] if spec.fallible else []),
            f"if s is not None and (a := s[-1]) and {fits}:",
            "    if time > a[2]: a[2] = time",
            "else:",
            "    a = self.place(key, s, time, watermark)",
            "    if a is None:",
            *indented(["failed.append((r, refusal(time, watermark)))"] if spec.keys == 1 else ["late += 1"], 2),
            "        continue",
            *a.steps(),
            "dirty(key)",
            *(["if not a[4]:", "    a[4] = 1", "    self.changed(key)"] if spec.periodic else []),
            *(a.result(f"{end} - 1", start="a[1]", end=end, final="False") if spec.emit == "update" else []),
        ]
        if spec.keys > 1:
            # A record is late where it is for all of its keys.
            refuse = f"if late == {spec.keys}: failed.append((r, refusal(time, watermark)))"
            take = ["late = 0", *for_keys(spec, take), refuse]
        body = guarded(spec, take)
        return [
            "def process(self, rows, out, failed):",
            "    table = self.table",
            "    dirty = table.dirty.add",
            *(["    due = self.due"] if spec.periodic else []),
            f"    for {row_pattern(spec, a.columns)} in rows:",
            *(["        if watermark >= due: due = self.early(watermark, out)"] if spec.periodic else []),
            *indented(body, 2),
            "",
            "",
            "def begin(arrival, time, limit):",
            f"    return {a.start('arrival', 'time', 'time', 'limit', *(['0'] if spec.periodic else []))}",
            "",
            "",
            "def merge(a, b):",
            *indented(a.merges()),
            "",
            "",
            "def give(items, at, final, out):",
            "    for key, a in items:",
            f"        end = {end}",
            *indented(a.result("end - 1", start="a[1]", end="end", final="final"), 2),
        ]

    def open(self, store: Store) -> None:
        """See `Kernel`."""
        super().open(store)
        pack, unpack = self.accumulators.coders()
        self.table: Table = store.table("sessions", _each(pack), _each(unpack))

    def restored(self) -> None:
        """See `Kernel`."""
        super().restored()
        for key, sessions in self.table.scan():
            for session in sessions:
                self._watch(key, session)
                if self.spec.periodic and session[CHANGED]:
                    self.changed(key)

    def limit_of(self, session: Accumulator) -> int:
        """The watermark that closes a session."""
        end: int = min(session[LAST] + self.spec.gap + 1, session[FIRST] + self._longest)
        return end + self.spec.grace

    def place(self, key: Hashable, sessions: list[Accumulator] | None, time: int, watermark: int) -> Accumulator | None:
        """The session that takes a record: one that there is, made of several, or new. None: it is late."""
        joined = None
        for session in reversed(sessions or ()):
            if self._fits(joined, session, time) and self.limit_of(session) > watermark:
                if joined is None:
                    joined = session
                    joined[FIRST], joined[LAST] = min(joined[FIRST], time), max(joined[LAST], time)
                else:
                    # The earlier one goes on: what it has taken comes first.
                    self._join(session, joined)
                    assert sessions is not None
                    sessions[:] = [one for one in sessions if one is not joined]
                    joined = session
        if joined is None:
            return self._begin(key, sessions, time, watermark)
        if self.limit_of(joined) < joined[TIMER]:
            self._watch(key, joined)
        return joined

    def _fits(self, joined: Accumulator | None, session: Accumulator, time: int) -> bool:
        """Whether a session takes the record, together with what it has been joined to already."""
        if not session[FIRST] - self.spec.gap <= time <= session[LAST] + self.spec.gap:
            return False
        first, last = (time, time) if joined is None else (joined[FIRST], joined[LAST])
        return bool(max(session[LAST], last) - min(session[FIRST], first) < self._longest)

    def _join(self, session: Accumulator, later: Accumulator) -> None:
        self.functions["merge"](session, later)
        session[FIRST], session[LAST] = min(session[FIRST], later[FIRST]), max(session[LAST], later[LAST])
        if self.spec.periodic:
            session[CHANGED] = session[CHANGED] or later[CHANGED]

    def _begin(
        self, key: Hashable, sessions: list[Accumulator] | None, time: int, watermark: int
    ) -> Accumulator | None:
        limit = min(time + self.spec.gap + 1, time + self._longest) + self.spec.grace
        if limit <= watermark or limit <= self.closed or not -LARGEST_TIME < time < LARGEST_TIME:
            return None
        self.arrivals += 1
        session: Accumulator = self.functions["begin"](self.arrivals, time, limit)
        if sessions is None:
            self.table[key] = [session]
        else:
            sessions.append(session)
            sessions.sort(key=_by_first)
        self._watch(key, session)
        return session

    def _watch(self, key: Hashable, session: Accumulator) -> None:
        """See to it that the session is looked at when it may be closed."""
        limit = session[TIMER] = self.limit_of(session)
        keys = self._timers.get(limit)
        if keys is None:
            keys = self._timers[limit] = {}
            heappush(self._limits, limit)
        keys[key] = None

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        found: list[tuple[int, int, Hashable, Accumulator]] = []
        while self._limits and self._limits[0] <= watermark:
            limit = heappop(self._limits)
            for key in self._timers.pop(limit):
                found += self._closed_of(key, limit, watermark)
        if found:
            found.sort(key=_by_limit)
            self.give([(key, session) for _, _, key, session in found], 0, True, out)
            self.has_closed(watermark)

    def _closed_of(self, key: Hashable, timer: int, watermark: int) -> list[tuple[int, int, Hashable, Accumulator]]:
        """The sessions of a key that the timer was for and that are over: (limit, arrival, key, session)."""
        sessions = self.table[key]
        over = []
        for session in sessions or ():
            if session[TIMER] == timer:
                limit = self.limit_of(session)
                if limit <= watermark:
                    over.append((limit, session[ARRIVAL], key, session))
                else:
                    self._watch(key, session)
        if over:
            gone = {id(session) for _, _, _, session in over}
            sessions[:] = [session for session in sessions if id(session) not in gone]
            if sessions:
                self.table.dirty.add(key)
            else:
                self.table.remove(key)
        return over

    def promise(self, watermark: int) -> int:
        """See `Kernel`: a record that is not late has an end behind this."""
        return watermark - self.spec.grace - 1

    def changed(self, key: Hashable) -> None:
        """A key's early results are to be given."""
        self._changes[key] = None

    def give_early(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        found = []
        for key in self._changes:
            for session in self.table[key] or ():
                if session[CHANGED] and self.limit_of(session) > watermark:
                    session[CHANGED] = 0
                    self.table.dirty.add(key)
                    found.append((self.limit_of(session), session[ARRIVAL], key, session))
        self._changes.clear()
        found.sort(key=_by_limit)
        self.give([(key, session) for _, _, key, session in found], 0, False, out)


def _each(coder: Coder | None) -> Coder | None:
    return None if coder is None else lambda sessions: [coder(session) for session in sessions]


def _by_first(session: Accumulator) -> int:
    first: int = session[FIRST]
    return first


def _by_limit(found: tuple[int, int, Hashable, Accumulator]) -> tuple[int, int]:
    return found[:2]

"""Sessions: each key has windows of its own, which grow with its records and close when none comes for a gap.

A record belongs to a session from a gap before its first record to a gap after its last, both included; one that lies
between two makes one of them. Where there is a longest session, a record that would make it longer begins a new one.
One that lies before a session, and by which it would have ended already, is late.

When to look at a session again is noted once, when it begins; a session that has grown by then is noted anew. So a
record that only makes its session longer costs nothing beside its aggregates.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeAlias

from streamd.component.state import Store, Table
from streamd.record import Result
from streamd.windows.accumulators import Accumulators, Coder, for_keys, guarded, row_pattern
from streamd.windows.code import indented
from streamd.windows.kernel import LARGEST_TIME, Accumulator, Kernel
from streamd.windows.spec import WindowSpec
from streamd.windows.timers import Timers

# The slots of a session.
ARRIVAL, FIRST, LAST, TIMER, CHANGED = range(5)
NEVER: Final = 2**62

# (the watermark that closes it, its arrival, its key, the session): no two have the same arrival.
Closed: TypeAlias = tuple[int, int, Hashable, Accumulator]


class SessionWindows(Kernel):
    """A table {key: its sessions by their first record}."""

    def __init__(self, spec: WindowSpec) -> None:
        self.own = ("first", "last", "timer", *(["changed"] if spec.periodic else []))
        self._longest = spec.longest or NEVER
        # How long after its last, and at most after its first record, a session takes records.
        self._after, self._most = spec.gap + 1 + spec.grace, self._longest + spec.grace
        self.timers = Timers()
        self._changes: dict[Hashable, None] = {}
        super().__init__(spec)

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`."""
        spec = self.spec
        end = f"a[2] + {spec.gap}"
        fits = f"(a := s[-1])[1] <= time <= {end} and watermark <= a[2] + {spec.gap + spec.grace}"
        if spec.longest:
            end = f"min({end}, a[1] + {spec.longest})"
            fits += f" and time - a[1] < {spec.longest} and watermark < a[1] + {spec.longest + spec.grace}"
        take = [
            "s = table[key]",
            *(["undo.append((table, key, deepcopy(s)))"] if spec.fallible else []),
            "if s is None:",
            *indented(self._begin_lines(a)),
            f"elif {fits}:",
            "    if time > a[2]: a[2] = time",
            "else:",
            "    self.arrivals = arrivals",
            "    a = self.place(key, s, time, watermark)",
            "    arrivals = self.arrivals",
            "if a is None:",
            *indented(["failed.append((r, refusal(time, watermark)))"] if spec.keys == 1 else ["late += 1"]),
            "    continue",
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
            "    arrivals, closed, timers = self.arrivals, self.closed, self.timers.at",
            *(["    due = self.due"] if spec.periodic else []),
            f"    for {row_pattern(spec, a.columns)} in rows:",
            *(["        if watermark >= due: due = self.early(watermark, out)"] if spec.periodic else []),
            *indented(body, 2),
            "    self.arrivals = arrivals",
            "",
            "",
            "def begin(arrival, time, limit):",
            f"    return {self._start(a, 'arrival')}",
            "",
            "",
            "def merge(a, b):",
            *indented(a.merges()),
            "",
            "",
            "def give(items, at, final, out):",
            "    for _, _, key, a in items:",
            f"        end = {end}",
            *indented(a.result("end - 1", start="a[1]", end="end", final="final"), 2),
        ]

    def _start(self, a: Accumulators, arrival: str) -> str:
        return a.start(arrival, "time", "time", "limit", *(["0"] if self.spec.periodic else []))

    def _begin_lines(self, a: Accumulators) -> list[str]:
        """The first session of a key."""
        return [
            f"limit = time + {min(self.spec.gap + 1, self._longest) + self.spec.grace}",
            f"if limit <= watermark or limit <= closed or not {-LARGEST_TIME} < time < {LARGEST_TIME}:",
            "    a = None",
            "else:",
            "    arrivals += 1",
            f"    a = {self._start(a, 'arrivals')}",
            "    table[key] = [a]",
            "    keys = timers.get(limit)",
            "    if keys is None: keys = self.timers.new(limit)",
            "    keys.append(key)",
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
                # As it is written there: what is changed here of a session that is not in memory is lost.
                self.timers.add(session[TIMER], key)
                if self.spec.periodic and session[CHANGED]:
                    self.changed(key)

    def limit_of(self, session: Accumulator) -> int:
        """The watermark that closes a session."""
        limit: int = min(session[LAST] + self._after, session[FIRST] + self._most)
        return limit

    def place(self, key: Hashable, sessions: list[Accumulator], time: int, watermark: int) -> Accumulator | None:
        """The session that takes a record: one that there is, made of several, or new. None: it is late."""
        joined, passed = None, max(watermark, self.closed)
        for session in reversed(sessions):
            if self.limit_of(session) > watermark and self._fits(joined, session, time, passed):
                if joined is None:
                    joined = session
                    joined[FIRST], joined[LAST] = min(joined[FIRST], time), max(joined[LAST], time)
                else:
                    # The earlier one goes on: what it has taken comes first.
                    self._join(session, joined)
                    sessions[:] = [one for one in sessions if one is not joined]
                    joined = session
        if joined is None:
            return self._begin(key, sessions, time, watermark)
        if self.limit_of(joined) < joined[TIMER]:
            self._watch(key, joined)
        return joined

    def _fits(self, joined: Accumulator | None, session: Accumulator, time: int, passed: int) -> bool:
        """Whether a session takes the record, together with what it has been joined to already.

        Where there is a longest one, an earlier beginning is an earlier end: that must not be at a watermark `passed`.
        """
        if not session[FIRST] - self.spec.gap <= time <= session[LAST] + self.spec.gap:
            return False
        first, last = (time, time) if joined is None else (joined[FIRST], joined[LAST])
        first = min(session[FIRST], first)
        return bool(max(session[LAST], last) - first < self._longest and first + self._most > passed)

    def _join(self, session: Accumulator, later: Accumulator) -> None:
        self.functions["merge"](session, later)
        session[FIRST], session[LAST] = min(session[FIRST], later[FIRST]), max(session[LAST], later[LAST])
        if self.spec.periodic:
            session[CHANGED] = session[CHANGED] or later[CHANGED]

    def _begin(self, key: Hashable, sessions: list[Accumulator], time: int, watermark: int) -> Accumulator | None:
        limit = min(time + self.spec.gap + 1, time + self._longest) + self.spec.grace
        if limit <= watermark or limit <= self.closed or not -LARGEST_TIME < time < LARGEST_TIME:
            return None
        self.arrivals += 1
        session: Accumulator = self.functions["begin"](self.arrivals, time, limit)
        sessions.append(session)
        sessions.sort(key=_by_first)
        self._watch(key, session)
        return session

    def _watch(self, key: Hashable, session: Accumulator) -> None:
        """See to it that the session is looked at when it may be closed."""
        session[TIMER] = self.timers.add(self.limit_of(session), key)

    def close_until(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        found: list[Closed] = []
        table = self.table
        for timer, keys in self.timers.take(watermark):
            for key in keys:
                sessions = table[key]
                if sessions is None:
                    continue
                # Few keys have several sessions at a time.
                over = [one for one in sessions if one[TIMER] == timer and self._is_over(key, one, watermark, found)]
                if len(over) == len(sessions):
                    table.remove(key)
                elif over:
                    sessions[:] = [session for session in sessions if not any(session is one for one in over)]
                    table.dirty.add(key)
        if found:
            found.sort()
            self.give(found, 0, True, out)
            self.has_closed(watermark)

    def _is_over(self, key: Hashable, session: Accumulator, watermark: int, over: list[Closed]) -> bool:
        """Whether a session that is looked at is over, and then added; one that has grown is looked at again."""
        limit = session[LAST] + self._after
        if session[FIRST] + self._most < limit:
            limit = session[FIRST] + self._most
        if limit <= watermark:
            over.append((limit, session[ARRIVAL], key, session))
            return True
        session[TIMER] = self.timers.add(limit, key)
        return False

    def promise(self, watermark: int) -> int:
        """See `Kernel`: a record that is not late has an end behind this."""
        return watermark - self.spec.grace - 1

    def changed(self, key: Hashable) -> None:
        """A key's early results are to be given."""
        self._changes[key] = None

    def give_early(self, watermark: int, out: list[Result]) -> None:
        """See `Kernel`."""
        found: list[Closed] = []
        for key in self._changes:
            for session in self.table[key] or ():
                if session[CHANGED] and self.limit_of(session) > watermark:
                    session[CHANGED] = 0
                    self.table.dirty.add(key)
                    found.append((self.limit_of(session), session[ARRIVAL], key, session))
        self._changes.clear()
        found.sort()
        self.give(found, 0, False, out)


def _each(coder: Coder | None) -> Coder | None:
    return None if coder is None else lambda sessions: [coder(session) for session in sessions]


def _by_first(session: Accumulator) -> int:
    first: int = session[FIRST]
    return first

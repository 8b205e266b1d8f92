"""Hopping windows whose results come when they close.

They overlap: the time is cut into panes, the greatest that all windows are made of. A record is worked on once, in its
pane, however many windows it is in. Windows are put together when they close. Time is cut into lengths of a window: one
that lies across a cut has a tail of the length before and a head of the one behind. All tails of a length are made from
its last pane backwards, one after another, and taken apart again pane by pane; the head grows with each window. So each
pane is merged about three times, whatever the number of windows it is in. Where the cuts are is a matter of time alone:
a window comes to the same, to the last digit, wherever a task began anew.

Where results come before a window closes, or the user's own code does the work, each window has a table of its own
instead (timed.py).
"""

from __future__ import annotations

from heapq import heappush
from typing import Any, TypeAlias

from streamd.component.state import Store, Table
from streamd.record import BEGINNING, Result
from streamd.windows.accumulators import Accumulators
from streamd.windows.code import indented
from streamd.windows.kernel import ARRIVAL, LARGEST_TIME, Arrived
from streamd.windows.spec import WindowSpec
from streamd.windows.timed import AlignedWindows

# {key: what it comes to}
Whole: TypeAlias = dict[Any, Arrived]


class PanedWindows(AlignedWindows):
    """Hopping windows, put together from panes.

    `_tail` and `_head` are the window that was closed last, to a cut and from there on; `_next` is the end of the one
    that is made from them. `_before`: the tail's panes, the newest first, each with what the tail had of its keys
    before it was added. `_own`: keys whose accumulator in `_head` is no pane's.
    """

    def __init__(self, spec: WindowSpec) -> None:
        self._open: set[int] = set()
        self._cut = self._next = BEGINNING
        self._head: Whole = {}
        self._own: set[Any] = set()
        self._tail: Whole = {}
        self._before: list[tuple[int, dict[Any, Arrived | None]]] = []
        super().__init__(spec)

    @property
    def panes(self) -> bool:
        """See `AlignedWindows`."""
        return True

    def written(self, a: Accumulators) -> list[str]:
        """See `Kernel`. Of panes, oldest first: `heads` adds them at the end, `tails` at the beginning, and says what
        was there before each. `together` is what both come to.
        """
        return [
            *super().written(a),
            "",
            "",
            "def heads(found, own, panes):",
            "    get = found.get",
            "    for pane in panes:",
            "        for key, b in pane.scan():",
            "            before = get(key)",
            "            if before is None:",
            "                found[key] = (b[0], key, b)",
            "                continue",
            "            a = before[2]",
            "            if key not in own:",
            "                # What is in a pane is not changed: later windows have it, too.",
            "                own.add(key)",
            "                pane_a = a",
            *indented(a.copies("a", "pane_a"), 4),
            *indented(a.merges(), 3),
            "            found[key] = (a[0], key, a)",
            "",
            "",
            "def tails(found, panes):",
            "    get, all_before = found.get, []",
            "    for pane in reversed(panes):",
            "        all_before.append(before := {})",
            "        for key, a in pane.scan():",
            "            before[key] = after = get(key)",
            "            if after is not None:",
            "                pane_a, b = a, after[2]",
            *indented(a.copies("a", "pane_a"), 4),
            *indented(a.merges(), 4),
            "            found[key] = (a[0], key, a)",
            "    return all_before",
            "",
            "",
            "def together(tail, head):",
            "    found = [item for key, item in tail.items() if key not in head]",
            "    if len(found) == len(tail):",
            "        found += head.values()",
            "        return found",
            "    get, append = tail.get, found.append",
            "    for key, item in head.items():",
            "        before = get(key)",
            "        if before is None:",
            "            append(item)",
            "            continue",
            "        tail_a, b = before[2], item[2]",
            *indented(a.copies("a", "tail_a"), 2),
            *indented(a.merges(), 2),
            "        append((a[0], key, a))",
            "    return found",
        ]

    def open(self, store: Store) -> None:
        """See `Kernel`."""
        super().open(store)
        self._in_memory = store.in_memory

    def restored(self) -> None:
        """See `Kernel`."""
        super().restored()
        ends = {end for pane in self._times for end in self.windows_of(pane)}
        self._open = {end for end in ends if end + self.spec.grace > self.closed}
        self._ends = sorted(self._open)

    def open_at(self, end: int, watermark: int, out: list[Result]) -> tuple[int, Table | None]:
        """See `AlignedWindows`: the pane's table. Windows that the watermark has passed do not get the record."""
        grace, passed = self.spec.grace, max(watermark, self.closed)
        ends = self.windows_of(end)
        if not -LARGEST_TIME < end < LARGEST_TIME or ends[-1] + grace <= passed:
            return BEGINNING, None
        if ends[0] + grace <= passed:
            # The pane has a record that these windows do not have: they stay closed, also after a crash.
            self.close_until(watermark, out)
            self.note("closed", passed)
            self._forget()
        still = [one for one in ends if one + grace > passed]
        for one in still:
            if one not in self._open:
                self._open.add(one)
                heappush(self._ends, one)
        return still[0] + grace, self._times[end]

    def _close(self, end: int, out: list[Result]) -> None:
        self._open.discard(end)
        size, every, step = self.spec.size, self.spec.every, self.step
        cut, come = end - step - (end - step - self.spec.offset) % size, end - every
        if cut != self._cut or end != self._next:
            self._cut, come = cut, cut
            self._head, self._own, self._tail = {}, set(), {}
            ends = self._between(end - size, cut)
            before = self.functions["tails"](self._tail, [self._times[pane] for pane in ends])
            self._before = list(zip(reversed(ends), before, strict=True))
        while self._before and self._before[-1][0] <= end - size:
            _leave(self._tail, self._before.pop()[1])
        self.functions["heads"](self._head, self._own, [self._times[pane] for pane in self._between(come, end)])
        found = self.functions["together"](self._tail, self._head)
        found.sort(key=ARRIVAL)
        self.give(found, end, True, out)
        self._next = end + every
        if not self._in_memory:
            self._forget()
        # The first panes are in no later window.
        for pane in self._between(end - size, end - size + every):
            self._times.drop(pane)

    def _forget(self) -> None:
        """The next window is put together anew."""
        self._next = BEGINNING
        self._head, self._own, self._tail, self._before = {}, set(), {}, []

    def _between(self, start: int, end: int) -> list[int]:
        """The ends of the panes from one time to another that have records, the oldest first."""
        return [pane for pane in range(start + self.step, end + 1, self.step) if pane in self._times]


def _leave(tail: Whole, before: dict[Any, Arrived | None]) -> None:
    """Take the oldest pane out of a tail."""
    for key, found in before.items():
        if found is None:
            del tail[key]
        else:
            tail[key] = found

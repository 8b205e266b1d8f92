"""What all kernels do: the tables they keep, the watermark that they have closed windows by, early results in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from copy import deepcopy
from operator import itemgetter
from typing import Any, Final, TypeAlias

from streamd.component.state import Store, Table
from streamd.errors import LateRecordError, TransformError
from streamd.record import BEGINNING, END, RawRecord, Result
from streamd.windows.accumulators import Accumulators, put_back
from streamd.windows.code import Code
from streamd.windows.spec import WindowSpec

# Times that are told apart from anything; what lies beyond is no time at all.
LARGEST_TIME: Final = 2**53

Accumulator: TypeAlias = list[Any]
# (number of its arrival, key, accumulator)
Arrived: TypeAlias = tuple[int, Hashable, Accumulator]
ARRIVAL: Final = itemgetter(0)
Rows: TypeAlias = list[tuple[Any, ...]]
Failed: TypeAlias = list[tuple[RawRecord, Exception]]


class Kernel(ABC):
    """The windows of one task. `source` is the generated code.

    What is kept beside the tables is rebuilt from them in `restored`. The results do not depend on how rows are cut
    into batches: whether a row is late is said by its own watermark.
    """

    own: tuple[str, ...] = ()

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self.closed = (
            BEGINNING  # the highest watermark that closed windows; of those that were there also after a crash
        )
        self.watermark = BEGINNING  # the highest one so far, for those that give nothing of an earlier time
        self.arrivals = 0
        self.due = BEGINNING if spec.periodic else END  # the watermark of the next early results
        code = Code()
        code.constant("refusal", refusal)
        code.constant("BEGINNING", BEGINNING)
        if spec.fallible:
            code.constant("deepcopy", deepcopy)
            code.constant("put_back", put_back)
        self.accumulators = Accumulators(spec, self.own, code)
        code.add(self.written(self.accumulators))
        self.source = code.source
        functions = code.functions(f"{spec.kind} windows")
        self._process: Callable[[Kernel, Rows, list[Result], Failed], None] = functions["process"]
        self.give: Callable[..., None] = functions["give"]
        self.functions = functions
        self.facts: Table  # numbers about all windows

    @abstractmethod
    def written(self, a: Accumulators) -> list[str]:
        """The source: `process(self, rows, out, failed)` and `give(items, end, final, out)` at least."""

    def open(self, store: Store) -> None:
        """Take the tables of the store; they are still empty."""
        self.facts = store.table("window")

    def restored(self) -> None:
        """The tables are as at the last checkpoint."""
        facts = {name: self.facts[name] for name in ("closed", "arrivals", "watermark", "due")}
        for name, found in facts.items():
            if found is not None:
                setattr(self, name, found)

    def process(self, rows: Rows, out: list[Result], failed: Failed) -> None:
        """See `KeyedStage.process`. A row: (record, time, watermark, its keys …, the aggregates' arguments …)."""
        before = self.arrivals
        self._process(self, rows, out, failed)
        if self.arrivals != before:
            self.note("arrivals", self.arrivals)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """See `KeyedStage.advance`."""
        if watermark >= self.due and watermark < END:
            self.early(watermark, out)
        self.close_until(watermark, out)
        if self.closed < watermark < END:
            self.closed = watermark
        return END if watermark >= END else max(BEGINNING, self.promise(watermark))

    @abstractmethod
    def close_until(self, watermark: int, out: list[Result]) -> None:
        """Give what is complete by the watermark, and forget it."""

    @abstractmethod
    def promise(self, watermark: int) -> int:
        """No later result has an earlier time than this."""

    def has_closed(self, watermark: int) -> None:
        """Something was closed: whatever comes later and belongs to it is late, also after a crash."""
        # At the end of all input everything is closed, and what is appended to it one day is not late for that.
        if self.closed < watermark < END:
            self.closed = watermark
            self.note("closed", watermark)

    def early(self, watermark: int, out: list[Result]) -> int:
        """Early results, as of the time that they are due, which the watermark has passed; when they are due next."""
        if self.due > BEGINNING:
            self.give_early(self.due, out)
        assert isinstance(self.spec.emit, int)
        self.due = (watermark // self.spec.emit + 1) * self.spec.emit
        self.note("due", self.due)
        return self.due

    def give_early(self, watermark: int, out: list[Result]) -> None:  # noqa: B027 - most windows can do without
        """The results of all that has changed since the last time, and is still open at this watermark."""

    def note(self, name: str, value: int) -> None:
        """Keep a number in the tables."""
        self.facts[name] = value
        self.facts.dirty.add(name)


def refusal(time: int, watermark: int) -> Exception:
    """Why no window takes a record of this time."""
    if not -LARGEST_TIME < time < LARGEST_TIME:
        return TransformError("the record's time is out of range: expected milliseconds since the epoch")
    return LateRecordError(f"the record's windows are closed: its time is {watermark - time} ms before the watermark")


def by_arrival(items: Iterable[tuple[Hashable, Accumulator]]) -> list[Arrived]:
    """What is to be given, in the order of arrival."""
    return sorted([(accumulator[0], key, accumulator) for key, accumulator in items], key=ARRIVAL)

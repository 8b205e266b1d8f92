"""Window stages driven directly: documents in, results out, in batches of any sizes, with crashes in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from streamd.component.grouping import composite_key
from streamd.component.state import key_of
from streamd.errors import LateRecordError
from streamd.expr.aggregates import columns_of
from streamd.record import BEGINNING, END, Result, SourceRecord
from streamd.state.cold import ColdTier
from streamd.state.spill import Spill
from streamd.state.store import TableStore
from streamd.windows.build import kernel_of
from streamd.windows.kernel import Kernel
from streamd.windows.spec import WindowSpec

# (key, time, value)
Event = tuple[Any, int, Any]


class WindowDriver:
    """One task's windows. The watermark is the highest time so far, less `out_of_order` ms.

    `cold`: a folder, where there is a checkpoint after each batch and then no memory is left for any key.
    """

    def __init__(self, spec: WindowSpec, out_of_order: int = 0, cold: Path | None = None) -> None:
        self.spec, self.out_of_order, self.cold = spec, out_of_order, cold
        self.spill: Spill | None = None
        self.highest = BEGINNING
        self.out: list[Result] = []
        self.failed: list[tuple[SourceRecord, Exception]] = []
        self.promised = BEGINNING
        self.log: list[tuple[bytes, bytes | None]] = []
        self.columns = len(columns_of(list(spec.aggregates.values())).names)
        self._open()

    def _open(self) -> None:
        if self.spill is not None:
            self.spill.close()
        self.spill = None if self.cold is None else Spill(ColdTier(self.cold, "t"), lambda: 0)
        self.store = TableStore("windows", self.spill)
        self.kernel: Kernel = kernel_of(self.spec)
        self.kernel.open(self.store)

    def batch(self, events: Sequence[Event]) -> None:
        """A batch, and the watermark after it."""
        rows = []
        for key, time, value in events:
            self.highest = max(self.highest, time - self.out_of_order)
            record = SourceRecord(None, (key, time, value), time, 0)
            rows.append((record, time, self.highest, *self._keys(key), *[value] * self.columns))
        out: list[Result] = []
        self.kernel.process(rows, out, self.failed)
        self._take(out)
        self._advance(self.highest)
        if self.spill is not None:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.log += self.store.changes()
        self.store.committed()
        if self.spill is not None:
            self.spill.settle()
            self.spill.fit()

    def _keys(self, key: Any) -> list[Any]:
        if self.spec.keys > 1:
            return [composite_key(one) for one in key]
        if not self.spec.by:
            return [""]
        return [key_of(key) if self.spec.one else composite_key(key)]

    def _advance(self, watermark: int) -> None:
        out: list[Result] = []
        promised = self.kernel.advance(watermark, out)
        self._take(out)
        assert promised >= self.promised
        self.promised = promised

    def _take(self, out: Iterable[Result]) -> None:
        for result in out:
            assert result.timestamp >= self.promised, "a result before what was promised"
            self.out.append(result)

    def end(self) -> None:
        """The end of all input."""
        self._advance(END)
        if self.spill is not None:
            self.spill.close()

    def crash(self) -> None:
        """A checkpoint, and a new task that goes on from it."""
        self._checkpoint()
        newest = dict(self.log)
        self._open()
        # In an order of no meaning.
        self.store.load(dict(sorted(newest.items(), key=lambda change: orjson.dumps(change[0].decode())[::-1])))
        self.store.loaded()
        if self.spill is not None:
            self.spill.fit()
        self.kernel.restored()

    @property
    def values(self) -> list[Any]:
        """The results' documents."""
        return [result.value for result in self.out]

    @property
    def late(self) -> list[Any]:
        """(key, time, value) of the records that came too late."""
        assert all(isinstance(error, LateRecordError) for _, error in self.failed), self.failed
        return [record.value for record, _ in self.failed]

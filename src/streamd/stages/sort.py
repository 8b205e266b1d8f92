"""Puts records into the order of their times.

    - sort: {}
    - sort: {late: dead_letter}

A record waits until the watermark is past its time: until nothing before it is expected any more. So how long that
takes, and how much is kept, follows from `out_of_order` of the source's `event_time`. Records of the same time keep the
order in which they came. One that comes after its turn is late, and goes where `late` says.

Each partition is sorted by itself; after `key_by` these are the partitions of the exchange. What waits is committed
together with positions and outputs. A tombstone has its place by the time that its source gives it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from heapq import heapify, heappop, heappush
from typing import Any

import orjson
from pydantic import Field

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import LateField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import LateRecordError
from streamd.record import RawRecord, Result


class SortConfig(Model):
    """Settings of `sort`."""

    late: LateField = Field("drop", description="What becomes of a record that is late.", examples=["dead_letter"])

    @property
    def remembers(self) -> str:
        """What is kept and for how long, for people."""
        return "records until the watermark is past them"


def _packed(row: tuple[bytes | None, Any, bytes]) -> list[Any]:
    """What waits, as JSON: key, headers, document."""
    key, headers, document = row
    return [_text(key), [[name, _text(value)] for name, value in headers], document.decode()]


def _unpacked(row: list[Any]) -> tuple[bytes | None, Any, bytes]:
    key, headers, document = row
    return _bytes(key), [(name, _bytes(value)) for name, value in headers], document.encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else b64decode(value)


@stage(
    "sort",
    config=SortConfig,
    fused=False,
    keyed=True,
    state=lambda config: {},
    keeps=lambda config, field: True,
)
class Sort:
    """The stage `sort`. It keeps {time: {number: row}}, the numbers in the order in which rows came."""

    spec: Any
    due: int | None = None

    def __init__(self, config: SortConfig, context: PipelineContext) -> None:
        self.config = config
        self._number = 0
        self._times: list[int] = []

    async def prepare(self) -> None:
        """Nothing is to be loaded."""

    def lift(self, body: Body, port: int) -> str:
        """`(r, time, watermark, key, headers, JSON of the document)`"""
        # What orjson gives has room for a long text behind it: to keep that costs several times the copy.
        dumps = body.constant("to_json", orjson.dumps)
        time, watermark = body.metadata("_timestamp"), body.watermark()
        return f"(r, {time}, {watermark}, {body.key()}, {body.headers()}, b'%b' % {dumps}({body.document()}))"

    def lift_tombstone(self, body: Body, port: int) -> str | None:
        """A record without a value waits as well."""
        return f"(r, r.timestamp, {body.watermark()}, r.key, r.headers, b'null')"

    async def open(self, task: TaskContext) -> None:
        """Take the table from the task's store."""
        assert task.store is not None
        self._rows = task.store.times("rows", _packed, _unpacked)

    def restored(self) -> None:
        """Numbers go on after those that wait."""
        self._times = list(self._rows)
        heapify(self._times)
        numbers = [int(number) for time in self._times for number, _ in self._rows[time].scan()]  # type: ignore[call-overload]
        self._number = max(numbers, default=-1) + 1

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """Have rows wait."""
        waiting = self._rows
        for r, time, watermark, key, headers, document in rows:
            if time < watermark:
                failed.append((r, LateRecordError(f"the record is {watermark - time} ms too late to be sorted")))
                continue
            if time not in waiting:
                heappush(self._times, time)
            table = waiting[time]
            table[self._number] = key, headers, document
            table.dirty.add(self._number)
            self._number += 1

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give what lies before the watermark, in order."""
        times = self._times
        while times and times[0] < watermark:
            time = heappop(times)
            for _, (key, headers, document) in sorted(self._rows[time].scan()):
                out.append(Result(orjson.loads(document), key, time, headers))
            self._rows.drop(time)
        return watermark

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """It does not look at the clock."""

    async def close(self) -> None:
        """Nothing is held."""

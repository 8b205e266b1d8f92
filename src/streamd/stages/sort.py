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
from typing import Any, Final

from pydantic import Field

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import LateField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import LateRecordError
from streamd.record import Passed, RawRecord, Result

_PIECE: Final = 1000
_BITS: Final = 44
_NUMBERS: Final = (1 << _BITS) - 1


class SortConfig(Model):
    """Settings of `sort`."""

    hints = dict.fromkeys(
        ("by", "key", "order", "field"),
        "records come out by their event times, the earliest first; elements of a list are sorted by "
        "`transform: [{sort: {list: items, by: desc(price)}}]`",
    )

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
    gives=lambda config: "json",
)
class Sort:
    """The stage `sort`. It keeps {time: {place: row}}, by pieces of `_PIECE` ms.

    A place in a piece is the row's time within it, and behind that its number, in the order in which rows came.
    """

    spec: Any
    due: int | None = None

    def __init__(self, config: SortConfig, context: PipelineContext) -> None:
        self.config = config
        self._number = 0
        # A heap of (time, number), of all that waits.
        self._waiting: list[tuple[int, int]] = []

    async def prepare(self) -> None:
        """Nothing is to be loaded."""

    def lift(self, body: Body, port: int) -> str:
        """`(r, time, watermark, key, headers, JSON of the document)`"""
        time, watermark = body.metadata("_timestamp"), body.watermark()
        return f"(r, {time}, {watermark}, {body.key()}, {body.headers()}, {body.json()})"

    def lift_tombstone(self, body: Body, port: int) -> str | None:
        """A record without a value waits as well."""
        return f"(r, r.timestamp, {body.watermark()}, r.key, r.headers, b'null')"

    async def open(self, task: TaskContext) -> None:
        """Take the table from the task's store."""
        assert task.store is not None
        self._pieces = task.store.times("pieces", _packed, _unpacked)

    def restored(self) -> None:
        """Numbers go on after those that wait."""
        places: list[tuple[int, Any]] = [(piece, at) for piece in self._pieces for at, _ in self._pieces[piece].scan()]
        self._waiting = [(piece + (place >> _BITS), place & _NUMBERS) for piece, place in places]
        heapify(self._waiting)
        self._number = max((number for _, number in self._waiting), default=-1) + 1

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """Have rows wait."""
        pieces, waiting, number = self._pieces, self._waiting, self._number
        for r, time, watermark, key, headers, document in rows:
            if time < watermark:
                failed.append((r, LateRecordError(f"the record is {watermark - time} ms too late to be sorted")))
                continue
            within = time % _PIECE
            table, place = pieces[time - within], within << _BITS | number
            table[place] = key, headers, document
            table.dirty.add(place)
            heappush(waiting, (time, number))
            number += 1
        self._number = number

    def advance(self, watermark: int, out: list[Any]) -> int:
        """Give what lies before the watermark, in order."""
        pieces, waiting = self._pieces, self._waiting
        while waiting and (first := waiting[0][0]) < watermark:
            piece = first - first % _PIECE
            table, after, gone = pieces[piece], piece + _PIECE, []
            end = min(after, watermark)
            while waiting and waiting[0][0] < end:
                time, number = heappop(waiting)
                place = (time - piece) << _BITS | number
                key, headers, document = table[place]
                gone.append(place)
                out.append(Passed(None if document == b"null" else document, key, time, headers))
            if waiting and waiting[0][0] < after:
                for place in gone:
                    table.remove(place)
            else:
                pieces.drop(piece)
        return watermark

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """It does not look at the clock."""

    async def close(self) -> None:
        """Nothing is held."""

"""Record batches as they lie in Kafka's log: finding the readable ones in a response."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from struct import Struct
from typing import Any, Final

import crc32c
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from streamd.errors import FatalError, TransientError
from streamd.record import RawRecord, SourceRecord

# Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, times (not read), producer id,
# producer epoch, base sequence, number of records.
_HEADER: Final = Struct(">qiibIhi16xqhii")
_LENGTH_AT: Final = 8
_MAGIC_AT: Final = 16
_ATTRIBUTES_AT: Final = 21  # from here on the checksum covers a batch
_PREFIX: Final = 12  # base offset and length, which the length does not count
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_ABORT: Final = b"\0\0\0\0"  # key of a control record: version 0, type 0


class FetchedRecords:
    """The readable records of one response, unpacked batch by batch as they are taken.

    Checked and counted at once, so that `next_offset`, from where the next response has to go on, is known before any
    record is unpacked. Aborted transactions and control batches are left out. Holds on to the response's bytes.
    `leader_epoch`: under which of its leaders the partition got the last batch, -1 when there is none that says so.
    """

    __slots__ = ("_name", "_passed", "_records", "leader_epoch", "next_offset", "position")

    def __init__(
        self,
        frame: bytes,
        start: int,
        end: int,
        offset: int,
        aborted: Sequence[tuple[int, int]] | None,
        check_crcs: bool,
        name: str,
    ) -> None:
        """`offset` is what was asked for; records before it are left out. Raises TransientError for a bad checksum."""
        self.position = offset
        self.next_offset = offset
        self.leader_epoch = -1
        self._name = name
        self._passed = offset
        batches = self._scan(memoryview(frame)[start:end], aborted, check_crcs)
        self._records: Iterator[RawRecord] = chain.from_iterable(self._unpack(batches, offset))

    def take(self, most: int) -> list[RawRecord]:
        """The next records, at most so many; fewer only at the end. `position` then is where to go on.

        After an error what was taken in that call has to be fetched again, from `position`.
        """
        try:
            records = list(islice(self._records, most))
        except CorruptRecordException as error:
            raise TransientError(
                f"a batch of {self._name} from offset {self.position} cannot be unpacked: {error}"
            ) from error
        except UnsupportedCodecError as error:
            raise FatalError(f"a batch of {self._name} is compressed in a way that is not known: {error}") from error
        if len(records) < most:
            self.position = self.next_offset
        else:
            self.position = max(self._passed, records[-1].offset + 1)
        return records

    def _scan(
        self, view: memoryview, aborted: Sequence[tuple[int, int]] | None, check_crcs: bool
    ) -> list[tuple[int, int, memoryview]]:
        """[(base offset, next offset, bytes)…] of what is readable; an incomplete batch at the end is not."""
        readable = []
        pending = sorted(aborted, key=lambda entry: entry[1]) if aborted else []
        dropped: set[int] = set()
        at, size = 0, len(view)
        while at + _MAGIC_AT < size:
            end = at + _PREFIX + int.from_bytes(view[at + _LENGTH_AT : at + _PREFIX], "big")
            if end > size or end <= at:
                break
            batch = view[at:end]
            at = end
            if batch[_MAGIC_AT] < 2:
                base, after = _legacy_range(batch)
                readable.append((base, after, batch))
                self.next_offset = max(self.next_offset, after)
                continue
            base, _, self.leader_epoch, _, checksum, attributes, delta, producer, _, _, _ = _HEADER.unpack_from(batch)
            after = base + delta + 1
            if check_crcs and crc32c.crc32c(batch[_ATTRIBUTES_AT:]) != checksum:
                raise TransientError(f"a batch of {self._name} at offset {base} does not match its checksum")
            while pending and pending[0][1] <= base:
                dropped.add(pending.pop(0)[0])
            if attributes & _CONTROL:
                if producer in dropped and _is_abort(batch):
                    dropped.discard(producer)
            elif not (attributes & _TRANSACTIONAL and producer in dropped) and after > self.next_offset:
                readable.append((base, after, batch))
            self.next_offset = max(self.next_offset, after)
        return readable

    def _unpack(self, batches: list[tuple[int, int, memoryview]], offset: int) -> Iterator[Any]:
        batches.reverse()
        while batches:
            base, after, batch = batches.pop()
            records = _legacy(batch) if batch[_MAGIC_AT] < 2 else DefaultRecordBatch(batch)
            yield [record for record in records if record.offset >= offset] if base < offset else records
            self._passed = after


def _is_abort(batch: memoryview) -> bool:
    marker = next(iter(DefaultRecordBatch(batch)), None)
    return marker is not None and marker.key is not None and marker.key[:4] == _ABORT


def _legacy(batch: memoryview) -> list[SourceRecord]:
    """The records of a batch in the message formats of before Kafka 0.11."""
    batches = MemoryRecords(bytes(batch))
    found = []
    while batches.has_next():
        inner = batches.next_batch()
        if not inner.validate_crc():
            raise CorruptRecordException("its checksum does not match")
        found += [SourceRecord(one.key, one.value, one.timestamp or 0, one.offset) for one in inner]
    return found


def _legacy_range(batch: memoryview) -> tuple[int, int]:
    """A legacy batch bears the offset of its last record; -1 as its first has it always filtered."""
    return -1, int.from_bytes(batch[:8], "big", signed=True) + 1

"""Records that are tried again over several attempts at their task.

A transaction that is open for too long is aborted by Kafka, and until then holds up the readers of its topics. So a
record is waited for inside an attempt only for a short time (`WAIT_IN_PLACE`). After that the attempt ends with
`RetryLaterError` and gives its transaction back; the task's owner waits, and the next attempt goes on counting where
this one stopped. That next attempt reads up to the record, commits, and then takes it alone, so that nothing else is
done twice while it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamd.errors import TransientError
from streamd.record import Position, RawRecord

# Seconds since a batch was begun after which no wait is begun inside of it: well below any transaction's timeout.
WAIT_IN_PLACE = 2.0


class RetryLaterError(TransientError):
    """A record is to be tried again in `retry_after` seconds, too long to keep a transaction open: no failure."""


class RetriedRecord(NamedTuple):
    """What a record is known by in the next attempt: where it failed, where it came from."""

    component: str
    topic: str
    offset: int


class Retries:
    """The records of one task that are being tried again, until a checkpoint has them behind it.

    Lost with the process: then their time begins anew.
    """

    def __init__(self) -> None:
        self._waiting: dict[RetriedRecord, tuple[float, int]] = {}
        self._passed: set[RetriedRecord] = set()

    def since(self, record: RetriedRecord, now: float) -> tuple[float, int]:
        """(monotonic seconds of its first failure, which try this is): now and 1 for one that is not known."""
        return self._waiting.get(record, (now, 1))

    def keep(self, record: RetriedRecord, began: float, tries: int) -> None:
        """Remember it for the next attempt, in which the next try will be number `tries`."""
        self._waiting[record] = began, tries

    def among(self, records: Sequence[RawRecord]) -> bool:
        """Whether one of these is waited for."""
        if not self._waiting:
            return False
        offsets = {record.offset for record in self._waiting}
        return any(record.offset in offsets for record in records)

    def before(self, position: Position) -> int | None:
        """How many records to read from a position so as not to read one together with others; None: any number.

        Offsets rise by at least one from record to record. Where a position is no offset, records come one by one.
        """
        if not self._waiting:
            return None
        if type(position) is not int:
            return 1
        return max(1, min((r.offset - position for r in self._waiting if r.offset >= position), default=1))

    def passed(self, records: Sequence[RawRecord]) -> None:
        """A batch is processed, whatever became of each of its records. Offsets rise: what is older is over as well."""
        last = records[-1].offset
        self._passed |= {record for record in self._waiting if record.offset <= last}

    def committed(self) -> None:
        """What has passed is durable."""
        for record in self._passed:
            self._waiting.pop(record, None)
        self._passed.clear()

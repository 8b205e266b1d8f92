"""A dead letter as its sink keeps it, read again: the record, and what streamd said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from streamd.record import Header, RawRecord
from streamd.runtime.failure import FACT, ORIGIN, REPLAYS

_FIRST: Final = f"{FACT}pipeline"  # what streamd says begins with this
_NEEDED: Final = ("pipeline", "stage", "phase", "error", "topic")
_NUMBERS: Final = ("partition", "offset", "time", "attempt")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `partition` and `offset` are its place in the sink; `topic`, `record_partition` and
    `record_offset` the one that its record was read from.

    `value` is the record's, as it came; `headers` are its own. `entry` is the source or batch stage behind which the
    record was kept, None where the letter does not say. `replays`: how often it was taken through the pipeline again;
    `origin`: (topic, partition, offset) of the record before the first time. `whole` is False where the sink keeps less
    than the record: a file, or a record of which only the beginning was read. `read`: the document, where its source's
    format is not JSON and it was asked for (reading.py); `binary` when that format is no text. `read_key`: the key,
    where it has a format. `time` in ms since the epoch.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[Header, ...]
    pipeline: str
    stage: str
    phase: str
    error: str
    message: str
    topic: str
    record_partition: int
    record_offset: int
    time: int
    attempt: int
    entry: str | None = None
    replays: int = 0
    origin: tuple[str, int, int] | None = None
    whole: bool = True
    read: Any = None
    binary: bool = False
    read_key: Any = None

    @property
    def reason(self) -> tuple[str, str, str]:
        """Stage, phase and error."""
        return self.stage, self.phase, self.error

    @property
    def first_origin(self) -> str:
        """Where the record was at first, as a header says it."""
        topic, partition, offset = self.origin or (self.topic, self.record_partition, self.record_offset)
        return f"{topic}/{partition}/{offset}"

    @property
    def shown(self) -> Any:
        """What to show: the document of a binary value, or of JSON; None where the text says more, or is all there is:
        values may be nested more deeply than JSON is written.
        """
        document = self.read if self.binary else self._json
        try:
            orjson.dumps(document)
        except TypeError:
            return None
        return document

    @property
    def document(self) -> Any:
        """What was read of it, or else the value as JSON means it, None when it is none."""
        return self._json if self.read is None else self.read

    @property
    def _json(self) -> Any:
        try:
            return orjson.loads(self.value) if self.value is not None else None
        except orjson.JSONDecodeError:
            return None


class ReplayedRecord(msgspec.Struct, gc=False):
    """A `RawRecord` (record.py) made of a letter: it says of itself that it comes from where it came at first."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    offset: int
    headers: tuple[Header, ...]
    topic: str
    partition: int


def replayed(letter: Letter) -> ReplayedRecord:
    """The letter's record, with what its next dead letter has to say."""
    headers = (
        *letter.headers,
        (REPLAYS, str(letter.replays + 1).encode()),
        (ORIGIN, letter.first_origin.encode()),
    )
    return ReplayedRecord(
        letter.key, letter.value, letter.timestamp, letter.record_offset, headers, letter.topic, letter.record_partition
    )


def letter_of(record: RawRecord, partition: int) -> Letter | None:
    """The dead letter that a record of a topic is; None when streamd has not written it as one."""
    headers = tuple(record.headers)
    begin = next((at for at in range(len(headers) - 1, -1, -1) if headers[at][0] == _FIRST), None)
    if begin is None:
        return None
    # What stands before is the record's own, whatever its names: it may be stamped, or a dead letter itself.
    own = tuple(header for header in headers[:begin] if header[0] not in (REPLAYS, ORIGIN))
    said = [header for header in headers if header[0] in (REPLAYS, ORIGIN)] + list(headers[begin:])
    try:
        facts = {name.removeprefix(FACT): (value or b"").decode() for name, value in said}
    except UnicodeDecodeError:
        return None
    return _letter(facts, partition, record.offset, record.key, record.value, record.timestamp, own, whole=True)


def letter_in(line: bytes, partition: int, offset: int) -> Letter | None:
    """The dead letter in a line of a file; None when it is none. Its record's headers and time are not kept there."""
    try:
        envelope = orjson.loads(line)
        facts, record = envelope["error"], envelope["record"]
        said = {name: str(value) for name, value in facts.items()}
        key, value = record["key"], record["value"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    raw = value.encode() if isinstance(value, str) else None if value is None else orjson.dumps(value)
    known = key.encode() if isinstance(key, str) else None
    time = facts.get("time")
    return _letter(said, partition, offset, known, raw, time if type(time) is int else 0, (), whole=False)


def _letter(
    facts: Mapping[str, str], partition: int, offset: int, key: bytes | None, value: bytes | None, timestamp: int,
    own: tuple[Header, ...], *, whole: bool,
) -> Letter | None:  # fmt: skip
    if not all(facts.get(name) for name in _NEEDED):
        return None
    try:
        record_partition, record_offset, time, attempt = (int(facts[name]) for name in _NUMBERS)
        replays = int(facts.get("replays", "0"))
        origin = _origin(facts.get("origin"))
    except (KeyError, ValueError):
        return None
    if replays < 0 or record_partition < 0:
        return None
    return Letter(
        partition, offset, key, value, timestamp, own,
        facts["pipeline"], facts["stage"], facts["phase"], facts["error"], facts.get("message", ""), facts["topic"],
        record_partition, record_offset, time, attempt,
        entry=facts.get("entry") or None, replays=replays, origin=origin, whole=whole and facts.get("cut") != "true",
    )  # fmt: skip


def _origin(text: str | None) -> tuple[str, int, int] | None:
    if text is None:
        return None
    topic, partition, offset = text.rsplit("/", 2)
    return topic, int(partition), int(offset)

"""Records that fail: what is said of them, and where they go. Policy depends on classes and settings alone."""

from __future__ import annotations

import json
import re
import sysconfig
import traceback
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from streamd.codecs import Codec, Undecodable
from streamd.config.pipeline import ComponentConfig, ErrorPolicy, ErrorThreshold, FinalAction, PipelineConfig
from streamd.errors import ExtractError, FatalError, LoadError, RecordError, SchemaDriftError, TransformError
from streamd.expr.errors import failure as failure_in_words
from streamd.plan.chain import Chain
from streamd.record import BEGINNING, END, Headers, RawRecord, Row

# Folders whose lines say nothing to who wrote a stage.
_NOT_OWN = (str(Path(__file__).resolve().parents[1]), sysconfig.get_paths()["stdlib"], "<")

# What a dead letter says of its record is in headers that begin so, behind the record's own.
FACT = "streamd."
# Headers of a record that was taken out of the dead letters: how often that was, and where it came from at first, as
# `topic/partition/offset`. Whatever comes of it has them, the next dead letter among it.
REPLAYS, ORIGIN = "streamd.replays", "streamd.origin"

# The whole numbers that JSON is written with here.
_LEAST, _MOST = -(2**63), 2**64 - 1

# What the header takes that says of a letter that it is cut, with room for how lengths are written.
_CUT_BYTES = 64

# What is JSON by its grammar alone.
_NOT_JSON = {
    "number is infinity": "a number is out of the range of 64-bit floating-point numbers",
    "no low surrogate": "a text holds half a surrogate pair",
    "invalid low surrogate": "a text holds half a surrogate pair",
    "invalid high surrogate": "a text holds half a surrogate pair",
}

PHASES = {"source": "extract", "stage": "transform", "sink": "load"}


@dataclass(frozen=True, slots=True)
class Failure:
    """One record that could not be processed.

    `component` is where it failed, `entry` the source or batch stage that it came through. `message` is free of record
    contents; `detail` may hold some. `action`: what becomes of it whatever the component's policy says.
    """

    record: RawRecord
    component: ComponentConfig
    entry: str
    phase: str
    error: str
    message: str
    detail: str
    action: FinalAction | None = None


class RecordFailedError(FatalError):
    """A record failed, and the pipeline's settings say that this stops it. Nothing of it is committed.

    `offset`: of the record. `complete_before`: all that came before it, and nothing after it, is with the writers.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset
        self.complete_before = False


def failure_of(
    record: RawRecord, error: BaseException, component: ComponentConfig, chain: Chain | None, entry: str = ""
) -> Failure:
    """What happened to the record, in words that may be shown."""
    phase = error.phase if isinstance(error, RecordError) else PHASES[component.kind]
    if phase == "extract" and not isinstance(error, RecordError):
        error = _extract_error(record.value, error, chain.words if chain else frozenset())
    elif phase == "load" and type(error) is TypeError and (reason := _unwritable(error, record, chain)) is not None:
        error = LoadError(reason, str(error))
    name = type(error).__name__
    if isinstance(error, RecordError):
        message = str(error)
        detail = error.detail or message
    else:
        detail = f"{name}: {error}"
        if chain is None:
            message = f"{name}{_line_in(error)} (its text may hold record contents and is left out)"
        else:
            known = failure_in_words(error, chain.words) if isinstance(error, Exception) else TransformError(name)
            name, message = type(known).__name__, str(known)
    action = error.action if isinstance(error, RecordError) else None
    return Failure(record, component, chain.entry if chain else entry, phase, name, message, detail, action)


def _line_in(error: BaseException) -> str:
    """Where own code raised it: the innermost line outside of streamd and of Python's library."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__, limit=50)
        if "site-packages" not in frame.filename and not frame.filename.startswith(_NOT_OWN)
    ]
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _unwritable(error: TypeError, record: RawRecord, chain: Chain | None) -> str | None:
    """Why a document has no JSON form; None for an error of something else."""
    text = str(error)
    if text.startswith("Integer exceeds 64-bit"):
        field = _field_beyond(record, chain) if chain is not None else None
        what = "a number" if field is None else f"field `{field}`"
        return f"{what} is beyond 64 bits, which JSON is not written with; str(…) keeps it as text"
    if "surrogates not allowed" in text:
        return "a text holds half a surrogate pair, which has no UTF-8 form"
    if text.startswith("Dict key must be str"):
        return "an object has a key that is no text, which JSON does not have"
    if text.startswith(("Type is not JSON serializable", "Recursion limit")):
        return f"the document has no JSON form: {text}"
    return None


def _field_beyond(record: RawRecord, chain: Chain) -> str | None:
    """The field that a chain was to write as a number beyond 64 bits, where its code names it."""
    # The chain has gone on to other records since. Alone, this one is the last that its variables were about.
    failed: list[tuple[RawRecord, Exception]] = []
    chain.plain(
        (record,), 0, failed, *([[BEGINNING, BEGINNING, END]] if chain.timed else []), *([] for _ in chain.targets)
    )
    trace = failed[0][1].__traceback__ if failed else None
    for name, value in (trace.tb_frame.f_locals if trace is not None else {}).items():
        if _is_beyond(value) and (found := re.search(rf"'([^']+)': {name}\b", chain.source)) is not None:
            return found[1]
        if type(value) is dict:
            known = (key for key, part in value.items() if _is_beyond(part) and repr(key) in chain.source)
            if (field := next(known, None)) is not None:
                return str(field)
    return None


def _is_beyond(value: Any) -> bool:
    return type(value) is int and not _LEAST <= value <= _MOST


def _extract_error(value: Any, error: BaseException, words: frozenset[str]) -> ExtractError:
    if value is None:
        return ExtractError("the record has no value (a tombstone); `tombstones: forward` or `drop` lets it be")
    if isinstance(value, Undecodable):
        return ExtractError(value.reason)
    if isinstance(error, json.JSONDecodeError):
        for said, told in _NOT_JSON.items():
            if error.msg.startswith(said):
                return ExtractError(f"{told}, at byte {error.pos}", str(error))
        return ExtractError(f"the value is not JSON, from byte {error.pos} on", str(error))
    if isinstance(error, UnicodeDecodeError):
        return ExtractError(f"the value is not UTF-8 text, from byte {error.start} on", error.reason)
    if isinstance(error, RecursionError):
        return ExtractError("the value is nested too deeply")
    # What no decoder raises comes from the expression for the event time.
    expression = isinstance(error, LookupError | AttributeError | ArithmeticError)
    if expression or (isinstance(error, TypeError) and isinstance(value, bytes | dict)):
        assert isinstance(error, Exception)
        known = failure_in_words(error, words)
        return ExtractError(f"no event time: {known}", known.detail)
    return ExtractError(f"the value cannot be decoded ({type(error).__name__})", str(error))


def late_row(record: RawRecord, key: bytes | None, read: Codec | None, write: Codec | None) -> Row:
    """The row that gives a late record to its sink: as it came.

    `key`: its key as the sink writes keys. `read` and `write` are the codecs of where it came from and of the sink,
    None where there are documents. Raises LoadError.
    """
    value = record.value
    binary = write is not None and write.binary
    if isinstance(value, bytes) and read is not None:
        other = write is None or ((binary or read.binary) and not write.passes(read))
        value = read.decode(value) if other else value
    if write is not None and not isinstance(value, bytes | None):
        value = write.encode(value) if binary else orjson.dumps(value)
    return Row(key, value, record.timestamp, record.headers)


def dead_letter(
    failure: Failure, sink: ComponentConfig, pipeline: PipelineConfig, topic: str, partition: int, now_ms: int,
    attempt: int, *, include_details: bool,
) -> Row:  # fmt: skip
    """The row that keeps a failed record: its own key, value and headers, and where and why it failed.

    Sinks with headers get the record as it came, with `streamd.…` headers. Others get an envelope, a JSON object with
    `error` and `record`, in which a value that is JSON stands as it was written, and any other as text. `entry` is the
    source or the stage behind which the record is as it is kept, and would go on.
    """
    record = failure.record
    own_topic = getattr(record, "topic", "")
    facts: dict[str, Any] = {
        "pipeline": pipeline.name,
        "stage": failure.component.id,
        "phase": failure.phase,
        "error": failure.error,
        "message": failure.detail if include_details else failure.message,
        "topic": own_topic or topic,
        "partition": record.partition if own_topic else partition,  # type: ignore[attr-defined]
        "offset": record.offset,
        "time": now_ms,
        "attempt": attempt,
        "entry": failure.entry,
    }
    if isinstance(record.value, Undecodable) and record.value.cut:
        facts["cut"] = "true"
    if sink.spec.transport is None:
        before = {name: value for name, value in record.headers if name in (REPLAYS, ORIGIN)}
        facts |= {name.removeprefix(FACT): _text(value) for name, value in before.items()}
        documents = sink.spec.documents or getattr(sink.settings, "documents", False)
        inner = _plain(record.value) if documents else _embedded(record.value)
        envelope = {"error": facts, "record": {"key": _text(record.key), "value": inner}}
        value: Any = envelope if documents else _json(envelope)
        return Row(record.key, value, record.timestamp, ())
    headers: Headers = (*record.headers, *((f"{FACT}{name}", str(fact).encode()) for name, fact in facts.items()))
    return Row(record.key, _bytes(record.value), record.timestamp, headers)


def cut_letter(letter: Row, excess: int) -> Row | None:
    """A letter of a sink with headers, which is `excess` bytes too large for it, with the beginning of its value only.

    None where there are not so many bytes that it could do without.
    """
    keep = len(letter.value) - excess - _CUT_BYTES if isinstance(letter.value, bytes) else -1
    if keep < 0:
        return None
    return letter._replace(value=letter.value[:keep], headers=(*letter.headers, (f"{FACT}cut", b"true")))


def _bytes(value: Any) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, Undecodable):
        return value.raw if value.raw is not None else orjson.dumps({"undecodable": value.reason})
    return _json(value)


def _plain(value: Any) -> Any:
    """The value as a document's field."""
    if isinstance(value, Undecodable):
        return _text(value.raw) if value.raw is not None else {"undecodable": value.reason}
    if isinstance(value, bytes):
        try:
            return orjson.loads(value)
        except ValueError:
            return _text(value)
    return value


def _embedded(value: Any) -> Any:
    """The value as a part of JSON text: what is JSON already, as it was written."""
    if not isinstance(value, bytes):
        return _plain(value) if isinstance(value, Undecodable) else orjson.Fragment(_json(value))
    try:
        orjson.loads(value)
    except ValueError:
        return _text(value)
    # A line end can only stand between tokens there; sinks of lines need it gone.
    return orjson.Fragment(value.replace(b"\n", b" ").replace(b"\r", b" "))


def _json(value: Any) -> bytes:
    """JSON of anything: a dead letter must not fail for what the record failed for."""
    try:
        return orjson.dumps(value, default=str)
    except TypeError:
        return json.dumps(value, default=str, skipkeys=True).encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")


def policy_of(component: ComponentConfig, pipeline: PipelineConfig) -> ErrorPolicy:
    """The component's own policy, or else the pipeline's."""
    return component.on_error or pipeline.on_error


def policy_for(failure: Failure, pipeline: PipelineConfig) -> ErrorPolicy:
    """What is done with a failed record: as its error says, or else by its component's policy."""
    policy = policy_of(failure.component, pipeline)
    if failure.action is None:
        return policy
    return replace(policy, action=failure.action, dead_letter=policy.dead_letter or pipeline.on_error.dead_letter)


def stop_message(failure: Failure, topic: str, partition: int, *, lost: bool, refused: str | None = None) -> str:
    """What is said when a failed record stops the pipeline. `lost`: its source can not be read again.

    `refused`: why its dead-letter sink has not taken it.
    """
    fate = (
        "Its source cannot be read again: what came before the record is written, the record and what was read after "
        "it are lost."
        if lost
        else "Nothing is lost: the record is not committed."
    )
    other = "`on_error` can say skip, retry or dead_letter instead."
    if failure.action is not None:
        other = "The `action` of its rules can say drop, dead_letter, tag or pass instead."
    if failure.error == SchemaDriftError.__name__:
        other = (
            "Where the change is meant, give `schema_drift` a schema that has it; it can say `policy: dead_letter` or "
            "`warn` instead."
        )
    if refused is not None:
        other = "Give `dead_letter` a sink that takes it, or leave such records out with `on_error: skip`."
    kept = f" Its dead letter was refused: {refused}." if refused is not None else ""
    return (
        f"{failure.component.place}: {failure.component.kind} {failure.component.id!r} failed on the record at offset "
        f"{failure.record.offset} of {topic}, partition {partition}: {failure.error}: {failure.message}."
        f"{kept} {fate} {other}"
    )


class Threshold:
    """Stops a pipeline when too large a share of its records fails within a sliding window."""

    def __init__(self, limit: ErrorThreshold) -> None:
        self._limit = limit
        # (monotonic seconds, records, failed) of each batch in the window
        self._batches: deque[tuple[float, int, int]] = deque()
        self._records = self._failed = 0

    def add(self, now: float, records: int, failed: int) -> None:
        """Count a batch. Raises FatalError when the window's rate is above the limit."""
        self._batches.append((now, records, failed))
        self._records += records
        self._failed += failed
        while self._batches[0][0] < now - self._limit.window:
            _, old_records, old_failed = self._batches.popleft()
            self._records -= old_records
            self._failed -= old_failed
        if failed and self._records >= self._limit.min_records and self._failed > self._limit.rate * self._records:
            raise FatalError(
                f"{self._failed} of the last {self._records} records failed: more than error_threshold allows "
                f"({self._limit.rate:.2%} over {self._limit.window:g} s). The pipeline stops; nothing of the last "
                "transaction is committed."
            )


def load_error(error: Exception) -> LoadError:
    """A sink's refusal as an error of the load phase."""
    return error if isinstance(error, LoadError) else LoadError(f"the sink refused the record ({type(error).__name__})")

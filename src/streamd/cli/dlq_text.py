"""Dead letters as a terminal shows them, and as JSON. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from streamd.cli.state import columns
from streamd.cli.times import ago, moment
from streamd.dlq.letter import Letter
from streamd.dlq.marks import Done
from streamd.dlq.places import Place
from streamd.dlq.prepare import Prepared
from streamd.dlq.purge import Purge
from streamd.dlq.replay import Replayed
from streamd.dlq.tally import Counts, Reason, Tally

_HEAD = ("stage", "phase", "error", "open", "replayed", "purged", "oldest", "newest")


def tally_lines(tally: Tally) -> Iterator[str]:
    """A place, and its letters by reason."""
    yield _title(tally)
    rows = [
        (*reason, f"{counts.open:,}", f"{counts.replayed:,}", f"{counts.purged:,}", *map(_when, _times(counts)))
        for reason, counts in sorted(tally.reasons.items(), key=lambda item: (-item[1].open, item[0]))
    ]
    if rows:
        yield from (f"  {line}" for line in columns([_HEAD, *rows], right=frozenset({3, 4, 5})))
    for pipeline, count in sorted(tally.others.items()):
        yield f"  {count:,} of pipeline {pipeline}"
    if tally.foreign:
        yield f"  {_records(tally.foreign)} that streamd has not written as dead letters"


def _title(tally: Tally) -> str:
    every = tally.all
    sink = f", sink {tally.place.sink.id}" if tally.place.sink is not None else ""
    if not every.total:
        return f"{tally.place}{sink}: no dead letters"
    return (
        f"{tally.place}{sink}: {_letters(every.total)}, {every.open:,} open, {every.replayed:,} replayed, "
        f"{every.purged:,} purged"
    )


def _times(counts: Counts) -> tuple[int, int]:
    return counts.oldest or 0, counts.newest or 0


def _when(ms: int) -> str:
    return f"{moment(ms - ms % 1000)} ({ago(ms)})"


def tally_json(tally: Tally) -> dict[str, Any]:
    """The same for programs."""
    return {
        "kind": tally.place.kind,
        "name": tally.place.name,
        "sink": tally.place.sink.id if tally.place.sink is not None else None,
        "pipeline": tally.place.pipeline,
        **_counts_json(tally.all),
        "reasons": [
            {"stage": stage, "phase": phase, "error": error, **_counts_json(counts)}
            for (stage, phase, error), counts in sorted(tally.reasons.items())
        ],
        "other_pipelines": dict(tally.others),
        "no_letters": tally.foreign,
    }


def _counts_json(counts: Counts) -> dict[str, Any]:
    return {
        "total": counts.total,
        "open": counts.open,
        "replayed": counts.replayed,
        "purged": counts.purged,
        "oldest": counts.oldest,
        "newest": counts.newest,
    }


def letter_lines(place: Place, letter: Letter, done: Done | None) -> Iterator[str]:
    """One letter, on several lines. What a terminal would take for orders is escaped."""
    state = f", {done}" if done is not None else ""
    times = f", replayed {letter.replays} times" if letter.replays else ""
    yield f"{place}[{letter.partition}] {letter.offset}{state}{times}"
    yield f"  {letter.stage}: {letter.error} in {letter.phase}, {moment(letter.time)}, try {letter.attempt}"
    yield f"  {_safe(letter.message)}"
    came = f"{letter.topic}[{letter.record_partition}] {letter.record_offset}"
    first = f", at first {letter.first_origin}" if letter.origin is not None else ""
    yield f"  from {came}{first}, pipeline {letter.pipeline}"
    if isinstance(letter.read_key, dict | list | int | float):
        yield f"  key    {_safe(orjson.dumps(letter.read_key).decode())}"
    elif letter.key is not None:
        yield f"  key    {_text(letter.key) if letter.read_key is None else _safe(str(letter.read_key))}"
    for name, value in letter.headers:
        yield f"  header {_safe(name)}: {'null' if value is None else _text(value)}"
    yield from _value_lines(letter)


def _value_lines(letter: Letter) -> Iterator[str]:
    if letter.value is None:
        yield "  value  none (a tombstone)"
        return
    document = letter.shown
    if not isinstance(document, dict | list):
        yield f"  value  {_text(letter.value)}"
    else:
        lines = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode().splitlines()
        for index, line in enumerate(lines):
            yield f"  {'value' if not index else '':<6} {_safe(line)}"
    if not letter.whole:
        yield "         (less than the record had)"


def _text(data: bytes) -> str:
    """Bytes as text, all of it shown."""
    return _safe(data.decode("utf-8", "backslashreplace"))


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def letter_json(place: Place, letter: Letter, done: Done | None) -> dict[str, Any]:
    """One letter for programs: `value` as JSON or text, else `value_base64`; keys and headers likewise.

    Of a binary format there are both: what its source reads, and the bytes.
    """
    document = letter.shown
    found: dict[str, Any] = {
        "place": str(place),
        "partition": letter.partition,
        "offset": letter.offset,
        "done": done,
        "pipeline": letter.pipeline,
        "stage": letter.stage,
        "phase": letter.phase,
        "error": letter.error,
        "reason": letter.message,
        "time": letter.time,
        "attempts": letter.attempt,
        "replays": letter.replays,
        "topic": letter.topic,
        "record_partition": letter.record_partition,
        "record_offset": letter.record_offset,
        "origin": letter.first_origin,
        "entry": letter.entry,
        "timestamp": letter.timestamp,
        "whole": letter.whole,
        **_key(letter),
        "headers": [{"name": name, **_plain("value", value)} for name, value in letter.headers],
    }
    if letter.binary and letter.value is not None:
        return found | {"value": document, "value_base64": b64encode(letter.value).decode()}
    return found | ({"value": document} if document is not None else _plain("value", letter.value))


def _key(letter: Letter) -> dict[str, Any]:
    """The key as its source reads it beside its bytes, where it has a format."""
    if letter.read_key is None or letter.key is None or isinstance(letter.read_key, bytes):
        return _plain("key", letter.key)
    return {"key": letter.read_key, "key_base64": b64encode(letter.key).decode()}


def _plain(name: str, data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(data).decode()}


def prepared_lines(prepared: Prepared, *, dry_run: bool) -> Iterator[str]:
    """What a replay does, or would do."""
    would = "would be replayed" if dry_run else "to be replayed"
    yield f"{prepared.place}: {_letters(prepared.count)} {would}"
    for group in prepared.groups.values():
        where = f"into stage {group.to_stage}" if group.to_stage is not None else str(group.entry)
        yield f"  {group.count:,} {where}, to {', '.join(dict.fromkeys(group.outputs)) or 'no sink'}"
        yield from _reason_lines(group.reasons)
        if group.drift:
            yield f"    {group.drift}"
        if dry_run:
            yield from (f"    such as {example}" for example in group.examples)
    for why, count in prepared.stay.most_common():
        yield f"  {count:,} stay: {why}"
    if prepared.tired:
        yield f"  {prepared.tired:,} stay: replayed too often already (--max-attempts)"
    if prepared.done:
        yield f"  {prepared.done:,} are done already"


def _reason_lines(reasons: Counter[Reason]) -> Iterator[str]:
    for (stage, phase, error), count in reasons.most_common():
        yield f"    {count:,} {stage}: {error} in {phase}"


def prepared_json(prepared: Prepared, done: Replayed | None) -> dict[str, Any]:
    """The same for programs, and what came of it."""
    return {
        "kind": prepared.place.kind,
        "name": prepared.place.name,
        "letters": prepared.count,
        "groups": [
            {
                "entry": {"way": group.entry.way, "component": group.entry.component},
                "to_stage": group.to_stage,
                "letters": group.count,
                "outputs": group.outputs,
                "schema_drift": group.drift or None,
                "reasons": [
                    {"stage": stage, "phase": phase, "error": error, "letters": count}
                    for (stage, phase, error), count in group.reasons.most_common()
                ],
                "examples": group.examples,
            }
            for group in prepared.groups.values()
        ],
        "stay": dict(prepared.stay),
        "too_often": prepared.tired,
        "done_before": prepared.done,
        "replayed": None if done is None else done.letters,
        "failed_again": None if done is None else done.again,
        "skipped": None if done is None else done.skipped,
        "gone": None if done is None else done.gone,
    }


def replayed_line(done: Replayed) -> str:
    """What came of a replay."""
    again = f", of which {done.again:,} failed again" if done.again else ""
    skipped = f", {done.skipped:,} were skipped by `on_error`" if done.skipped else ""
    gone = f"; {done.gone:,} are gone: the topic's retention deleted them before they were read" if done.gone else ""
    return f"replayed {done.letters:,}{again}{skipped}{gone}"


def purge_lines(found: Purge) -> Iterator[str]:
    """What a purge marks."""
    yield f"{found.place}: {_letters(found.count)} to be purged"
    yield from _reason_lines(found.reasons)


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'s'[: count != 1]}"


def _records(count: int) -> str:
    return f"{count:,} record{'s'[: count != 1]}"

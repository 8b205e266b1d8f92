"""Dead letters read again: what is one, what its record's own headers are, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from streamd.dlq.letter import Letter, letter_in, letter_of, replayed
from streamd.record import SourceRecord

FACTS = {
    "pipeline": "p", "stage": "set", "phase": "transform", "error": "TransformError", "message": "no number",
    "topic": "orders", "partition": "3", "offset": "17", "time": "1700000000000", "attempt": "2", "entry": "source",
}  # fmt: skip


def record(own: tuple[Any, ...] = (), value: bytes | None = b'{"n": 1}', **changed: str | None) -> SourceRecord:
    facts = {name: fact for name, fact in {**FACTS, **changed}.items() if fact is not None}
    headers = (*own, *((f"streamd.{name}", fact.encode()) for name, fact in facts.items()))
    return SourceRecord(b"k", value, 5, 40, headers)


def read(found: SourceRecord) -> Letter:
    letter = letter_of(found, 1)
    assert letter is not None
    return letter


def test_what_a_letter_says() -> None:
    letter = read(record((("trace", b"\xff"), ("empty", None))))
    assert letter == Letter(
        1, 40, b"k", b'{"n": 1}', 5, (("trace", b"\xff"), ("empty", None)), "p", "set", "transform", "TransformError",
        "no number", "orders", 3, 17, 1_700_000_000_000, 2, "source",
    )  # fmt: skip
    assert (letter.document, letter.first_origin) == ({"n": 1}, "orders/3/17")


def test_a_replayed_record_keeps_its_first_origin_and_counts() -> None:
    once = replayed(read(record((("trace", b"1"),))))
    assert (once.topic, once.partition, once.offset) == ("orders", 3, 17)
    assert once.headers == (("trace", b"1"), ("streamd.replays", b"1"), ("streamd.origin", b"orders/3/17"))
    again = read(record(once.headers, topic="orders", offset="99"))
    assert (again.replays, again.origin, again.headers) == (1, ("orders", 3, 17), (("trace", b"1"),))
    assert replayed(again).headers[1:] == (("streamd.replays", b"2"), ("streamd.origin", b"orders/3/17"))


def test_headers_of_a_stamped_record_and_of_a_letter_of_a_letter_are_its_own() -> None:
    stamped = (("streamd.pipeline", b"before"), ("streamd.stage", b"stamp"), ("streamd.id", b"x-1"))
    letter = read(record(stamped))
    assert (letter.headers, letter.pipeline, letter.stage) == (stamped, "p", "set")
    assert replayed(letter).headers[:3] == stamped


@pytest.mark.parametrize(
    "broken",
    [
        {"phase": None}, {"time": None}, {"offset": "x"}, {"partition": "-1"}, {"attempt": ""}, {"replays": "-1"},
        {"replays": "many"}, {"origin": "nowhere"}, {"origin": "a/b/c"},
    ],
)  # fmt: skip
def test_what_lacks_something_or_is_broken_is_none(broken: dict[str, str | None]) -> None:
    assert letter_of(record(**broken), 0) is None


def test_what_streamd_has_not_written_is_none() -> None:
    assert letter_of(SourceRecord(None, b"{}", 0, 0, ()), 0) is None
    assert letter_of(SourceRecord(None, b"{}", 0, 0, (("streamd.pipeline", b"p"),)), 0) is None
    not_text = SourceRecord(None, b"{}", 0, 0, (*record().headers, ("streamd.extra", b"\xff\xfe")))
    assert letter_of(not_text, 0) is None


def test_only_a_part_of_a_record_is_known_as_such() -> None:
    assert not read(record(cut="true")).whole
    assert read(record()).whole


def test_values_that_are_no_json_have_no_document() -> None:
    assert read(record(value=b"\xff\x00")).document is None
    assert read(record(value=None)).document is None


def test_envelopes_in_files() -> None:
    error: dict[str, Any] = {**FACTS, "partition": 3, "offset": 17, "time": 1_700_000_000_000, "attempt": 2}
    line = orjson.dumps({"error": error, "record": {"key": "k", "value": {"n": 1}}})
    letter = letter_in(line, 0, 4)
    assert letter is not None
    expected = replace(read(record()), partition=0, offset=4, value=b'{"n":1}', timestamp=1_700_000_000_000)
    assert letter == replace(expected, whole=False)
    text = letter_in(orjson.dumps({"error": error, "record": {"key": None, "value": "{cut"}}), 0, 0)
    assert text is not None
    assert (text.key, text.value) == (None, b"{cut")


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"error": 1, "record": 2}', b'{"error": {}, "record": {}}', b"7"])
def test_lines_that_are_no_envelope(line: bytes) -> None:
    assert letter_in(line, 0, 0) is None

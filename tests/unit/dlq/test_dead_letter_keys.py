"""Keys and headers with formats in dead letters: read as their source does, and entered again as what they were."""

from __future__ import annotations

from pathlib import Path

from streamd.cli.dlq_text import letter_json, letter_lines
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.dlq.choice import condition
from streamd.dlq.entry import Entry, LetterSettings, pipeline_from
from streamd.dlq.letter import Letter
from streamd.dlq.places import Place
from streamd.dlq.prepare import placeholder
from streamd.dlq.reading import Documents

TEXT = """\
name: p
source: {log: {topic: orders, key_format: json, header_formats: {trace: json}}}
stages:
  - {id: own, python: "own:Own"}
  - {id: after, set: {k: _key.id, t: _headers.trace.x}}
  - {id: moved, key_by: k}
sink: {log: {topic: out}}
on_error: {dead_letter: {log: {topic: dlq}}}
"""
CONFIG = load_pipeline_text(TEXT, Path("p.yaml"), Registry.default(), {}, ServiceConfig.model_validate({}))


def letter(key: bytes | None, entry: str = "source") -> Letter:
    return Letter(0, 0, key, b"{}", 0, (), "p", "after", "transform", "X", "", "orders", 0, 0, 0, 1, entry)


async def test_a_key_is_read_as_its_source_reads_it() -> None:
    documents = Documents(CONFIG)
    given = [letter(b'{"id":5}'), letter(b"{"), letter(None), letter(b'{"id":5}', "own"), letter(b"")]
    found = [one for one in await documents.read(given) if one is not None]
    await documents.close()
    assert [one.read_key for one in found] == [{"id": 5}, None, None, None, None]
    of_five, reads = condition("_key.id == 5", keyed=True)
    assert reads
    assert not condition("_offset == 5", keyed=True)[1]
    assert [of_five(one) for one in found] == [True, False, False, False, False]
    assert [condition("_key == ''")[0](one) for one in found] == [False, False, False, False, True]
    place = Place("log", "dlq", "shop", Path("state"))
    assert '  key    {"id":5}' in list(letter_lines(place, found[0], None))
    shown = letter_json(place, found[0], None)
    assert (shown["key"], shown["key_base64"]) == ({"id": 5}, "eyJpZCI6NX0=")
    assert letter_json(place, found[1], None)["key"] == "{"


def test_what_was_kept_behind_own_code_enters_again_with_its_formats() -> None:
    spec = placeholder("source", LetterSettings, "dead_letters")
    for way in ("behind", "into"):
        [source] = pipeline_from(CONFIG, Entry(way, "own"), None, spec).sources  # type: ignore[arg-type]
        assert source.settings.key_format == "json"  # type: ignore[attr-defined]
        assert source.settings.header_formats == {"trace": "json"}  # type: ignore[attr-defined]

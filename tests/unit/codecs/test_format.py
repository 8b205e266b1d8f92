"""`format:` is a name, or a mapping of the name to its settings; mistakes say what would be right."""

from __future__ import annotations

import pickle

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from streamd.codecs import JSON, Format, LineFormat, TopicFormat
from streamd.codecs.format import format_of, formats, written
from streamd.codecs.registry import OF_TOPICS, names, spec_of
from streamd.sinks.kafka import KafkaSinkConfig
from streamd.sources.file import FileSourceConfig


class Settings(BaseModel):
    size: int


@pytest.mark.parametrize("given", ["csv", {"csv": None}, {"csv": {}}, Format("csv")])
def test_a_name_and_a_mapping_without_settings_are_the_same(given):
    assert TypeAdapter(TopicFormat).validate_python(given) == Format("csv") == "csv"


def test_another_word_for_a_format_is_the_format():
    assert FileSourceConfig(path="a", format="ndjson").format == "json"
    assert TypeAdapter(LineFormat).validate_python({"ndjson": {}}) == "json"


def test_without_a_word_it_is_json():
    assert KafkaSinkConfig(topic="t").format is JSON
    assert format_of(object()) is JSON


def test_formats_with_other_settings_are_other_formats():
    one, other = Format("json", Settings(size=1)), Format("json", Settings(size=2))
    assert one == Format("json", Settings(size=1))
    assert one != other
    assert one != "json", "what is done for plain JSON is not done for it"
    assert "json" != one  # noqa: SIM300 — from the other side
    assert hash(one) == hash(other)


def test_a_format_goes_to_another_process_with_its_settings():
    sent = Format("json", Settings(size=1))
    assert pickle.loads(pickle.dumps(sent)) == sent


def test_it_is_written_as_a_user_would():
    assert written(JSON) == "json"
    assert written(Format("json", Settings(size=1))) == {"json": {"size": 1}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("jsno", r"should be 'json', .*'bytes'"),
        ({"jsno": {}}, r"should be 'json', .*'bytes'"),
        ("pretty", r"should be 'json'"),
        (["json"], r"expected a format: one of json"),
        ({"json": {}, "csv": {}}, r"expected a format"),
        (5, r"expected a format"),
        ({"csv": {"colums": ["a"]}}, r"colums\s+Extra inputs"),
    ],
)
def test_what_is_no_format_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        KafkaSinkConfig(topic="t", format=given)


@pytest.mark.parametrize("name", names())
def test_every_format_has_docs_and_a_codec(name):
    spec = spec_of(name)
    assert spec.doc.strip()
    assert spec.topics == (spec.name in OF_TOPICS)


def test_a_field_tells_which_formats_it_takes():
    assert formats(KafkaSinkConfig.model_fields["format"]).names == OF_TOPICS
    assert formats(KafkaSinkConfig.model_fields["topic"]) is None

"""What a verification cannot make or must not do, for the sake of a format, is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.verify.prepare import check

SCHEMA = "{type: record, name: R, fields: [{name: a, type: int}]}"
TEXT = """
name: p
schema_registry: {{url: "http://127.0.0.1:1"}}
source: {{log: {{topic: in, format: {read}}}}}
sink: {{log: {{topic: out, format: {write}, headers: {{h: "1"}}}}}}
"""


@pytest.mark.parametrize(
    ("read", "write", "message"),
    [
        (f"{{avro: {{schema: {SCHEMA}}}}}", "json", "source `source` has the format avro"),
        ("msgpack", "json", "has the format msgpack, of which no records are made"),
        ("{protobuf: {registry: true}}", "json", "source `source` has the format protobuf, of which no records"),
        ("json", f"{{avro: {{registry: true, schema: {SCHEMA}}}}}", "sink `sink` registers schemas"),
        ("json, key_format: json", "json", "the keys of source `source` have the format json, in which none are made"),
        ("json", "json, key_format: {avro: {registry: true, schema: long}}", "sink `sink` registers schemas"),
        ("json", "json, header_formats: {h: {avro: {registry: true, schema: long}}}", "sink `sink` registers schemas"),
    ],
)
def test_formats_are_refused_where_they_cannot_be_verified(read, write, message):
    text = TEXT.format(read=read, write=write)
    config = load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig.model_validate({}))
    with pytest.raises(ConfigError, match=message):
        check(config)

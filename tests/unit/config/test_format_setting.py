"""Mistakes in a format and its settings are told with their place."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "column", "message", "help_text"),
    [
        ("{cvs: {}}", 14, "unknown format `cvs` as `format` of sink `file`", "did you mean `csv`?"),
        ("{csv: {size: 1}}", 14, "format `csv` has settings, which are only for messages of topics, as `format`", ""),
        (
            "[csv]",
            5,
            "`format` of sink `file` must be a format: one of json, csv, text, avro, msgpack, protobuf, ndjson",
            "",
        ),
        ("{csv: {}, text: {}}", 5, "`format` of sink `file` must be a format", ""),
        (
            "cvs",
            13,
            "`format` of sink `file` must be one of json, csv, text, avro, msgpack, protobuf, ndjson",
            "did you mean `csv`?",
        ),
    ],
)
def test_a_format_is_checked_where_it_stands(service, tmp_path, written, column, message, help_text):
    text = f"name: p\nsource: {{file: {{path: in}}}}\nsink:\n  file:\n    path: out\n    format: {written}\n"
    with pytest.raises(ConfigError) as caught:
        load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, service)
    (found,) = caught.value.diagnostics
    assert message in found.message
    assert (found.place.line, found.place.column) == (6, column)
    assert found.help == help_text


def test_files_of_messagepack_say_what_they_need_and_topics_need_nothing(service, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: there(name, *more) if name != "msgpack" else None
    )
    monkeypatch.setitem(sys.modules, "msgpack", None)
    text = "name: p\nsource: {log: {topic: in, format: msgpack}}\nsink: {file: {path: out, format: FORMAT}}\n"

    def load(form):
        return load_pipeline_text(text.replace("FORMAT", form), tmp_path / "p.yaml", Registry.default(), {}, service)

    assert load("json").sources[0].settings.format.codec().decode(b"\x81\xa1n\x01") == {"n": 1}
    for form in ("msgpack", "{msgpack: {timestamps: iso}}"):
        with pytest.raises(ConfigError, match=r"needs the Python package `msgpack`.*install streamd\[msgpack\]"):
            load(form)

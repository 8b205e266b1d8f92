"""Mistakes in a format and its settings are told with their place."""

from __future__ import annotations

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

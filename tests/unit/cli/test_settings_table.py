"""Settings as rows for people."""

from __future__ import annotations

import pytest

from demo.components import FileConfig, TopicConfig, WindowConfig
from streamd.cli.settings_table import duration_text, settings, size_text
from streamd.config.service import ServiceConfig


def test_rows() -> None:
    """Types in plain words, defaults as one would write them, nested settings dotted."""
    rows = {row.name: row for row in settings(TopicConfig)}

    assert (rows["topic"].type, rows["topic"].default, rows["topic"].example) == ("text", None, "orders")
    assert (rows["format"].type, rows["format"].default) == ("`json` or `text`", "json")
    assert (rows["buffer"].type, rows["buffer"].default) == ("size", "1KiB")
    assert (rows["time"].type, rows["time"].default) == ("text or mapping", "")
    assert (rows["time.field"].type, rows["time.field"].default) == ("expression", None)
    assert (rows["time.idle"].type, rows["time.idle"].default) == ("duration", "0s")
    assert rows["password"].type == "secret text"
    assert rows["options"].type == "mapping of names to any value"
    assert {row.name: row.type for row in settings(WindowConfig)}["late"] == "sink"
    assert {row.name: row.type for row in settings(FileConfig)} == {"path": "path", "quota": "whole number"}


def test_every_setting_of_the_service_is_described() -> None:
    """Also those within others."""
    rows = list(settings(ServiceConfig))

    assert {"http.tls.cert", "restart.max", "log.level"} <= {row.name for row in rows}
    assert all(row.description and row.example for row in rows)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "200ms"), (1.0, "1s"), (30.0, "30s"), (60.0, "1m"), (5400.0, "90m"), (7200.0, "2h")]
)
def test_durations(seconds: float, text: str) -> None:
    """In the largest unit that fits."""
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(5, "5"), (1024, "1KiB"), (1 << 20, "1MiB"), (1000, "1000")])
def test_sizes(size: int, text: str) -> None:
    """In the largest unit that fits."""
    assert size_text(size) == text

"""What the doctor says of topics that do not keep records for as long as pipelines want them."""

from __future__ import annotations

from typing import Any

import pytest

from streamd.transport.kafka.doctor import TopicUse
from streamd.transport.kafka.doctor_topics import kept_long_enough

HOUR = 3_600_000


def use(role: str, reach: float = 0.0) -> TopicUse:
    return TopicUse(frozenset({role}), frozenset({"p"}), reach=reach)


@pytest.mark.parametrize(
    ("how", "levels"),
    [
        (use("input"), []),
        (use("input", 1800.0), ["ok"]),
        (use("input", 7200.0), ["warning"]),
        (use("output"), []),
        (use("exchange"), ["problem"]),
    ],
)
def test_records_must_be_there_for_as_long_as_windows_are(how: Any, levels: list[str]) -> None:
    found = kept_long_enough("topic t", how, HOUR)
    assert [one.level for one in found] == levels
    for one in found:
        assert one.seen == "keeps 1 h (retention.ms)"
        assert one.level == "ok" or "retention.ms" in (one.remedy or "")

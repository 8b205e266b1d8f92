"""What a `validate` with a unique key and scores gives, by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# (key, time in ms, value)
Event = tuple[str, int, int]


def judged(
    events: Sequence[Event], within: int, window: int, disorder: int
) -> tuple[list[tuple[Event, list[str]]], dict[int, dict[str, int]]]:
    """([(event, names of the rules that it breaks)], {end of a window: counts}) of the rules `unique` (dropped),
    `low` (v below 90, dropped) and `odd` (info).
    """
    went_on: list[Event] = []
    found: list[tuple[Event, list[str]]] = []
    windows: dict[int, dict[str, int]] = {}
    watermark = -(2**62)
    for event in events:
        key, time, value = event
        watermark = max(watermark, time - disorder)
        again = any(key == other and abs(time - at) <= within for other, at, _ in went_on)
        broken = {"unique": again or time < watermark, "low": value >= 90, "odd": value % 2 == 0}
        names = [name for name, is_so in broken.items() if is_so]
        found.append((event, names))
        if not broken["unique"] and not broken["low"]:
            went_on.append(event)
        counts_in = max(time, watermark)
        counts = windows.setdefault(counts_in - counts_in % window + window, {"records": 0, "passed": 0})
        counts["records"] += 1
        counts["passed"] += names in ([], ["odd"])
        for name in broken:
            counts[name] = counts.get(name, 0) + broken[name]
    return found, windows


def counts_of(scores: Sequence[dict[str, Any]]) -> dict[int, dict[str, int]]:
    """{end of a window: counts} of the scores that a pipeline gave, each of another window."""
    found = {
        score["window_end"]: {
            "records": score["records"],
            "passed": score["passed"],
            **{name: rule["failed"] for name, rule in score["rules"].items()},
        }
        for score in scores
    }
    assert len(found) == len(scores), "a window twice"
    return found

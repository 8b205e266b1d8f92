"""Joins of every kind in one pipeline from file to file, its worker killed again and again around its checkpoints."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.join_oracle import TYPES, oracle, rows_of
from services.command import service_file, streamd

DISORDER = 40
FIELDS = {"l": "left.n", "r": "right.n", "k": "left.k if has(left) else right.k"}
KINDS: dict[str, dict[str, Any]] = {
    **{f"within_{kind}": {"type": kind, "within": {"before": "15ms", "after": "30ms"}} for kind in TYPES},
    "kept": {"type": "full", "keep": "50ms"},
    "graceful": {"within": "20ms", "grace": "25ms", "where": "left.n % 3 != right.n % 3"},
    "ever": {},
    "latest": {"type": "left", "right": {"table": "right_ones"}},
    "versions": {"right": {"table": "right_ones"}, "as_of": "event_time"},
}


def pipeline() -> str:
    sides: list[dict[str, Any]] = [
        {"id": "left_ones", "from": "source", "filter": "s == 0"},
        {"id": "right_ones", "from": "source", "filter": "s == 1"},
    ]
    inputs = {"left": "left_ones", "right": "right_ones", "on": "k", "fields": FIELDS}
    joins = [{"id": name, "join": {**inputs, **kind}} for name, kind in KINDS.items()]
    sinks = [{"id": f"to_{name}", "from": name, "file": {"path": f"{name}.ndjson"}} for name in KINDS]
    source = {"file": {"path": "in.ndjson", "event_time": {"field": "t", "out_of_order": f"{DISORDER}ms"}}}
    settings = {"name": "joins", "source": source, "stages": sides + joins, "sinks": sinks}
    return yaml.safe_dump({**settings, "batch": {"max_records": 50}, "commit_interval": "1ms"}, sort_keys=False)


def shuffled(count: int) -> list[tuple[int, int, str]]:
    """(time, side, key); some come later than they may."""
    chance = random.Random(5)
    events = []
    for number in range(count):
        late = chance.randrange(120) if chance.random() < 0.05 else chance.randrange(DISORDER)
        events.append((1_000_000 + max(0, number - late), chance.randrange(2), f"k{chance.randrange(8)}"))
    return events


def wanted(name: str, events: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    rows = rows_of(events, DISORDER)
    if name in ("latest", "versions"):
        return with_table(name, rows)
    kind = KINDS[name]
    if name == "kept":
        found = oracle(rows, TYPES["full"], kept_long_enough, lambda row: False)
    elif name == "ever":
        found = oracle(rows, TYPES["inner"], lambda left, right, row: True, lambda row: False)
    else:
        before, after, grace = (20, 20, 25) if name == "graceful" else (15, 30, 0)
        found = oracle(
            rows,
            TYPES[kind.get("type", "inner")],
            lambda left, right, row: left[1] - before <= right[1] <= left[1] + after,
            lambda row: row[1] < row[2] - grace,
            (lambda left, right: left % 3 != right % 3) if "where" in kind else None,
        )
    return sorted((left, right) for left, right, _, _ in found)


def kept_long_enough(left: Any, right: Any, row: Any) -> bool:
    other = left if row is right else right
    return bool(other[1] >= row[2] - 50 and other[1] >= other[2] - 50)


def with_table(name: str, rows: list[Any]) -> list[tuple[int, int]]:
    found = []
    for number, time, watermark, side, key in rows:
        versions = [row for row in rows if row[3] == 1 and row[4] == key]
        if side == 1:
            continue
        if name == "latest":
            found.append((number, max((row[0] for row in versions if row[0] < number), default=-1)))
        elif time >= watermark:
            old = [(row[1], row[0]) for row in versions if row[1] <= time]
            found += [(number, max(old)[1])] if old else []
    return sorted(found)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("faults", ["", "before_commit:kill9:0.1,after_commit:kill9:0.1,after_changelog:kill9:0.05"])
def test_joins_are_the_same_whatever_is_killed(faults, tmp_path):
    # What a change of a table that comes late means for others, nobody can say.
    events = shuffled(1200)
    kept = {row[0] for row in rows_of(events, DISORDER) if row[3] == 0 or row[1] >= row[2]}
    events = [event for number, event in enumerate(events, start=1) if number in kept]
    rows = [{"n": number, "t": time, "s": side, "k": key} for number, (time, side, key) in enumerate(events, start=1)]
    (tmp_path / "in.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "p.yaml").write_text(pipeline())
    log = tmp_path / "faults"
    ended = streamd(
        *("run", "p.yaml", "--config", service_file(tmp_path, "joins"), "--until-idle"),
        env={"STREAMD_FAULT": faults, "STREAMD_FAULT_SEED": "5", "STREAMD_FAULT_LOG": str(log)} if faults else {},
        folder=tmp_path,
    )
    assert ended.code == 0, ended.all
    assert not faults or log.read_text().count("kill9") > 2
    for name in KINDS:
        found = lines(tmp_path / f"{name}.ndjson")
        assert sorted((row["l"] or -1, row["r"] or -1) for row in found) == wanted(name, events), name
        assert all(row["k"] == events[(row["l"] or row["r"]) - 1][2] for row in found)

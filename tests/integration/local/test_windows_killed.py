"""Windows of every kind in one pipeline from file to file, its worker killed again and again around its checkpoints."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.window_oracle import answer
from services.command import service_file, streamd
from streamd.stages.window import WindowConfig, spec_of

DISORDER = 40
AGGREGATES = {"n": "count()", "sum": "sum(v)", "max": "max(v)"}
KINDS: dict[str, dict[str, Any]] = {
    "tumbling": {"tumbling": "100ms", "grace": "20ms", "late": "dead_letter"},
    "hopping": {"hopping": {"size": "100ms", "every": "20ms"}, "offset": "10ms"},
    "early": {"hopping": {"size": "100ms", "every": "50ms"}, "emit": {"every": "30ms"}},
    "session": {"session": {"gap": "30ms", "max": "500ms"}, "grace": "10ms"},
    "sliding": {"sliding": "150ms"},
    "count": {"count": {"size": 10, "every": 4}, "emit": "on_update"},
    "ever": {"global": True, "emit": {"every": "100ms"}},
}


def pipeline() -> str:
    stages = [
        {"id": name, "from": "source", "window": {"by": "k", "aggregate": AGGREGATES, **kind}}
        for name, kind in KINDS.items()
    ]
    sinks = [{"id": f"to_{name}", "from": name, "file": {"path": f"{name}.ndjson"}} for name in KINDS]
    late = {"dead_letter": {"file": {"path": "late.ndjson"}}}
    source = {"file": {"path": "in.ndjson", "event_time": {"field": "t", "out_of_order": f"{DISORDER}ms"}}}
    settings = {"name": "windows", "source": source, "stages": stages, "sinks": sinks, "on_error": late}
    return yaml.safe_dump({**settings, "batch": {"max_records": 100}, "commit_interval": "1ms"}, sort_keys=False)


def shuffled(count: int) -> list[tuple[str, int, int]]:
    """Some come later than they may."""
    chance = random.Random(3)
    events = []
    for number in range(count):
        late = chance.randrange(200) if chance.random() < 0.05 else chance.randrange(DISORDER)
        events.append((f"k{chance.randrange(12)}", 1_000_000 + max(0, number * 2 - late), chance.randrange(100)))
    return events


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("faults", ["", "before_commit:kill9:0.1,after_commit:kill9:0.1,after_changelog:kill9:0.05"])
def test_windows_are_the_same_whatever_is_killed(faults, tmp_path):
    events = shuffled(3000)
    rows = [json.dumps({"k": key, "t": time, "v": value}) for key, time, value in events]
    (tmp_path / "in.ndjson").write_text("\n".join(rows) + "\n")
    (tmp_path / "p.yaml").write_text(pipeline())
    log = tmp_path / "faults"
    ended = streamd(
        *("run", "p.yaml", "--config", service_file(tmp_path, "windows"), "--until-idle"),
        env={"STREAMD_FAULT": faults, "STREAMD_FAULT_SEED": "5", "STREAMD_FAULT_LOG": str(log)} if faults else {},
        folder=tmp_path,
    )
    assert ended.code == 0, ended.all
    assert not faults or log.read_text().count("kill9") > 2
    for name, kind in KINDS.items():
        config = WindowConfig.model_validate({"by": "k", "aggregate": AGGREGATES, **kind})
        final, early, late = answer(spec_of(config), events, DISORDER)
        found = lines(tmp_path / f"{name}.ndjson")
        assert [row for row in found if row.pop("window_final", True)] == final, name
        assert [row for row in lines(tmp_path / f"{name}.ndjson") if row.pop("window_final", True) is False] == early
        if name == "tumbling":
            kept = [row["record"]["value"] for row in lines(tmp_path / "late.ndjson")]
            assert [(row["k"], row["t"], row["v"]) for row in kept] == late
            assert late

"""`validate` with a unique key and scores over several partitions and two exchanges, its workers killed again and again
around their checkpoints.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from demo.quality_oracle import counts_of, judged
from services.command import service_file, streamd

WITHIN, WINDOW, DISORDER = 60, 200, 40
PIPELINE = f"""
name: judged
source: {{file: {{path: in.ndjson, event_time: {{field: t, out_of_order: {DISORDER}ms}}}}}}
stages:
- key_by: {{by: shard, partitions: 3}}
- id: checked
  validate:
    rules:
    - {{name: unique, unique: k, within: {WITHIN}ms, action: drop}}
    - {{name: low, field: v, range: [null, 89], action: dead_letter}}
    - {{name: odd, check: v % 2 == 1, severity: info, action: tag}}
    score: {{window: {WINDOW}ms}}
sinks:
- {{from: checked.records, file: {{path: "out-{{partition}}.ndjson"}}}}
- {{from: checked.scores, file: {{path: scores.ndjson}}}}
on_error: {{dead_letter: {{log: {{topic: dead}}}}}}
batch: {{max_records: 100}}
commit_interval: 1ms
"""


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("faults", ["", "before_commit:kill9:0.1,after_commit:kill9:0.1,after_changelog:kill9:0.05"])
def test_what_is_found_is_the_same_whatever_is_killed(faults, tmp_path):
    chance = random.Random(7)
    events = [
        (f"k{chance.randrange(12)}", 1_000_000 + 4 * n - chance.randrange(DISORDER), chance.randrange(100))
        for n in range(1, 2000)
    ]
    rows = [json.dumps({"k": k, "t": t, "v": v, "shard": int(k[1:]) % 5}) for k, t, v in events]
    (tmp_path / "in.ndjson").write_text("\n".join(rows) + "\n")
    (tmp_path / "p.yaml").write_text(PIPELINE)
    log = tmp_path / "faults"
    ended = streamd(
        *("run", "p.yaml", "--config", service_file(tmp_path, "judged"), "--until-idle"),
        env={"STREAMD_FAULT": faults, "STREAMD_FAULT_SEED": "5", "STREAMD_FAULT_LOG": str(log)} if faults else {},
        folder=tmp_path,
    )
    assert ended.code == 0, ended.all
    assert not faults or log.read_text().count("kill9") > 2
    found, windows = judged(events, WITHIN, WINDOW, DISORDER)
    assert any("unique" in names for _, names in found)
    out = [row for path in tmp_path.glob("out-*.ndjson") for row in lines(path)]
    expected = [(k, t, v) for (k, t, v), names in found if names in ([], ["odd"])]
    assert sorted((row["k"], row["t"], row["v"]) for row in out) == sorted(expected)
    assert counts_of(lines(tmp_path / "scores.ndjson")) == windows

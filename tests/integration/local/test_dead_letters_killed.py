"""A replay of dead letters on the embedded log, killed at each point of its checkpoints, again and again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from demo.embedded_topics import EmbeddedTopics
from services.command import service_file, streamd

FEED = """\
name: feed
source: {generate: {count: 80, rate: 100000, fields: {n: _offset}}}
sink: {log: {topic: orders, partitions: 2, key: n}}
"""
# Those that are replayed succeed, but for every third, which fails again.
PIPELINE = """\
name: spend
source: {log: {topic: orders, partitions: 2}}
stages:
  - filter: n / CONDITION >= 0
sink: {log: {topic: out}}
on_error: {dead_letter: {log: {topic: broken, partitions: 2}}}
batch: {max_records: 4}
commit_interval: 1ms
"""
POINTS = ("in_open", "after_produce", "after_changelog", "after_flush", "after_positions", "before_commit",
          "commit_sent", "after_commit")  # fmt: skip
# So often at each passing: most of the first runs are killed, and a later one comes through.
CHANCES = (0.5, 0.5, 0.5, 0.4, 0.4)
RUNS = 60


@pytest.mark.parametrize("point", POINTS)
def test_no_letter_is_lost_or_twice(point: str, tmp_path: Path) -> None:
    service = service_file(tmp_path, "letters", workers="1")
    (tmp_path / "feed.yaml").write_text(FEED)
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(PIPELINE.replace("CONDITION", "0"))
    ended = streamd("run", "feed.yaml", pipeline, "-c", service, "--until-idle", folder=tmp_path)
    assert ended.code == 0, ended.all
    pipeline.write_text(PIPELINE.replace("CONDITION", "(n % 3)"))
    faults = tmp_path / "faults"
    for run, chance in enumerate((*CHANCES, *[0.15] * RUNS)):
        env = {
            "STREAMD_FAULT": f"{point}:kill9:{chance}",
            "STREAMD_FAULT_SEED": str(run + 2),
            "STREAMD_FAULT_LOG": str(faults),
        }
        # What failed again is left to another day, or the next run would take it as well.
        ended = streamd("dlq", "replay", pipeline, "-c", service, "--max-attempts", "1", env=env, folder=tmp_path)
        if faults.exists():  # not when all was committed, and the kill came behind that
            faults.replace(tmp_path / f"faults-{run}")
        if ended.code == 0:
            break
        assert ended.code == -9, ended.all
    assert ended.code == 0, "it never came through"
    killed = sum(path.read_text().count(f"{point} kill9") for path in tmp_path.glob("faults-*"))
    assert killed > 0
    topics = EmbeddedTopics(tmp_path / "state", "letters")
    assert Counter(value["n"] for value in topics.values("out")) == Counter(n for n in range(80) if n % 3)
    again = Counter(value["n"] for value in topics.values("broken")) - Counter(range(80))
    assert again == Counter(range(0, 80, 3)), "what failed again is there once more"
    [listed] = json.loads(streamd("dlq", "ls", pipeline, "-c", service, "--json", folder=tmp_path).out)
    assert (listed["replayed"], listed["open"]) == (80, 27)

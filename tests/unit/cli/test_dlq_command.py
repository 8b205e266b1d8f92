"""`streamd dlq` on the embedded log: what is kept, what goes through again, and that it does so once."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from demo.command_line import Cli
from demo.embedded_topics import EmbeddedTopics
from streamd.record import Row

SERVICE = "app: shop\nhttp: {enabled: false}\nworkers: 1\nlog: {level: warning}\n"
FEED = """\
name: feed
source: {generate: {count: 40, rate: 100000, fields: {n: _offset, user: '["ann", "bob"][_offset % 2]',
  amount: '"free" if _offset % 5 == 0 else _offset'}}}
sink: {log: {topic: orders, partitions: 2, key: user}}
"""
SPEND = """\
name: spend
source: {log: {topic: orders, partitions: 2}}
stages:
  - id: gross
    set: {gross: amount * 2 / 1}
  - id: small
    map: {n: n, gross: gross, user: user}
sink: {log: {topic: out}}
on_error: {dead_letter: {log: {topic: broken, partitions: 2}}}
"""
MENDED = SPEND.replace("amount * 2 / 1", 'amount * 2 if amount != "free" else 0')
BROKEN = set(range(0, 40, 5))


@pytest.fixture
def topics(tmp_path: Path) -> EmbeddedTopics:
    return EmbeddedTopics(tmp_path / ".streamd", "shop")


@pytest.fixture
def mended(spend: Path) -> Path:
    """The pipeline whose records failed, and would not any more."""
    spend.write_text(MENDED)
    return spend


def out(topics: EmbeddedTopics) -> Counter[int]:
    return Counter(value["n"] for value in topics.values("out"))


def good() -> Counter[int]:
    return Counter(set(range(40)) - BROKEN)


def listed(cli: Cli, *arguments: object) -> dict[str, Any]:
    done = cli("dlq", "ls", *arguments, "--json")
    assert done.code == 0, done
    [found] = json.loads(done.out)
    return dict(found)


def test_dead_letters_are_counted(cli: Cli, spend: Path) -> None:
    found = listed(cli, spend)
    assert (found["total"], found["open"], found["replayed"], found["purged"]) == (8, 8, 0, 0)
    [reason] = found["reasons"]
    assert (reason["stage"], reason["phase"], reason["error"]) == ("gross", "transform", "TransformError")
    assert reason["oldest"] <= reason["newest"]
    done = cli("dlq", "ls", spend)
    assert "log broken, sink dead_letter: 8 dead letters, 8 open, 0 replayed, 0 purged" in done.out
    assert listed(cli, "--log", "broken")["total"] == 8
    assert listed(cli, spend, "--where", "n >= 30")["total"] == 2
    assert listed(cli, spend, "--until", "2h ago")["total"] == 0


def test_dead_letters_are_shown(cli: Cli, spend: Path) -> None:
    done = cli("dlq", "show", spend, "--where", "n == 15", "--json")
    [letter] = [json.loads(line) for line in done.out.splitlines()]
    assert letter["value"] == {"n": 15, "user": "bob", "amount": "free"}
    assert (letter["key"], letter["stage"], letter["entry"], letter["topic"]) == ("bob", "gross", "source", "orders")
    done = cli("dlq", "show", spend, "-n", "2")
    assert done.out.count('"amount": "free"') == 2
    assert "and more" in done.err
    assert cli("dlq", "show", spend, "--where", "n == 1").code == 1


def test_a_dry_run_says_what_would_happen_and_does_nothing(cli: Cli, mended: Path, topics: EmbeddedTopics) -> None:
    done = cli("dlq", "replay", mended, "--dry-run")
    assert "8 dead letters would be replayed" in done.out
    assert "8 from source source on, to log out" in done.out
    assert "8 gross: TransformError in transform" in done.out
    assert "such as broken[" in done.out
    assert out(topics) == good()
    assert listed(cli, mended)["open"] == 8


def test_each_is_replayed_once_and_a_part_is_possible(cli: Cli, mended: Path, topics: EmbeddedTopics) -> None:
    done = cli("dlq", "replay", mended, "--where", "n >= 20 and n < 35")
    assert done.out.splitlines()[-1] == "replayed 3"
    assert out(topics) == good() + Counter([20, 25, 30])
    assert (found := listed(cli, mended))["open"] == 5, found
    assert found["replayed"] == 3
    done = cli("dlq", "replay", mended)
    assert "3 are done already" in done.out
    assert done.out.splitlines()[-1] == "replayed 5"
    assert out(topics) == Counter(range(40))
    done = cli("dlq", "replay", mended, "--json")
    assert json.loads(done.out)[0]["letters"] == 0
    assert out(topics) == Counter(range(40))
    [first] = [record for record in topics.records("out") if b'"n":15' in record.value]
    said = dict(first.headers)
    assert said["streamd.replays"] == b"1"
    assert said["streamd.origin"] is not None
    assert said["streamd.origin"].startswith(b"orders/")


def test_one_that_fails_again_says_how_often_and_is_left_alone_at_last(
    cli: Cli, spend: Path, topics: EmbeddedTopics
) -> None:
    origins = set()
    for time in range(1, 4):
        done = cli("dlq", "replay", spend)
        assert done.out.splitlines()[-1] == "replayed 8, of which 8 failed again"
        found = [json.loads(line) for line in cli("dlq", "show", spend, "--json").out.splitlines()]
        assert [letter["replays"] for letter in found] == [time] * 8
        origins.add(tuple(sorted(letter["origin"] for letter in found)))
        assert {letter["value"]["n"] for letter in found} == BROKEN
    assert len(origins) == 1, "the first origin is kept"
    done = cli("dlq", "replay", spend)
    assert "8 stay: replayed too often already (--max-attempts)" in done.out
    assert len(topics.records("broken")) == 32
    done = cli("dlq", "replay", spend, "--max-attempts", "4", "--where", "n == 0")
    assert done.out.splitlines()[-1] == "replayed 1, of which 1 failed again"
    assert out(topics) == good()


def test_a_stage_further_down_is_entered(cli: Cli, spend: Path, topics: EmbeddedTopics) -> None:
    spend.write_text(SPEND.replace("gross: gross, user", "gross: 'get(gross, 0)', user"))
    done = cli("dlq", "replay", spend, "--to-stage", "small")
    assert "8 into stage small" in done.out, done
    assert out(topics) == Counter(range(40))
    assert [value["gross"] for value in topics.values("out") if value["n"] in BROKEN] == [0] * 8
    done = cli("dlq", "replay", spend, "--to-stage", "smal")
    assert "has no stage 'smal'; it has: gross, small" in done.err


STATEFUL = """\
  - id: totals
    aggregate: {by: user, values: {orders: count()}}
sink: {log: {topic: totals}}
"""


def test_state_of_the_running_pipeline_is_not_forked(cli: Cli, spend: Path, topics: EmbeddedTopics) -> None:
    spend.write_text(MENDED.replace("sink: {log: {topic: out}}\n", STATEFUL))
    assert cli("run", spend, "--until-idle").code == 0
    done = cli("dlq", "replay", spend)
    assert done.code == 2
    assert "stage `totals` (aggregate) remembers what came before" in done.err
    assert "--to-source" in done.err
    done = cli("dlq", "replay", spend, "--to-source", "--where", "n > 10")
    assert done.out.splitlines()[-1] == "replayed 5", done
    assert Counter(v["n"] for v in topics.values("orders")) == Counter(range(40)) + Counter([15, 20, 25, 30, 35])
    again = [record for record in topics.records("orders") if dict(record.headers).get("streamd.replays")]
    keys = {record.key: json.loads(record.value)["user"].encode() for record in again}
    assert all(key == user for key, user in keys.items())
    assert listed(cli, spend)["open"] == 3
    assert cli("dlq", "replay", spend, "--to-source", "--to-stage", "gross").code == 2


OWN = """\
def work(batch):
    for record in batch:
        if record.value["n"] == 7:
            raise ValueError
        record.value["seen"] = record.value.get("seen", 0) + 1
    return batch
"""
PYTHON = """\
name: spend
source: {log: {topic: orders, partitions: 2}}
stages:
  - id: own
    python: "letters_own:work"
  - id: behind
    set: {gross: amount * 2 / 1}
  - id: small
    map: {n: n, seen: seen}
sink: {log: {topic: out}}
on_error: {dead_letter: {log: {topic: broken}}}
"""


def test_letters_of_own_code_enter_where_they_were_kept(cli: Cli, write: Any, topics: EmbeddedTopics) -> None:
    write("streamd.yaml", SERVICE)
    write("feed.yaml", FEED)
    write("letters_own.py", OWN)
    pipeline = write("spend.yaml", PYTHON)
    assert cli("run", "feed.yaml", pipeline, "--until-idle").code == 0
    assert listed(cli, pipeline)["total"] == 9
    assert "is not what the source read" in cli("dlq", "replay", pipeline, "--to-source", "--dry-run").out
    write("letters_own.py", OWN.replace("== 7", "== -1"))
    write("spend.yaml", PYTHON.replace("amount * 2 / 1", "1"))
    done = cli("dlq", "replay", pipeline)
    assert "1 into stage own" in done.out, done
    assert "8 from behind stage own on" in done.out
    assert "replayed 9" in done.out
    assert out(topics) == Counter(range(40))
    assert {value["seen"] for value in topics.values("out")} == {1}


def test_purged_letters_are_not_replayed(cli: Cli, mended: Path, topics: EmbeddedTopics) -> None:
    done = cli("dlq", "purge", mended, "--where", "n >= 20")
    assert done.code == 2
    assert "nobody can be asked here, and nothing was purged" in done.err
    assert listed(cli, mended)["purged"] == 0
    done = cli("dlq", "purge", mended, "--where", "n >= 20", "--yes")
    assert "4 dead letters to be purged" in done.out
    assert done.out.splitlines()[-1] == "purged 4"
    assert (found := listed(cli, mended))["open"] == 4, found
    assert cli("dlq", "replay", mended).out.splitlines()[-1] == "replayed 4"
    assert out(topics) == good() + Counter(n for n in BROKEN if n < 20)


FILE = SPEND.replace("{log: {topic: broken, partitions: 2}}", '{file: {path: "dead-{partition}.ndjson"}}')


def test_files_of_dead_letters_are_looked_at_only(cli: Cli, write: Any, tmp_path: Path) -> None:
    write("streamd.yaml", SERVICE)
    write("feed.yaml", FEED)
    pipeline = write("spend.yaml", FILE)
    assert cli("dlq", "ls", pipeline).out.startswith("file dead-{partition}.ndjson: nothing there")
    assert cli("run", "feed.yaml", pipeline, "--until-idle").code == 0
    assert listed(cli, pipeline)["total"] == 8
    assert cli("dlq", "show", pipeline, "--where", "n == 5").code == 0
    assert "can be looked at, and not replayed" in cli("dlq", "replay", pipeline).err
    assert "are not marked" in cli("dlq", "purge", pipeline, "--yes").err
    [name] = [path.name for path in tmp_path.glob("dead-*.ndjson") if b'"n":5,' in path.read_bytes()]
    assert listed(cli, "--file", name, "--where", "n == 5")["total"] == 1


def test_what_streamd_has_not_written_stays(cli: Cli, mended: Path, topics: EmbeddedTopics) -> None:
    said = tuple((header, value) for header, value in topics.records("broken")[0].headers)
    other = tuple((name, b"other" if name == "streamd.pipeline" else value) for name, value in said)
    corrupt = tuple((name, b"\xff\xfe" if name == "streamd.time" else value) for name, value in said)
    gone = tuple((name, b"gone" if name in ("streamd.stage", "streamd.entry") else value) for name, value in said)
    rows = [Row(None, b"\x00\xff", 0, ()), Row(None, b"{}", 0, other), Row(b"k", None, 0, corrupt)]
    huge = json.dumps({"n": 100, "amount": 1, "user": "ann", "text": "x" * 5_000_000}).encode()
    topics.append("broken", [*rows, Row(None, b'{"n": 1}', 0, gone), Row(None, huge, 0, said)])
    found = listed(cli, mended)
    assert (found["total"], found["no_letters"], found["other_pipelines"]) == (10, 2, {"other": 1})
    done = cli("dlq", "replay", mended)
    assert "1 stay: the pipeline has no gone any more" in done.out
    assert done.out.splitlines()[-1] == "replayed 9"
    assert out(topics) == Counter(range(40)) + Counter([100])
    assert cli("dlq", "show", "--log", "broken", "--done", "-n", "100").code == 0
    done = cli("dlq", "purge", mended, "--yes")
    assert done.out.splitlines()[-1] == "purged 1"
    assert len(topics.records("broken")) > 0, "what is not ours stays"


def test_there_is_nothing(cli: Cli, spend: Path, topics: EmbeddedTopics) -> None:
    spend.write_text(SPEND.replace("topic: broken", "topic: never"))
    for command in ("ls", "replay", "purge"):
        done = cli("dlq", command, spend)
        assert done.code == 0, done
        assert "log never: nothing there" in done.out
    topics.append("empty", [])
    spend.write_text(SPEND.replace("topic: broken, partitions: 2", "topic: empty"))
    assert "no dead letters" in cli("dlq", "ls", spend).out
    assert "0 dead letters to be replayed" in cli("dlq", "replay", spend).out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("sink: {log: {topic: out}}", "sink: {file: {path: out.ndjson}}"), "which the running pipeline cuts off"),
        (("gross: amount * 2 / 1", "gross: _partition"), "reads `_partition`"),
        (("{log: {topic: broken, partitions: 2}}", "stdout"), "no dead-letter sink that can be read"),
        (("on_error: {dead_letter: {log: {topic: broken, partitions: 2}}}", ""), "it has: none"),
    ],
)
def test_what_cannot_be_right_is_refused(cli: Cli, spend: Path, changed: tuple[str, str], said: str) -> None:
    spend.write_text(SPEND.replace(*changed))
    done = cli("dlq", "replay", spend)
    assert done.code == 2, done
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls",), "expected one of PIPELINE, --topic, --log and --file"),
        (("ls", "--log", "a", "--file", "b"), "expected one of PIPELINE"),
        (("ls", "--topic", "a"), "no Kafka cluster is named"),
        (("show", "--log", "broken", "--where", "n >"), "--where: "),
        (("show", "--log", "broken", "--since", "soon"), "--since: expected a time"),
        (("show", "spend.yaml", "--sink", "else"), "no dead-letter sink named else"),
        (("ls", "--log", "nowhere"), "nothing there"),
    ],
)
def test_what_is_asked_wrongly_is_said(cli: Cli, spend: Path, arguments: tuple[str, ...], said: str) -> None:
    done = cli("dlq", *arguments)
    assert said in done.err + done.out


def test_of_two_at_once_one_is_refused(cli: Cli, mended: Path, tmp_path: Path, topics: EmbeddedTopics) -> None:
    with (tmp_path / ".streamd/shop/dlq.broken.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cli("dlq", "replay", mended)
        assert done.code == 1
        assert "already runs on this state_dir" in done.err
    assert out(topics) == good()
    assert cli("dlq", "replay", mended).out.splitlines()[-1] == "replayed 8"

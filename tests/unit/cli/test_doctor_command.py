"""`streamd doctor` on this machine alone, and what it makes of facts that no test broker shows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from demo.command_line import Cli, Write
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.transport.embedded.database import connect
from streamd.transport.kafka.doctor import judge_nodes
from streamd.transport.kafka.inspect_protocol import by_topic, names_of
from streamd.transport.kafka.inspection import Node, Probe

LOCAL = "name: local\nsource: {log: {topic: a}}\nsink: {log: {topic: b}}\n"


def findings(out: str, level: str) -> dict[str, str]:
    return {one["check"]: one["seen"] for one in json.loads(out)["findings"] if one["level"] == level}


def test_a_machine_that_is_fit(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write("p.yaml", LOCAL)
    done = cli("doctor", path, "--json")
    assert done.code == 0, done
    assert set(findings(done.out, "ok")) >= {"python", "open files", "state_dir", "embedded log"}
    assert findings(done.out, "ok")["embedded log"] == "does not exist yet"
    assert not (tmp_path / ".streamd").exists(), "it makes nothing"


def test_an_embedded_log_is_read_through(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write("p.yaml", LOCAL)
    file = tmp_path / ".streamd" / "shop" / "shop.db"
    file.parent.mkdir(parents=True)
    with closing(connect(file)) as connection:
        connection.executemany("INSERT INTO blob (data) VALUES (?)", [(b"x" * 3000,)] * 50)
    assert findings(cli("doctor", path, "--app", "shop", "--json").out, "ok")["embedded log"] == "no damage"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(file.read_bytes())
    data[20_000:60_000] = b"\x55" * 40_000
    file.write_bytes(data)
    done = cli("doctor", path, "--app", "shop", "--json")
    assert done.code == 1
    assert "no damage" not in findings(done.out, "problem")["embedded log"]


def test_people_get_a_line_for_each_and_the_count(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write("p.yaml", LOCAL)
    (tmp_path / ".streamd").write_text("in the way")
    done = cli("doctor", path)
    assert done.code == 1
    assert any(line.startswith("PROBLEM  state_dir") for line in done.out.splitlines())
    assert done.out.splitlines()[-1].startswith("1 problem, ")


def test_mistakes_in_pipelines_are_shown_as_anywhere(cli: Cli, write: Write) -> None:
    assert cli("doctor", write("p.yaml", "name: p\nsource: {lgo: {topic: a}}\nsink: stdout\n")).code == 2
    assert cli("doctor", "--yes").code == 2


@pytest.mark.parametrize("app", ["bad app!", "", "-x" * 60])
def test_a_name_that_no_app_can_have_is_a_mistake_of_the_command_line(cli: Cli, app: str) -> None:
    done = cli("doctor", f"--app={app}")
    assert done.code == 2
    assert "Invalid value for --app: expected a letter or digit" in done.err
    assert "ValidationError" not in done.err


def test_nothing_is_ended_where_nothing_may_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking is allowed: what is wrong is one of the findings."""
    for module in ("streamd.runtime.environment", "streamd.cli.doctor_here"):
        monkeypatch.setattr(f"{module}.installed_aiokafka", lambda: "0.1.0")
    done = cli("doctor", "--abort")
    assert done.code == 2
    assert "aiokafka 0.1.0 is installed" in done.err
    looked = cli("doctor", "--json")
    assert (looked.code, findings(looked.out, "problem")["python"]) == (1, "0.1.0")


def test_a_broker_that_is_too_old_is_told_by_what_it_lacks() -> None:
    modern = {0: (0, 9), 1: (0, 11), 9: (0, 7), 22: (0, 3), 24: (0, 2), 25: (0, 2), 26: (0, 2), 28: (0, 3)}
    [old] = judge_nodes([Node(1, "kafka", 9092, {**modern, 28: (0, 2)})])
    assert (old.level, old.seen) == ("problem", "does not speak TxnOffsetCommit v3")
    fit, features = judge_nodes([Node(1, "kafka", 9092, modern)])
    assert (fit.level, fit.seen) == ("ok", "Kafka 2.5 or newer")
    assert features.level == "warning"
    assert "ListTransactions" in features.seen
    [gone] = judge_nodes([Node(2, "kafka", 9092, refused="no answer")])
    assert (gone.check, gone.level) == ("broker", "problem")


def test_authorized_operations_by_their_bits() -> None:
    assert names_of((1 << 3) | (1 << 8)) == {"Read", "Describe"}
    assert names_of(-(1 << 31)) == set()


def test_partitions_by_topic() -> None:
    assert by_topic([("b", 1), ("a", 2), ("b", 0)]) == [("a", [2]), ("b", [0, 1])]


def test_a_probe_is_not_taken_for_a_task() -> None:
    assert Probe.owns("shop", "streamd.shop.doctor.3")
    assert not Probe.owns("shop", "streamd.shop.doctor.0.3"), "a pipeline may be named doctor"
    assert not Probe.owns("s.op", "streamd.shop.doctor.3")


def test_what_pipelines_ask_of_a_cluster(tmp_path: Path) -> None:
    from streamd.cli.kafka_uses import kafka_uses

    service = ServiceConfig(app="shop")

    def plan(text: str):
        return build_plan(load_pipeline_text(text, tmp_path / "p.yaml", Registry.default(), {}, service))

    copy = plan(
        "name: copy\nkafka: {bootstrap: 'kafka:9092'}\ncommit_interval: 3s\n"
        "source: {kafka: {topic: orders, group: mine, partitioned_by: user, start: {timestamp: 1000}}}\n"
        "stages:\n  - aggregate: {by: user, values: {seen: count()}}\nsink: {kafka: {topic: out}}\n"
    )
    feed = plan(
        "name: feed\nkafka: {bootstrap: 'kafka:9092'}\nsource: {generate: {fields: {n: _offset}}}\n"
        "sink: {kafka: {topic: orders}}\n"
    )
    [use] = kafka_uses([copy, feed], service)
    assert use.groups == {"copy": "mine"}
    assert use.timeouts == {"copy": 30.0, "feed": 10.0}
    assert {name: set(one.roles) for name, one in use.topics.items()} == {
        "orders": {"input", "output"},
        "out": {"output"},
        "streamd.shop.copy.aggregate.changelog": {"changelog"},
        "streamd.shop.feed.positions": {"positions"},
    }
    assert use.topics["orders"].start_ms == 1000
    assert use.topics["orders"].reach == 0.0
    assert use.topics["streamd.shop.copy.aggregate.changelog"].together == ("orders",)
    [use] = kafka_uses(
        [
            plan(
                "name: late\nkafka: {bootstrap: 'kafka:9092'}\nsource: {kafka: {topic: a, partitioned_by: user}}\n"
                "stages: [window: {by: user, tumbling: 1h, grace: 5m, aggregate: {n: count()}}]\nsink: discard\n"
            )
        ],
        service,
    )
    assert use.topics["a"].reach == 3900.0
    elsewhere = plan("name: far\nkafka: {bootstrap: 'far:9092'}\nsource: {kafka: {topic: a}}\nsink: discard\n")
    assert len(kafka_uses([copy, elsewhere], service)) == 2


def test_a_log_that_cannot_be_read_is_a_finding(cli: Cli, write: Write, tmp_path: Path) -> None:
    """Also where its topics are to be looked at."""
    write("streamd.yaml", "app: shop\nstate_dir: state\n")
    write("p.yaml", "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n")
    (tmp_path / "state" / "shop").mkdir(parents=True)
    (tmp_path / "state" / "shop" / "shop.db").write_bytes(b"no database" * 1000)
    done = cli("doctor", "p.yaml", "--config", "streamd.yaml")
    assert done.code == 1
    assert "PROBLEM  embedded log" in done.out

"""`streamd state` on the embedded log: it shows what is committed, and a reset pipeline begins anew."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

from demo.command_line import Cli, Write
from streamd.transport.embedded import lock

SERVICE = "app: shop\nhttp: {enabled: false}\nworkers: 1\nlog: {level: warning}\n"
FEED = """\
name: feed
source: {generate: {count: 60, rate: 100000, fields: {user: '["ann", "bob", "7"][_offset % 3]'}}}
sink: {log: {topic: orders, partitions: 2, key: user}}
"""
SPEND = """\
name: spend
source: {log: {topic: orders, partitions: 2, partitioned_by: user}}
stages:
  - {id: totals, aggregate: {by: user, values: {orders: count()}}}
  - {id: pairs, aggregate: {by: {who: user, even: orders % 2 == 0}, values: {times: count()}}}
sink: {file: {path: "out-{partition}.ndjson"}}
"""


def entries(cli: Cli, *arguments: object) -> dict[str, object]:
    """{key as JSON: value} of what is exported."""
    done = cli("state", "export", *arguments)
    assert done.code == 0, done
    found = [json.loads(line) for line in done.out.splitlines()]
    return {json.dumps(one["key"]): one["value"] for one in found}


def test_a_pipeline_that_never_ran_remembers_nothing(cli: Cli, write: Write, tmp_path: Path) -> None:
    file = write("spend.yaml", SPEND)
    assert "remembers nothing" in cli("state", "ls", file).out
    assert cli("state", "show", file, "totals").code == 1
    done = cli("state", "reset", file, "--yes")
    assert (done.code, done.out) == (0, "spend, app streamd: there is nothing to delete\n")
    assert not (tmp_path / ".streamd").exists(), "it makes nothing"


def test_what_there_is(cli: Cli, spend: Path) -> None:
    stores = json.loads(cli("state", "ls", spend, "--json").out)
    assert {(one["stage"], one["partition"]) for one in stores} == {(s, p) for s in ("pairs", "totals") for p in (0, 1)}
    totals = [one for one in stores if one["stage"] == "totals"]
    assert sum(one["tables"].get("values", {"keys": 0})["keys"] for one in totals) == 3
    assert all(one["checkpoint"] >= 1 and one["in_pipeline"] and one["part"] == 0 for one in stores)
    assert max(one["changed_at"] or 0 for one in stores) > 1_600_000_000_000
    lines = cli("state", "ls", spend).out.splitlines()
    assert lines[0] == "spend, app shop"
    assert lines[1].split()[:5] == ["stage", "table", "task", "keys", "size"]
    assert "s ago" in lines[2]


def test_a_key_is_shown_with_its_value(cli: Cli, spend: Path) -> None:
    lines = cli("state", "show", spend, "totals", "ann").out.splitlines()
    assert lines[0].split() == ["task", "table", "key", "value"]
    assert lines[1].split()[1:] == ["values", "ann", "[20]"]
    shown = json.loads(cli("state", "show", spend, "totals", "7", "--json").out)
    assert [(one["key"], one["value"]) for one in shown] == [("7", [20])]
    assert json.loads(cli("state", "show", spend, "pairs", '["ann", true]', "--json").out)[0]["value"] == [10]


def test_the_first_keys_and_those_of_a_prefix(cli: Cli, spend: Path) -> None:
    done = cli("state", "show", spend, "totals", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert "and more" in done.err
    done = cli("state", "show", spend, "pairs", "--prefix", '["b')
    assert [line.split()[2] for line in done.out.splitlines()[1:]] == ['["bob",false]', '["bob",true]']
    done = cli("state", "show", spend, "totals", "--prefix", "zoe")
    assert (done.code, done.out, done.err) == (1, "", "stage totals of spend remembers nothing of that\n")
    assert cli("state", "show", spend, "totals", "--table", "nix").code == 1


def test_export_to_a_file(cli: Cli, spend: Path, tmp_path: Path) -> None:
    done = cli("state", "export", spend, "totals", "--out", "t.ndjson")
    assert (done.code, done.out, done.err) == (0, "", "3 keys\n")
    assert len((tmp_path / "t.ndjson").read_text().splitlines()) == 3
    assert entries(cli, spend, "totals") == {'"ann"': [20], '"bob"': [20], '"7"': [20]}
    done = cli("state", "export", spend, "totals", "--out", "nowhere/t.ndjson")
    assert done.code == 2
    assert "cannot write nowhere/t.ndjson" in done.err


def test_a_stage_that_remembers_nothing_is_refused(cli: Cli, spend: Path) -> None:
    done = cli("state", "show", spend, "nix")
    assert done.code == 2
    assert "has no stage 'nix' that remembers anything; it has: pairs, totals" in done.err
    assert cli("state", "reset", spend, "nix", "--yes").code == 2


def test_nothing_is_deleted_unasked(cli: Cli, spend: Path) -> None:
    done = cli("state", "reset", spend)
    assert done.code == 2
    assert "of stage totals, task shop.spend.0.0" in done.out
    assert "of task shop.spend.0.0: source[0] " in done.out
    assert "nothing was deleted; say --yes" in done.err
    assert len(entries(cli, spend, "totals")) == 3


def test_a_pipeline_that_is_reset_begins_anew(cli: Cli, spend: Path) -> None:
    assert cli("state", "reset", spend, "--yes").out.splitlines()[-1] == "deleted"
    assert entries(cli, spend, "totals") == {}
    done = cli("run", spend, "--until-idle")
    assert "60 records processed" in done.err
    assert set(map(str, entries(cli, spend, "totals").values())) == {"[20]"}


def test_a_stage_that_is_reset_forgets_and_the_pipeline_goes_on(cli: Cli, spend: Path) -> None:
    assert cli("state", "reset", spend, "totals", "--yes").code == 0
    pairs = entries(cli, spend, "pairs")
    assert entries(cli, spend, "totals") == {}
    assert pairs
    feed = spend.with_name("feed.yaml")
    assert cli("state", "reset", feed, "--yes").code == 0
    done = cli("run", feed, spend, "--until-idle")
    assert "120 records processed" in done.err, "60 made, and only these 60 read"
    assert entries(cli, spend, "totals") == {'"ann"': [20], '"bob"': [20], '"7"': [20]}


def test_the_error_of_a_changelog_names_the_way_out(cli: Cli, spend: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / ".streamd" / "shop" / "shop.db") as connection:
        connection.execute("DELETE FROM changelog WHERE store='totals'")
    connection.close()
    done = cli("run", spend, "--until-idle")
    assert done.code == 1
    assert "with `streamd state reset`" in done.err
    assert cli("state", "reset", spend, "--yes").code == 0
    assert cli("run", spend, "--until-idle").code == 0


def test_a_running_pipeline_is_left_alone(cli: Cli, spend: Path, tmp_path: Path) -> None:
    path = lock.lock_path(tmp_path / ".streamd" / "shop", "spend")
    asyncio.run(lock.hold(path, "spend"))
    held = lock._held.pop(path)  # as another process would have it
    try:
        done = cli("state", "reset", spend, "--yes")
    finally:
        lock._held[path] = held
        lock.let_go(path)
    assert done.code == 1
    assert "Pipeline spend runs: host " in done.err
    assert "Nothing was deleted; stop it first." in done.err
    assert len(entries(cli, spend, "totals")) == 3

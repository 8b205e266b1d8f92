"""`streamd replay` on the embedded log: a fresh run over past input, of which the live app notices nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.command_line import Cli, Write
from streamd.errors import ConfigError
from streamd.replay.span import Point, check_partitions, counted, offset_in, read_offsets, spans

SERVICE = "app: shop\nhttp: {enabled: false}\nworkers: 1\nlog: {level: warning}\n"
FEED = """\
name: feed
source: {generate: {count: 40, rate: 100000, fields: {user: '["ann", "bob"][_offset % 2]', n: _offset}}}
sink: {log: {topic: orders, partitions: 2, key: user}}
"""
SPEND = """\
name: spend
source: {log: {topic: orders, partitions: 2, partitioned_by: user}}
stages:
  - {id: totals, aggregate: {by: user, values: {orders: count(), last: last(n)}}}
sink: {file: {path: "out-{partition}.ndjson"}}
"""


def lines(folder: Path, prefix: str = "") -> list[str]:
    """All output lines, sorted."""
    return sorted(line for file in folder.glob(f"{prefix}out-*.ndjson") for line in file.read_text().splitlines())


def test_a_replay_of_everything_gives_the_same_again(cli: Cli, spend: Path, tmp_path: Path) -> None:
    before, live = lines(tmp_path), cli("state", "export", spend, "totals").out
    done = cli("replay", spend, "--from", "earliest")
    assert done.code == 0, done
    assert lines(tmp_path, "shop-replay.") == before == lines(tmp_path)
    assert "40 records processed" in done.err
    assert "streamd state reset" in done.err.splitlines()[-1]
    assert cli("state", "export", spend, "totals").out == live
    assert cli("state", "export", spend, "totals", "--app", "shop-replay").out == live
    again = cli("replay", spend, "--from", "earliest")
    assert again.code == 2
    assert "has positions or state of pipeline spend already" in again.err
    assert cli("state", "reset", spend, "--app", "shop-replay", "--yes").code == 0
    again = cli("replay", spend, "--from", "earliest")
    assert again.code == 2
    assert "shop-replay.out-0.ndjson is there already" in again.err
    assert cli("state", "export", spend, "totals").out == live, "the live app is as it was"


def test_offsets_are_kept_and_ends_held(cli: Cli, spend: Path, tmp_path: Path) -> None:
    spend.write_text(SPEND.replace("count(), last: last(n)", "count(), at: last(_offset), of: last(_partition)"))
    done = cli("replay", spend, "--from", "0:0,1:0", "--app", "all")
    assert done.code == 0, done
    everything = [json.loads(line) for line in lines(tmp_path, "all.")]
    partition = everything[0]["of"]
    done = cli("replay", spend, "--from", f"{partition}:5", "--until", f"{partition}:8", "--app", "some")
    assert done.code == 0, done
    assert f"[{partition}] 5 to 8" in done.err
    assert sorted(json.loads(line)["at"] for line in lines(tmp_path, "some.")) == [5, 6, 7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--from", "sometimes"),
            "--from: expected earliest, offsets like 120 or 0:120,1:98, or a time, like 2026-01-31T12:00:00Z or ",
        ),
        (("--from", "999"), "holds offsets 0 to"),
        (("--from", "1h ago", "--until", "2h ago"), "--until 2h ago lies before --from 1h ago"),
        (("--from", "0:5", "--until", "0:4"), "--until 0:4 lies before --from 0:5"),
        (("--from", "7:1"), "orders has 2 partitions, there is no partition 7"),
        (("--from", "0:1,0:2"), "partition 0 is there twice"),
        (("--from", "earliest", "--app", "shop"), "shop is the live app, whose positions a replay must not touch"),
        (("--from", "earliest", "--app", "a b"), "expected a letter or digit"),
        (("--from", "earliest", "--prefix", ""), "which the live pipeline cuts off behind its own records"),
    ],
)
def test_what_cannot_be_replayed_is_said(cli: Cli, spend: Path, arguments: tuple[str, ...], said: str) -> None:
    done = cli("replay", spend, *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_time_is_of_records(cli: Cli, spend: Path, tmp_path: Path) -> None:
    done = cli("replay", spend, "--from", "1h ago", "--until", "now")
    assert done.code == 0, done
    assert lines(tmp_path, "shop-replay.") == lines(tmp_path)
    done = cli("replay", spend, "--from", "2000-01-01", "--until", "2001-01-01T00:00:00+01:00", "--app", "old")
    assert "(0 offsets)" in done.err
    assert done.code == 0


def test_what_comes_once_cannot_be_read_again(cli: Cli, spend: Path) -> None:
    spend.write_text("name: once\nsource: stdin\nsink: stdout\n")
    done = cli("replay", spend, "--from", "earliest")
    assert done.code == 2
    assert "source `source` (stdin) keeps nothing that could be read again" in done.err


def test_offsets_as_they_are_written() -> None:
    assert read_offsets("120", "--from") == {None: 120}
    assert read_offsets(" 0:120, 2:98 ", "--from") == {0: 120, 2: 98}
    assert read_offsets("2026-01-31", "--from") is None
    assert read_offsets("2h ago", "--from") is None


def test_spans_of_partitions() -> None:
    point = Point(offsets={0: 5})
    check_partitions(point, 2, "orders", "--from")
    known = {0: (3, 9), 1: (0, 4)}
    begins = {p: offset_in(point, p, *known[p], "orders", "--from") for p in known}
    assert begins == {0: 5, 1: None}, "of a partition that is not named nothing is read"
    assert spans(begins, dict.fromkeys(known), known) == {0: (5, 9), 1: (4, 4)}
    assert spans({0: 5, 1: 0}, {0: 4, 1: 2}, known) == {0: (5, 5), 1: (0, 2)}
    assert counted({0: (5, 9), 1: (4, 4)}) == 4
    with pytest.raises(ConfigError, match=r"--until: orders\[0\] holds offsets 3 to 9, not 2"):
        offset_in(Point(offsets={None: 2}), 0, 3, 9, "orders", "--until")


def test_a_table_is_whole_in_a_replay_of_a_part(cli: Cli, write: Write, tmp_path: Path) -> None:
    """The span is of the stream; rows are there from the beginning."""
    write("streamd.yaml", SERVICE)
    write("users.yaml", "name: users\nsource: {generate: {count: 2, fields: {id: _offset, n: _offset}}}\n"
          "sink: {log: {topic: users}}\n")  # fmt: skip
    write("feed.yaml", "name: feed\nsource: {generate: {count: 6, fields: {user: _offset % 2}}}\n"
          "sink: {log: {topic: orders}}\n")  # fmt: skip
    lookup = write("lookup.yaml", "name: lookup\nsources: {in: {log: {topic: orders}}, users: {log: {topic: users}, "
                   'table: {key: id}}}\nstages: [{enrich: {table: users, key: user, as: u}}]\n'
                   'sink: {file: {path: "out-{partition}.ndjson"}}\n')  # fmt: skip
    for name in ("users.yaml", "feed.yaml", lookup):
        assert cli("run", name, "--until-idle").code == 0
    assert len(lines(tmp_path)) == 6
    done = cli("replay", lookup, "--from", "4")
    assert done.code == 0, done
    assert [json.loads(line)["u"]["n"] for line in lines(tmp_path, "shop-replay.")] == [0, 1]

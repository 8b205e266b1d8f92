"""`streamd explain` of stages that keep something: what, for how long, where, and what grows without bound."""

from __future__ import annotations

import pytest

from demo.command_line import Cli, Write

LOG = "name: p\nsource: {log: {topic: in, event_time: {field: t}}}\nsink: {log: {topic: out}}\n"
KAFKA = LOG.replace("log:", "kafka:") + "kafka: {bootstrap: 'kafka:9092'}\n"
WINDOW = "stages: [window: {by: user, %s, aggregate: {n: %s}}]\n"


def test_what_is_kept_for_how_long_and_where(cli: Cli, write: Write) -> None:
    """Each stage in its own words, and its changelog."""
    write("log.yaml", LOG + WINDOW % ("tumbling: 10s, grace: 5s", "count()"))
    write("kafka.yaml", KAFKA + WINDOW % ("session: {gap: 30m}", "count()"))

    log, kafka = (cli("explain", f"{name}.yaml").out for name in ("log", "kafka"))

    assert "topic in  time of t in ms\n" in log
    assert "stage  window  [keyed]" in log
    assert "windows of 10 s that are not over, and 5 s of grace; the embedded log's changelog]" in log
    assert "for 30 m after its last record; topic streamd.streamd.p.window.changelog]" in kafka
    assert "warning" not in log + kafka


@pytest.mark.parametrize(
    ("stages", "warning"),
    [
        (
            WINDOW % ("tumbling: 1h", "count_distinct(page)"),
            "window: per key without bound: `n` has one entry for each",
        ),
        (WINDOW % ("global: true, emit: {every: 1s}", "count()"), "window: `global` windows close by no time"),
        (WINDOW % ("count: 100", "count()"), "window: `count` windows close by no time"),
        ("stages: [aggregate: {by: user, values: {n: count_distinct(page)}}]\n", "aggregate: per key without bound"),
        (
            "stages: [join: {left: source, right: source, on: user, fields: {u: left.user}}]\n",
            "join: each record of both inputs is kept for ever; `within` or `keep` would bound that",
        ),
    ],
)
def test_what_grows_without_bound_is_warned_of(cli: Cli, write: Write, stages: str, warning: str) -> None:
    """And what would bound it, where something does."""
    write("p.yaml", LOG + stages)

    assert f"\n  warning    {warning}" in cli("explain", "p.yaml").out


@pytest.mark.parametrize(
    "stages",
    [
        WINDOW % ("tumbling: 1h", "approx_count_distinct(page)"),
        WINDOW % ("tumbling: 1h", "'collect(page, 10)'"),
        "stages: [aggregate: {by: user, values: {n: count()}}]\n",
        "stages: [join: {left: source, right: source, on: user, within: 1m, fields: {u: left.user}}]\n",
        "stages: [join: {left: source, right: source, on: user, keep: 1d, fields: {u: left.user}}]\n",
    ],
)
def test_what_is_bounded_is_not_warned_of(cli: Cli, write: Write, stages: str) -> None:
    """Keys of an aggregate are what is asked for."""
    write("p.yaml", LOG + stages)

    outcome = cli("explain", "p.yaml")

    assert outcome.code == 0, outcome.err
    assert "warning" not in outcome.out


def test_the_code_of_keyed_stages(cli: Cli, write: Write) -> None:
    """What a stage has generated, besides the chains."""
    write("p.yaml", LOG + WINDOW % ("tumbling: 10s", "sum(amount)"))

    plain, code = cli("explain", "p.yaml").out, cli("explain", "p.yaml", "--code").out

    assert "def " not in plain
    assert "def process(" in code.partition("\n# state of window\n")[2]


def test_how_a_source_follows_time(cli: Cli, write: Write) -> None:
    """Where the times are from, in which unit, and what windows wait for."""
    write("event.yaml", LOG.replace("field: t", "field: ts * 1000, out_of_order: 5s, idle: 30s"))
    write("clock.yaml", LOG.replace("field: t", "clock: processing"))

    event, clock = (cli("explain", f"{name}.yaml").out for name in ("event", "clock"))

    assert "time of ts * 1000 in ms, up to 5 s out of order, left out when quiet for 30 s\n" in event
    assert "time of the processing\n" in clock

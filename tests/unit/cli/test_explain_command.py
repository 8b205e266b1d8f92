"""`streamd explain`."""

from __future__ import annotations

from demo.command_line import Cli, Write

PIPELINE = "name: p\nsource: {log: {topic: in}}\nstages: [{filter: a > 41}]\nsink: {log: {topic: out}}\n"


def test_the_plan(cli: Cli, write: Write) -> None:
    """Names, topics and what is delivered; code only where asked for."""
    write("p.yaml", PIPELINE)

    outcome = cli("explain", "p.yaml")

    assert outcome.code == 0
    for word in ("pipeline p", "topic in", "topic out", "a > 41", "exactly once"):
        assert word in outcome.out
    assert "def " not in outcome.out
    assert "> 41" in cli("explain", "p.yaml", "--code").out.partition("def ")[2]


def test_problems(cli: Cli, write: Write) -> None:
    """The same diagnostics as everywhere."""
    write("p.yaml", PIPELINE.replace("a >", "a >>>"))

    outcome = cli("explain", "p.yaml")

    assert outcome.code == 2
    assert "p.yaml:3:" in outcome.err
    assert cli("explain", "missing.yaml").code == 2

"""`streamd run`: end to end on the embedded transport, and what it refuses."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from rich.console import Console

from demo.command_line import Process, Write
from demo.components import demo_registry
from services.command import streamd
from streamd.cli.progress import Share, show_progress
from streamd.cli.run import bars_for
from streamd.cli.summary import summary_lines
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.observability.merge import MergedMetrics
from streamd.observability.status import NodeStatus, PipelineState, PipelineStatus, TaskStatus
from streamd.supervisor.run import PipelineSummary, RunSummary

SERVICE = "state_dir: state\nhttp: {enabled: false}\nworkers: 1\n"
PIPELINE = """
name: p
source: {file: {path: in.ndjson}}
stages:
  - filter: amount > ${MIN:50}
  - set: {big: amount > 400}
sink: {file: {path: out.ndjson}}
on_error: skip
"""


def test_a_bounded_input_to_its_end(process: Process, write: Write, tmp_path: Path) -> None:
    """Exit code 0, the output is there, and the summary on standard error says what was done."""
    write("streamd.yaml", SERVICE)
    write("p.yaml", PIPELINE)
    write("in.ndjson", '{"amount": 10}\n{"amount": 500}\n{"amount": "x"}\n{"amount": 60}\n')

    outcome = process("run", "p.yaml", "--until-idle")

    assert outcome.code == 0, outcome.err
    summary = outcome.err.rstrip().split("\n")[-1]
    assert re.fullmatch(r"4 records processed, 1 filtered, 1 error in \d+\.\d\d s \([\d,]+ records/s\)", summary)
    written = [json.loads(line) for file in tmp_path.glob("out*") for line in file.read_text().splitlines()]
    assert written == [{"amount": 500, "big": True}, {"amount": 60, "big": False}]


def test_files_in_the_working_directory_are_no_modules(write: Write, tmp_path: Path) -> None:
    write("streamd.yaml", SERVICE)
    write("asyncio.py", "raise SystemExit('the wrong one')")
    write("p.yaml", "name: p\nsource: {generate: {count: 3, fields: {n: _offset}}}\nsink: discard\n")
    ended = streamd("run", "p.yaml", "--config", "streamd.yaml", "--until-idle", folder=tmp_path)
    assert ended.code == 0, ended.all


def test_variables_reach_the_workers(process: Process, write: Write, tmp_path: Path) -> None:
    """`--set` holds in the processes that run the pipeline as well."""
    write("streamd.yaml", SERVICE)
    write("p.yaml", PIPELINE)
    write("in.ndjson", '{"amount": 10}\n{"amount": 500}\n')

    outcome = process("run", "p.yaml", "--until-idle", "--set", "MIN=1000", "--workers", "1")

    assert outcome.code == 0, outcome.err
    assert "2 records processed, 2 filtered, 0 errors" in outcome.err


def test_a_pipeline_that_fails(process: Process, write: Write) -> None:
    """Exit code 1, and the reason, without contents of the record."""
    write("streamd.yaml", SERVICE + "exit_on_failure: true\n")
    write("p.yaml", PIPELINE.replace("on_error: skip", "on_error: fail"))
    write("in.ndjson", '{"amount": "secret-content"}\n')

    outcome = process("run", "p.yaml", "--until-idle")

    assert outcome.code == 1, outcome.err
    assert "pipeline p failed: " in outcome.err
    assert "secret-content" not in outcome.err


def test_a_wrong_configuration(process: Process, write: Write) -> None:
    """Exit code 2, nothing started, no state made."""
    file = write("p.yaml", PIPELINE.replace("filter", "fliter"))

    outcome = process("run", "p.yaml", "--until-idle")

    assert outcome.code == 2
    assert "p.yaml:5:5: error[unknown-component]" in outcome.err
    assert [path.name for path in file.parent.iterdir()] == ["p.yaml"]


def test_without_assertions_it_refuses_to_run(process: Process, write: Write) -> None:
    """The Kafka client guards transactions with assert statements."""
    write("p.yaml", PIPELINE)

    outcome = process("run", "p.yaml", python=("-O",))

    assert outcome.code == 2
    assert "python -O" in outcome.err


def summary(*pipelines: PipelineSummary) -> list[str]:
    return list(summary_lines(RunSummary(pipelines, 2.0, 0)))


def test_the_summary_of_one_pipeline() -> None:
    """One line."""
    assert summary(PipelineSummary("a", "drained", 10_000, 5, 1)) == [
        "10,000 records processed, 5 filtered, 1 error in 2.00 s (5,000 records/s)"
    ]


def test_the_summary_of_several() -> None:
    """A line for each, the reason of those that failed, and the sum."""
    assert summary(
        PipelineSummary("a", "drained", 10, 5, 1), PipelineSummary("long", "failed", 20, 0, 0, "the disk is full")
    ) == [
        "a     10 records processed, 5 filtered, 1 error  drained",
        "long  20 records processed, 0 filtered, 0 errors  failed",
        "pipeline long failed: the disk is full",
        "30 records processed, 5 filtered, 1 error in 2.00 s (15 records/s)",
    ]


def status(*lags: int | None, state: PipelineState = "running") -> PipelineStatus:
    tasks = tuple(TaskStatus("p", 0, partition, "running", lag=lag) for partition, lag in enumerate(lags))
    return PipelineStatus("p", state, tasks=tasks)


def test_the_share_that_is_done() -> None:
    """From lags alone: unknown until every task says one, then up to 1."""
    share = Share()

    assert share.update(status()) is None
    assert share.update(status(100, None)) is None
    assert share.update(status(60, 40)) == 0.0
    assert share.update(status(40, 10)) == 0.5
    assert share.update(status(0, 0)) == 1.0
    assert Share().update(status(0)) == 1.0
    assert Share().update(status(None, state="drained")) == 1.0


def test_bars_are_drawn() -> None:
    """One for each pipeline, with how much of it is done."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with show_progress(["p", "not there yet"], console) as update:
        for lags in ((50, 50), (25, 0)):
            update(NodeStatus("app", 0.0, 30.0, pipelines=(status(*lags),)), MergedMetrics())

    assert "75 %" in screen.getvalue()


def test_no_bar_before_the_first_progress() -> None:
    """Log lines of the start would be written over it."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with show_progress(["p"], console) as update:
        update(NodeStatus("app", 0.0, 30.0, pipelines=(status(None),)), MergedMetrics())

        assert screen.getvalue() == ""

        update(NodeStatus("app", 0.0, 30.0, pipelines=(status(10),)), MergedMetrics())

        assert "p" in screen.getvalue()


def test_who_gets_a_bar() -> None:
    """Pipelines that end; none at all where records are printed between the bars."""
    service = ServiceConfig.model_validate({})
    text = "name: p\nsource: {topic: {topic: x}}\nsink: discard\n"
    pipeline = load_pipeline_text(text, Path("p.yaml"), demo_registry(), {}, service)

    assert bars_for([pipeline], until_idle=False, to_terminal=True) == []
    assert bars_for([pipeline], until_idle=True, to_terminal=True) == ["p"]

"""Log lines as they come out of a process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from streamd.observability import catalog, logs
from streamd.observability.logs import ATOMIC_WRITE, LineWriter, configure_logging, log_context
from streamd.observability.metrics import MetricSet

log = structlog.get_logger("streamd.test")


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.25

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Output:
    """Where lines go: a file that several processes might append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = HandClock()
        self.descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def configure(self, **options: Any) -> None:
        configure_logging(**{"format": "json", "descriptor": self.descriptor, "clock": self.clock, **options})

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    made = Output(tmp_path / "log")
    yield made
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, logs.LibraryHandler)]
    os.close(made.descriptor)


def test_a_line_is_one_json_object(output: Output):
    output.configure()
    log.info("pipeline started", tasks=3, ratio=0.5, none=None)
    assert output.lines() == [
        {
            "timestamp": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "event": "pipeline started",
            "logger": "streamd.test",
            "tasks": 3,
            "ratio": 0.5,
            "none": None,
        }
    ]
    assert list(output.lines()[0])[:3] == ["timestamp", "level", "event"]


def test_libraries_take_the_same_way(output: Output):
    output.configure(worker=2)
    logging.getLogger("some.library").warning("cannot reach %s", "host")
    (line,) = output.lines()
    assert line["event"] == "cannot reach host"
    assert (line["logger"], line["level"], line["worker"]) == ("some.library", "warning", 2)


def test_libraries_show_errors_without_local_variables(output: Output):
    output.configure()
    try:
        contents = "contents" + " of a record"
        raise ValueError(len(contents))
    except ValueError:
        logging.getLogger("some.library").exception("failed")
        log.exception("failed too")
    for line in output.lines():
        assert line["exception"].endswith("ValueError: 20")
        assert "contents of a record" not in line["exception"]


def test_aiokafka_is_quiet_and_no_error_of_ours(output: Output):
    # Loggers of this test alone: real ones may have filters, and clients that still end, from tests before.
    output.configure()
    logging.getLogger("aiokafka.quiet.consumer").info("Subscribed to topic orders")
    logging.getLogger("aiokafka.quiet.conn").error("Unable connect to node 1")
    lines = [line for line in output.lines() if line["logger"].startswith("aiokafka.quiet")]
    assert [(line["level"], line["event"]) for line in lines] == [("warning", "Unable connect to node 1")]


def test_debug_shows_libraries_too(output: Output):
    output.configure(level="debug")
    logging.getLogger("aiokafka.quiet.consumer").debug("Sending fetch")
    log.debug("ours")
    assert [line["event"] for line in output.lines()] == ["Sending fetch", "ours"]


@pytest.mark.parametrize(("level", "shown"), [("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds_for_both(output: Output, level: logs.LogLevel, shown: int):
    output.configure(level=level)
    for each in (log, logging.getLogger("other")):
        for method in ("debug", "info", "warning", "error"):
            getattr(each, method)("said")
    assert len(output.lines()) == 2 * shown


def test_configuring_again_does_not_double_lines(output: Output):
    for _ in range(3):
        output.configure()
    logging.getLogger("other").warning("once")
    assert len(output.lines()) == 1


async def test_context_is_on_every_line_of_a_task_and_only_there(output: Output):
    output.configure()

    async def task(name: str) -> None:
        with log_context(pipeline="orders", task=name):
            await asyncio.sleep(0)
            log.info("ours")
            logging.getLogger("library").warning("theirs")

    await asyncio.gather(task("a"), task("b"))
    log.info("outside")
    seen = [(line["event"], line.get("task")) for line in output.lines()]
    assert sorted(seen, key=str) == sorted(
        [("ours", "a"), ("theirs", "a"), ("ours", "b"), ("theirs", "b"), ("outside", None)], key=str
    )


def test_secrets_and_objects_do_not_get_through(output: Output):
    output.configure()
    log.info("connect", password="hunter2hunter2", url="kafka://u:hunter2hunter2@b", value=b"contents", o=object())
    logging.getLogger("library").warning("password=%s", "hunter2hunter2")
    assert "hunter2" not in output.text()
    assert "contents" not in output.text()


def test_repeated_lines_are_held_back_and_counted(output: Output):
    metrics = MetricSet()
    output.configure(metrics=metrics)
    for number in range(100):
        log.warning("broker away", attempt=number)
    log.warning("something else")
    assert [line["event"] for line in output.lines()] == ["broker away"] * 5 + ["something else"]
    output.clock.seconds += 10
    log.warning("broker away")
    assert output.lines()[-1]["left_out"] == 95
    assert metrics.counter(catalog.LOG_SUPPRESSED).value == 95
    assert metrics.counter(catalog.LOG_LINES, level="warning").value == 7


def test_repeats_of_libraries_are_known_by_their_template(output: Output):
    output.configure()
    for number in range(100):
        logging.getLogger("library").warning("attempt %d failed", number)
    assert len(output.lines()) == 5


def test_other_pipelines_and_other_errors_are_other_lines(output: Output):
    output.configure()
    for pipeline in ("a", "b"):
        for error in ("X", "Y"):
            for _ in range(10):
                log.error("task failed", pipeline=pipeline, error=error)
    assert len(output.lines()) == 20


def test_critical_lines_always_pass(output: Output):
    output.configure()
    for _ in range(20):
        log.critical("gone")
    assert len(output.lines()) == 20


def test_memory_for_repeats_is_bounded(output: Output):
    output.configure()
    limit = logs.RepeatLimit(output.clock, keys=10)
    for number in range(1000):
        limit(None, "info", {"event": f"event {number}"})
    assert len(limit._seen) == 10


@pytest.mark.parametrize("size", [3000, 10_000, 1_000_000])
def test_a_line_is_never_longer_than_one_write(output: Output, size: int):
    output.configure()
    try:
        raise ValueError("x" * size)
    except ValueError:
        log.exception("failed", text="é" * size, items=["ü" * size] * 30)
    for line in output.path.read_bytes().splitlines(keepends=True):
        assert len(line) <= ATOMIC_WRITE
    assert output.lines()[0]["event"] == "failed"


def test_line_breaks_in_values_do_not_break_lines(output: Output):
    output.configure()
    log.info("one\ntwo", value="three\nfour\r\x1b[31m")
    assert len(output.text().splitlines()) == 1


def test_console_lines_are_for_people_and_show_no_local_variables(output: Output):
    output.configure(format="console")
    contents = "contents" + " of a record"
    try:
        raise ValueError(len(contents))
    except ValueError:
        log.exception("failed", pipeline="orders", token="hunter2hunter2")
    text = output.text()
    assert "failed" in text
    assert "pipeline=orders" in text
    assert "Traceback" in text
    assert "contents of a record" not in text
    assert "hunter2" not in text
    assert "\x1b[" not in text


def test_auto_is_json_where_there_is_no_terminal(output: Output):
    output.configure(format="auto")
    log.info("said")
    assert output.lines()[0]["event"] == "said"


def test_auto_is_console_on_a_terminal(output: Output):
    outer, inner = os.openpty()
    try:
        output.configure(format="auto", descriptor=inner)
        log.info("said")
        shown = os.read(outer, 10_000).decode()
    finally:
        os.close(outer)
        os.close(inner)
    assert "said" in shown
    assert not shown.startswith("{")


def test_warnings_become_lines(output: Output):
    output.configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in output.lines()[0]["event"]


@pytest.mark.parametrize("prepare", [lambda read, write: os.close(read), lambda read, write: os.close(write)])
def test_a_log_that_is_gone_does_not_stop_anyone(prepare: Callable[[int, int], None]):
    read, write = os.pipe()
    prepare(read, write)
    LineWriter(write).write("nobody reads this")
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            pass


def test_a_reader_that_hangs_costs_a_bounded_time_and_the_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "WRITE_PATIENCE", 0.01)
    read, write = os.pipe()
    os.set_blocking(write, False)
    writer = LineWriter(write)
    for _ in range(100):
        writer.write("x" * 4000)
    os.set_blocking(read, False)
    received = os.read(read, 10_000_000)
    assert set(received.splitlines()[:-1]) == {b"x" * 4000}
    os.close(read)
    os.close(write)


WRITER = """
import sys, structlog
from streamd.observability.logs import configure_logging
configure_logging("info", "json", worker=int(sys.argv[1]))
log = structlog.get_logger("streamd.test")
for number in range(200):
    log.critical("line", number=number, text="x" * 3000)
"""


def test_lines_of_several_processes_on_one_pipe_stay_whole():
    read, write = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(number)], stderr=write) for number in range(4)]
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as lines:
        seen = [(line["worker"], line["number"]) for line in map(json.loads, lines)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert sorted(seen) == [(worker, number) for worker in range(4) for number in range(200)]


def test_on_a_terminal_a_line_wipes_the_bar_that_stands_there() -> None:
    """And nothing else gets control characters."""
    read, write = os.pipe()
    try:
        LineWriter(write, clear=True).write("one")
        LineWriter(write).write("two")

        assert os.read(read, 100) == b"\r\x1b[2Kone\ntwo\n"
    finally:
        os.close(read)
        os.close(write)

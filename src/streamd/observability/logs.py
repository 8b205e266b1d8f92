"""Log lines: structlog's and every library's through one pipeline, to stderr, one whole line at a time.

`log = structlog.get_logger(__name__)` in any module, `log.info("event in plain words", name=value)`. The event is a
fixed sentence, what varies goes into fields: repeated lines are recognised by it. `log_context(pipeline=…, task=…)`
adds fields to every line of the current asyncio task and of those it starts.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections import OrderedDict
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.observability import catalog, redact
from streamd.observability.metrics import MetricSet

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]

# A write to a pipe up to this size is never torn apart by other writers (POSIX PIPE_BUF on Linux).
ATOMIC_WRITE = 4096
_CLEAR_LINE = b"\r\x1b[2K"
# How long a line waits for a slow reader of stderr before it is dropped: a stuck log must not stop records.
WRITE_PATIENCE = 1.0

# Libraries that narrate their normal work at INFO, and say at ERROR what the engine already reports and retries.
_CHATTY = ("aiokafka", "asyncio", "aiohttp.access", "aiohttp.server", "aiohttp.web")
_DEMOTED = ("aiokafka",)


def configure_logging(
    level: LogLevel = "info",
    format: LogFormat = "auto",  # noqa: A002 — the name it has in streamd.yaml
    *,
    worker: int | None = None,
    metrics: MetricSet | None = None,
    descriptor: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Set up logging of this process; may be called again. In a worker pass its number, it is put on each line.

    `auto` is console on a terminal and JSON elsewhere. `metrics` counts warnings and worse. `descriptor`: where lines
    go, stderr by default.
    """
    target = sys.stderr.fileno() if descriptor is None else descriptor
    console = format == "console" or (format == "auto" and os.isatty(target))
    writer = LineWriter(target, clear=console and os.isatty(target) and os.environ.get("TERM") != "dumb")
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _Stamp(clock, worker),
        RepeatLimit(clock, metrics),
        _Count(metrics),
        _exception,
        _plain,
        _console_renderer(os.isatty(target)) if console else render_json,
    ]
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: NamedWriter(writer, str(names[0]) if names else ""),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(LibraryHandler(processors, writer))
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)
    logging.captureWarnings(True)


def log_context(**fields: Any) -> AbstractContextManager[Any]:
    """`with log_context(pipeline=…, task=…):` puts these fields on every line from inside, also of tasks started."""
    return structlog.contextvars.bound_contextvars(**fields)


class LineWriter:
    """Writes whole lines to a file descriptor that other processes write to as well. Never raises.

    `clear`: on a terminal, where a progress bar may stand in the line: it is wiped first.
    """

    def __init__(self, descriptor: int, *, clear: bool = False) -> None:
        self._descriptor = descriptor
        self._start = _CLEAR_LINE if clear else b""

    def write(self, line: str) -> None:
        """Write the line and its newline in one call."""
        data = memoryview(self._start + line.encode("utf-8", "backslashreplace") + b"\n")
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:
                    if not select.select([], [self._descriptor], [], WRITE_PATIENCE)[1]:
                        return
        except (OSError, ValueError):
            return


class NamedWriter:
    """What structlog calls at the end of its pipeline; carries the logger's name for `_Stamp`."""

    __slots__ = ("_writer", "name")

    def __init__(self, writer: LineWriter, name: str) -> None:
        self._writer = writer
        self.name = name

    def msg(self, message: str) -> None:
        self._writer.write(message)

    debug = info = warning = error = critical = exception = fatal = log = msg


class LibraryHandler(logging.Handler):
    """Takes the records of the standard library's logging through the same processors."""

    def __init__(self, processors: list[Processor], writer: LineWriter) -> None:
        super().__init__()
        self._processors = processors
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a line that cannot be made is dropped, logging never fails its caller."""
        try:
            level = record.levelname.lower()
            if level == "error" and record.name.split(".")[0] in _DEMOTED:
                level = "warning"
            event: Any = {"event": record.getMessage(), "_template": str(record.msg)}
            if record.exc_info and record.exc_info[1] is not None:
                event["exc_info"] = record.exc_info[1]
            named = NamedWriter(self._writer, record.name)
            for processor in self._processors:
                event = processor(named, level, event)
            self._writer.write(event)
        except structlog.DropEvent:
            return
        except Exception:
            self.handleError(record)


class _Stamp:
    """Adds time, logger and worker."""

    def __init__(self, clock: Clock, worker: int | None) -> None:
        self._clock = clock
        self._worker = worker

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        event["timestamp"] = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        name = getattr(logger, "name", "")
        if name:
            event.setdefault("logger", name)
        if self._worker is not None:
            event.setdefault("worker", self._worker)
        return event


class RepeatLimit:
    """Lets the first few of the same line through in each window; the next one says how many were left out.

    The same: logger, level, event, and the fields pipeline and error. Critical lines always pass.
    """

    def __init__(
        self, clock: Clock, metrics: MetricSet | None = None, *, burst: int = 5, window: float = 10.0, keys: int = 1000
    ) -> None:
        self._clock = clock
        self._suppressed = metrics.counter(catalog.LOG_SUPPRESSED) if metrics is not None else None
        self._burst = burst
        self._window = window
        self._keys = keys
        # key → [start of the window, lines in it]; the key used longest ago leaves first.
        self._seen: OrderedDict[tuple[str, ...], list[float]] = OrderedDict()

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        template = event.pop("_template", None) or event.get("event", "")
        if method == "critical":
            return event
        fields = (event.get("pipeline", ""), event.get("error", ""))
        key = (getattr(logger, "name", ""), method, str(template), *map(str, fields))
        now = self._clock.monotonic()
        entry = self._seen.setdefault(key, [now, 0])
        self._seen.move_to_end(key)
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        if now - entry[0] >= self._window:
            left_out = int(entry[1]) - self._burst
            if left_out > 0:
                event["left_out"] = left_out
            entry[:] = [now, 0]
        entry[1] += 1
        if entry[1] > self._burst:
            if self._suppressed is not None:
                self._suppressed.add()
            raise structlog.DropEvent
        return event


class _Count:
    """Counts lines of level warning and above."""

    def __init__(self, metrics: MetricSet | None) -> None:
        levels = ("warning", "error", "critical") if metrics is not None else ()
        self._lines = {level: metrics.counter(catalog.LOG_LINES, level=level) for level in levels if metrics}

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        lines = self._lines.get(event.get("level", method))
        if lines is not None:
            lines.add()
        return event


def _exception(logger: Any, method: str, event: EventDict) -> EventDict:
    """Turns exc_info into text, without local variables."""
    info = event.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if info is True:
        error = sys.exc_info()[1]
    if error is not None:
        event["exception"] = redact.error_text(error)
    return event


def _plain(logger: Any, method: str, event: EventDict) -> EventDict:
    exception = event.pop("exception", None)
    shown = {name: redact.plain(value, name) for name, value in event.items()}
    if exception is not None:
        shown["exception"] = redact.text(str(exception), 20_000)
    return shown


def render_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """One JSON object in one line of less than 4,096 bytes: the longest texts are cut until it fits."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    fields = {**first, **event}
    line = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)
    while len(line) >= ATOMIC_WRITE:
        longest = max(fields, key=lambda name: len(orjson.dumps(fields[name])))
        shown = fields[longest] if isinstance(fields[longest], str) else orjson.dumps(fields[longest]).decode()
        # The end of a traceback says more than its start.
        fields[longest] = "…" + shown[len(shown) // 2 :] if longest == "exception" else shown[: len(shown) // 2] + "…"
        line = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)
    return line.decode()


def _console_renderer(colors: bool) -> Processor:
    # The default formatter of exceptions shows local variables where rich is installed: records would end up in logs.
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)

"""The daemon as a user runs it: `streamd run` as a process of its own, its log lines, its HTTP answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Self

from services.command import PROGRAM
from services.process import ServiceProcess, tail, wait_until


class Daemon:
    """One `streamd run` over one pipeline, with one worker and an app name of its own. Use it in a `with`.

    `before` is a program with its arguments that starts it. `settings` are lines of streamd.yaml.
    """

    def __init__(
        self, folder: Path, pipeline: str, *arguments: str, settings: str = "", before: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.app = f"bad-{uuid.uuid4().hex[:10]}"
        self._arguments, self._before = arguments, before
        self._runs = 0
        self.process: ServiceProcess | None = None
        self.write(pipeline, settings)

    def write(self, pipeline: str, settings: str = "") -> None:
        """The files that the next run reads."""
        (self.folder / "p.yaml").write_text(pipeline)
        own = f"app: {self.app}\nstate_dir: {self.folder / 'state'}\nhttp: {{port: 0}}\nworkers: 1\n"
        own += "" if "restart" in settings else "restart: {initial: 50ms, max: 400ms}\n"
        (self.folder / "streamd.yaml").write_text(own + settings)

    def start(self) -> Self:
        self._runs += 1
        command = [str(PROGRAM), "run", "p.yaml", "--config", "streamd.yaml", *self._arguments]
        environment = ("env", f"--chdir={self.folder}")
        self.process = ServiceProcess([*environment, *self._before, *command], self.log)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        assert self.process is not None
        self.process.stop()

    @property
    def log(self) -> Path:
        """Everything the latest run wrote."""
        return self.folder / f"run-{self._runs}.log"

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The log lines of an event."""
        found = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in found if line.get("event") == event or not event]

    def wait_for(self, text: str, deadline: float = 40.0) -> None:
        """Returns once the text is in the log."""
        self._wait(lambda: text in self.text, repr(text), deadline)

    def wait_lines(self, event: str, count: int, deadline: float = 40.0) -> list[dict[str, Any]]:
        self._wait(lambda: len(self.lines(event)) >= count, f"{count} × {event!r}", deadline)
        return self.lines(event)

    def _wait(self, condition: Any, what: str, deadline: float) -> None:
        try:
            wait_until(condition, what, deadline)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{tail(self.log)}") from error

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def ended(self, deadline: float = 60.0) -> int:
        """The exit code."""
        assert self.process is not None
        return self.process.wait(deadline)

    def finishes(self, deadline: float = 60.0) -> None:
        """It ends with exit code 0."""
        code = self.ended(deadline)
        assert code == 0, tail(self.log)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body of an answer."""
        [line] = self.wait_lines("HTTP server listens", 1)
        try:
            with urllib.request.urlopen(line["url"] + path, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

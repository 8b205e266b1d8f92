"""One node of a verification, as a process of its own: `streamd run`, of a pipeline's text that lies in no folder.

The pipeline keeps the folder of its file, so that relative paths and own Python modules are found; its text and its app
are the scratch's. `python -m streamd.verify.daemon SPEC`, a JSON file. Ends with the process that holds its standard
input open.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvloop

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text, load_service
from streamd.config.service import HttpConfig, LogConfig, RestartConfig, ServiceConfig
from streamd.errors import StreamdError
from streamd.observability.logs import configure_logging
from streamd.observability.metrics import MetricSet
from streamd.supervisor.run import run_pipelines
from streamd.transport.registry.settings import SchemaRegistrySettings


@dataclass(frozen=True, slots=True)
class Spec:
    """What a node runs. `text`: the file with the pipeline's text; `file`: where the user's own lies; `imports`: texts
    of what that imports, by path; `config`: of the service, "" for none; `schema_registry`: the scratch's, "" for
    none; `port`: of the HTTP server; `ended`: the file that tells how it ended.
    """

    text: str
    file: str
    config: str
    app: str
    state_dir: str
    workers: int
    port: int
    until_idle: bool
    ended: str
    imports: dict[str, str] = field(default_factory=dict)
    schema_registry: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a node ended by itself. `error`: why its pipeline failed, or it could not start; "" for neither."""

    code: int
    error: str
    records: int = 0


def scratch_service(spec: Spec, service: ServiceConfig) -> ServiceConfig:
    """The user's settings but for the app, where state is kept, HTTP, and the waits between restarts, which are short:
    failures come thick and fast.
    """
    level = "info" if service.log.level == "debug" else service.log.level
    registry = {}
    if spec.schema_registry:
        registry = {"schema_registry": SchemaRegistrySettings.model_validate({"url": spec.schema_registry})}
    return service.model_copy(
        update={
            **registry,
            "app": spec.app,
            "state_dir": Path(spec.state_dir),
            "workers": spec.workers,
            "http": HttpConfig.model_validate({"port": spec.port, "enabled": spec.port > 0}),
            "log": LogConfig.model_validate({"format": "json", "level": level}),
            "restart": RestartConfig.model_validate({"initial": "50ms", "max": "300ms"}),
            "create_topics": True,
            "exit_on_failure": spec.until_idle,
        }
    )


def run(spec: Spec) -> Ended:
    """Run the node to its end."""
    env = dict(os.environ)
    try:
        service = scratch_service(spec, load_service(Path(spec.config) if spec.config else None, env))
        text = Path(spec.text).read_text()
        pipeline = load_pipeline_text(text, Path(spec.file), Registry.default(), env, service, spec.imports)
        metrics = MetricSet()
        configure_logging(service.log.level, service.log.format, metrics=metrics)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            work = run_pipelines([pipeline], service, until_idle=spec.until_idle, env=env, metrics=metrics)
            summary = runner.run(work)
    except StreamdError as error:
        return Ended(1, str(error))
    [found] = summary.pipelines
    return Ended(summary.exit_code, (found.error or "") if found.state == "failed" else "", found.records_processed)


def main(spec_file: str) -> int:
    """Run the node of a spec, and write down how it ended."""
    spec = msgspec.json.decode(Path(spec_file).read_bytes(), type=Spec)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ended = run(spec)
    Path(spec.ended).write_bytes(msgspec.json.encode(ended))
    return ended.code


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

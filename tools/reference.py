#!/usr/bin/env python3
"""Writes docs/reference and config/schemas from the code: `reference.py`, or `reference.py --check` to only compare."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

import streamd
from streamd.cli.components import format_specs, specs
from streamd.cli.settings_table import settings
from streamd.component.registry import Registry
from streamd.component.spec import ComponentSpec, Kind
from streamd.config.parameters import ParameterSettings
from streamd.config.policy import DeadLetterSettings, ErrorThresholdSettings, RetrySettings
from streamd.config.read_pipeline import PipelineSettings
from streamd.config.service import ServiceConfig
from streamd.expr import AGGREGATES, FUNCTIONS
from streamd.expr.aggregates.custom import Custom
from streamd.observability.catalog import CATALOG
from streamd.quality.schema_drift import SchemaDrift
from streamd.transport.kafka.settings import KafkaSettings

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAM = Path(sys.executable).with_name("streamd")
STATE = ("state ls", "state show", "state export", "state reset")
DLQ = ("dlq ls", "dlq show", "dlq replay", "dlq purge")
COMMANDS = (
    "run",
    "validate",
    "inspect",
    "explain",
    *STATE,
    *DLQ,
    "replay",
    "verify",
    "test",
    "components",
    "schema",
    "version",
)
GENERATED = "<!-- Written by `make docs` from the code: change it there. -->\n\n"

ON_ERROR = """\
`fail`, `skip`, `retry` or `dead_letter`, for the pipeline or for one component. To try again, and then give up:

```yaml
on_error:
  retry: {backoff: 100ms, attempts: 5}
  dead_letter:
    file: {path: failed.ndjson}
```

A component's `dead_letter` without a sink, `on_error: dead_letter` or `then: dead_letter`, goes to the pipeline's."""

CHAINS = """\
Stages and conditions that are written once and used by name, in the pipeline's own file or in files that it imports;
[chains](../chains.md) says how.

```yaml
imports: [chains/orders.yaml]
chains:
  large:
    description: Orders that count
    parameters: {limit: {type: number, default: 50}}
    stages:
      - filter: amount > $limit
filters:
  home: country in ["DE", "AT"]
stages:
  - chain: {name: large, with: {limit: 100}}
  - filter: {name: home}
```

A parameter is its `type`, or a mapping:"""

AGGREGATES_INTRO = """\
What stages such as `window` and `aggregate` compute over many records. Each takes `where=`, a condition: a record for
which it does not hold does not count, and none of its values is read: `sum(amount, where=type == "refund")`. A value
that is null does not count either.

`order_by=` is a value or a list of values, each ascending or `desc(…)`: numbers, where true is 1, then texts.
Of records that are equal in it, `first` takes the one that came first, `last` the one that came last. Whole documents
are `_value`, parts of them `{"name": name}`."""

INTROS = {
    "source": "Where records come from. A pipeline has one `source`, or several `sources`, each with an id.",
    "stage": "What happens to records between source and sink, in the order written, or wired with `from:`.",
    "sink": "Where records go. A pipeline has one `sink`, or several `sinks`.",
}


def cell(text: str) -> str:
    """Text as it may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def table(model: type[BaseModel]) -> Iterator[str]:
    """The settings of a model as a Markdown table."""
    rows = list(settings(model))
    if not rows:
        yield "No settings."
        return
    yield "| setting | type | default | what it is |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        default = "required" if row.default is None else f"`{cell(row.default)}`" if row.default else ""
        example = f" Example: `{cell(row.example)}`" if row.example else ""
        yield f"| `{row.name}` | {cell(row.type)} | {default} | {cell(row.description)}{example} |"


def prose(doc: str) -> str:
    """A docstring as Markdown: examples, which are indented or begin with `- name:`, become code blocks."""
    blocks = re.split(r"\n\n(?=    )|(?<=\S)\n\n(?=\S)", doc.strip())
    return "\n\n".join(example(block) if re.match(r"    |- \w+:", block) else block for block in blocks)


def example(block: str) -> str:
    text = textwrap.dedent(block)
    language = "python" if text.startswith(("class ", "def ", "from ", "import ", "async ", "pipeline = ")) else "yaml"
    return f"```{language}\n{text}\n```"


def component(spec: ComponentSpec) -> Iterator[str]:
    yield f"## {spec.name}"
    yield prose(spec.doc)
    if spec.kind == "sink" and "Delivery:" not in spec.doc:
        yield f"Delivery: {spec.delivery}."
    if spec.shorthand is not None:
        form = "Always" if spec.shorthand_always else "A value that is no mapping"
        yield f"{form}, what stands behind `{spec.name}:` is `{spec.shorthand}`."
    yield "\n".join(table(spec.config))


def components(kind: Kind) -> str:
    found = [spec for spec in specs(Registry.default()) if spec.kind == kind]
    parts = [f"# {kind.capitalize()}s", INTROS[kind], ", ".join(f"[{spec.name}](#{spec.name})" for spec in found)]
    for spec in found:
        parts += component(spec)
    return "\n\n".join(parts) + "\n"


FORMATS_INTRO = """\
How the bytes of a record become a document, and back. `format:` of a source or sink is one of these names, or a mapping
of the name to its settings: `format: {NAME: {SETTING: …}}`."""


def formats() -> str:
    found = format_specs()
    parts = ["# Formats", FORMATS_INTRO, ", ".join(f"[{spec.name}](#{spec.name})" for spec in found)]
    for spec in found:
        parts += [f"## {spec.name}", prose(spec.doc), "\n".join(table(spec.settings))]
    return "\n\n".join(parts) + "\n"


def functions() -> str:
    parts = ["# Functions in expressions", "Examples are run by the test suite."]
    for category in sorted({function.category for function in FUNCTIONS.values()}):
        parts.append(f"## {category.capitalize()}")
        for name in sorted(FUNCTIONS):
            function = FUNCTIONS[name]
            if function.category == category:
                runs = "\n".join(f"{text}  →  {json.dumps(result, default=str)}" for text, result in function.examples)
                parts += [f"### `{function.signature}`", " ".join(function.doc.split())]
                parts += [f"```text\n{runs}\n```"] if runs else []
    return "\n\n".join(parts) + "\n"


def aggregates() -> str:
    parts = ["# Aggregates", AGGREGATES_INTRO, ", ".join(f"`{one.signature}`" for one in AGGREGATES.values())]
    for function in AGGREGATES.values():
        parts += [f"## {function.name}", f"`{function.signature}`: {' '.join(function.doc.split())}"]
        runs = [
            f"{', '.join(json.dumps(document) for document in documents)}\n{text}  →  {json.dumps(result)}"
            for text, documents, result in function.examples
        ]
        parts += ["```text\n" + "\n".join(runs) + "\n```"] if runs else []
    parts.append(prose(sys.modules[Custom.__module__].__doc__ or ""))
    return "\n\n".join(parts) + "\n"


def metrics() -> str:
    lines = ["# Metrics", "", "At `/metrics`, for Prometheus. Alert rules and a dashboard: `deploy/`.", ""]
    lines += ["| metric | kind | labels | what it is |", "| --- | --- | --- | --- |"]
    for metric in CATALOG.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {cell(metric.help)} |")
    return "\n".join(lines) + "\n"


def pipeline() -> str:
    parts = ["# A pipeline file", "Besides `source`, `stages` and `sink` (or `sources` and `sinks`):"]
    parts.append("\n".join(table(PipelineSettings)))
    parts += [
        "## imports, chains, filters",
        CHAINS,
        "\n".join(table(ParameterSettings)),
        "## kafka",
        "How to reach Kafka; without it as the service's settings say.",
        "\n".join(table(KafkaSettings)),
    ]
    parts += ["## on_error", ON_ERROR]
    parts += [
        "### retry",
        "`then` says what happens after the last attempt: `fail` (the default), `skip` or `dead_letter`.",
    ]
    parts += ["\n".join(table(RetrySettings)), "### dead_letter", "Beside the sink's own key:"]
    parts += ["\n".join(table(DeadLetterSettings)), "## error_threshold", "\n".join(table(ErrorThresholdSettings))]
    drift = "Beside a source's own key: a policy, or a mapping. [schema-drift.md](../schema-drift.md) has it all."
    parts += ["## schema_drift", drift, "\n".join(table(SchemaDrift))]
    return "\n\n".join(parts) + "\n"


def service() -> str:
    intro = (
        "What `streamd.yaml` may say; `config/streamd.yaml` has every setting with its default. `kafka`: see pipelines."
    )
    return "\n\n".join(["# The service's settings", intro, "\n".join(table(ServiceConfig))]) + "\n"


def output(*arguments: str) -> str:
    environment = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PATH": "/usr/bin:/bin"}
    command = [str(PROGRAM), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def commands() -> str:
    parts = ["# Commands", f"```text\n{output('--help').strip()}\n```"]
    for command in COMMANDS:
        parts += [f"## streamd {command}", f"```text\n{output(*command.split(), '--help').strip()}\n```"]
    return "\n\n".join(parts) + "\n"


PYTHON = ("Pipeline", "DataSource", "DataSink", "PipelineStage", "ErrorPolicy", "PipelineMetrics", "StreamProcessor")


def python() -> str:
    """The Python API, from its docstrings. Records go through it as values, so that `Record` is of `python` stages."""
    parts = ["# The Python API", "`from streamd import …`. A runnable example: `examples/big_orders.py`."]
    parts.append(prose(inspect.getdoc(inspect.getmodule(streamd.Pipeline)) or ""))
    for name in (*PYTHON, "Record"):
        found = getattr(streamd, name)
        parts += [f"## {name}", signature(found, name), prose(inspect.getdoc(found) or "")]
        for member, value in vars(found).items():
            function = value.fset if isinstance(value, property) else value
            if inspect.isfunction(function) and not member.startswith("_"):
                doc = inspect.getdoc(value) or ""
                parts += [f"### {name}.{member}", signature(function, member) if function is value else "", prose(doc)]
    return "\n\n".join(part for part in parts if part) + "\n"


def signature(found: Any, name: str) -> str:
    """How it is called, as a block of Python, without the types of which the text tells."""
    shown = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name != "self"
    ]
    start = "await " if inspect.iscoroutinefunction(found) else ""
    return f"```python\n{start}{name}{inspect.Signature(shown)}\n```"


def index() -> str:
    pages = {
        "commands": "what the program can do",
        "pipeline": "what a pipeline file may say",
        "sources": "where records come from",
        "stages": "what happens to them",
        "sinks": "where they go",
        "formats": "how bytes become documents, and back",
        "functions": "what expressions can call",
        "aggregates": "what windows and running aggregates can compute",
        "python": "pipelines, sources, stages and sinks in Python",
        "service": "settings of the service",
        "metrics": "what it tells Prometheus",
    }
    lines = ["# Reference", "", "The same is in the program: `streamd components [NAME]`.", ""]
    return "\n".join(lines + [f"- [{name}]({name}.md): {text}" for name, text in pages.items()]) + "\n"


def everything() -> dict[Path, str]:
    """{path in the repository: text} of all that is written from the code."""
    pages = {
        "README": index(),
        "commands": commands(),
        "pipeline": pipeline(),
        "formats": formats(),
        "functions": functions(),
        "aggregates": aggregates(),
        "python": python(),
        "service": service(),
        "metrics": metrics(),
        **{f"{kind}s": components(cast("Kind", kind)) for kind in INTROS},
    }
    made = {Path("docs/reference") / f"{name}.md": GENERATED + text for name, text in pages.items()}
    schemas = {
        "pipeline": output("schema"),
        "streamd": output("schema", "--service"),
        "test": output("schema", "--test"),
        "chains": output("schema", "--chains"),
    }
    return made | {Path("config/schemas") / f"{name}.schema.json": text + "\n" for name, text in schemas.items()}


def main(arguments: list[str]) -> int:
    stale = []
    for name, text in everything().items():
        path = REPOSITORY / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(name))
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(f"{'not up to date' if '--check' in arguments else 'written'}: {name}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a verification found: for a terminal, as JSON, as Markdown."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from streamd.errors import ConfigError
from streamd.verify.compare import Verdict

COLUMNS = ("lost", "duplicated", "reordered", "changed", "unexpected")
FORMATS = (".json", ".md")
PROCESSES = ("worker", "node")
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output: what became of it, what its sink promises here, and in words some of what differs."""

    verdict: Verdict
    promise: str
    details: tuple[str, ...] = ()


@dataclass
class Report:
    """A verification. Times in seconds, counts in records; `longest_stall` is None where nobody can see positions.

    `inputs`: {source id: where its records come from}. `kills`: {worker, node or fault point: how often}.
    `failure`: why the disturbed run did not come to its end.
    """

    pipeline: str
    file: str
    transport: str
    nodes: int
    workers: int
    seed: int
    records: int = 0
    partitions: int = 0
    inputs: dict[str, str] = field(default_factory=dict)
    planned_kills: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    not_reached: dict[str, int] = field(default_factory=dict)
    rebalances: int = 0
    longest_stall: float | None = None
    disturbed_seconds: float = 0.0
    seconds: float = 0.0
    out_of_time: bool = False
    ignored_fields: tuple[str, ...] = ()
    outputs: list[OutputReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""

    @property
    def differences(self) -> int:
        """How many records differ."""
        return sum(output.verdict.differences for output in self.outputs)

    @property
    def ok(self) -> bool:
        """Whether the disturbed run ended, and its output is that of the undisturbed one."""
        return not self.failure and not self.differences

    @property
    def result(self) -> str:
        """The end of the report, in one sentence."""
        if self.failure:
            return f"the disturbed run did not come to its end: {self.failure}"
        if self.differences:
            count = f"{self.differences:,} record{'s' if self.differences != 1 else ''}"
            return f"{count} of the output differ from the undisturbed run"
        kills = sum(self.kills.values())
        return f"the output after {kills} kill{'s' if kills != 1 else ''} is that of an undisturbed run"


def check_file(file: Path) -> None:
    """Raises ConfigError for a report that could not be written, before anything is run for it."""
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"--report: expected a name that ends in {' or '.join(FORMATS)}, got {file.name}")
    if not file.parent.is_dir():
        raise ConfigError(f"--report: there is no folder {file.parent}")
    try:
        there = file.exists()
        # Only an attempt tells: rights, file systems, quotas.
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666))
        if not there:
            file.unlink()
    except OSError as error:
        raise ConfigError(f"--report: cannot write {file}: {error.strerror}") from None


def write(report: Report, file: Path) -> None:
    """Write the report as the file's name says. Raises ConfigError when it cannot be written."""
    try:
        if file.suffix.lower() == ".json":
            file.write_bytes(orjson.dumps(as_document(report), option=orjson.OPT_INDENT_2) + b"\n")
        else:
            file.write_text("\n".join(markdown(report)) + "\n")
    except OSError as error:
        raise ConfigError(f"--report: cannot write {file}: {error.strerror}") from None


def as_document(report: Report) -> dict[str, Any]:
    """The report as a JSON document."""
    outputs = [
        {**asdict(output.verdict), "promise": output.promise, "details": list(output.details)}
        for output in report.outputs
    ]
    return {"ok": report.ok, "result": report.result, **asdict(report), "outputs": outputs}


def text(report: Report) -> Iterator[str]:
    """The report as lines for a terminal, without the last one, the result."""
    width = max(len(label) for label, _ in _facts(report))
    for label, value in _facts(report):
        lines = textwrap.wrap(value, _WIDTH - width - 4, break_long_words=False, break_on_hyphens=False) or [""]
        yield f"  {label:<{width}}  {lines[0]}"
        yield from (f"  {'':<{width}}  {line}" for line in lines[1:])
    yield from (f"  {line}".rstrip() for line in _table(report))
    remarks = list(_remarks(report))
    if remarks:
        yield ""
        yield from (f"  {remark}" for remark in remarks)


def _table(report: Report) -> Iterator[str]:
    if not report.outputs:
        return
    yield ""
    rows: list[tuple[str, ...]] = [("output", "records", *COLUMNS)]
    rows += [
        (o.verdict.output, f"{o.verdict.records:,}", *(f"{getattr(o.verdict, column):,}" for column in COLUMNS))
        for o in report.outputs
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:>{widths[i]}}" if i else f"{cell:<{widths[0]}}" for i, cell in enumerate(row))
        yield "  ".join(cells)


def markdown(report: Report) -> Iterator[str]:
    """The report as a page."""
    yield f"# streamd verify {report.pipeline}: {'passed' if report.ok else 'failed'}"
    yield ""
    yield report.result[0].upper() + report.result[1:] + "."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for label, value in _facts(report):
        yield f"| {label} | {_cell(value)} |"
    yield ""
    yield f"| output | records | {' | '.join(COLUMNS)} | order within | promised |"
    yield "| --- | ---: |" + " ---: |" * len(COLUMNS) + " --- | --- |"
    for o in report.outputs:
        counts = " | ".join(f"{getattr(o.verdict, column):,}" for column in COLUMNS)
        yield f"| {_cell(o.verdict.output)} | {o.verdict.records:,} | {counts} | {o.verdict.order} | {o.promise} |"
    remarks = list(_remarks(report))
    if remarks:
        yield ""
        yield from (f"- {remark.strip()}" for remark in remarks)


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _facts(report: Report) -> list[tuple[str, str]]:
    nodes = f"{report.nodes} node{'s' if report.nodes != 1 else ''}"
    workers = f"{report.workers} worker{'s' if report.workers != 1 else ''}"
    each = " each" if report.nodes > 1 else ""
    facts = [
        ("pipeline", f"{report.pipeline} ({report.file})"),
        ("on", f"{report.transport}; {nodes}, {workers}{each}"),
        (
            "input",
            f"{report.records:,} records in {report.partitions} partition{'s' if report.partitions != 1 else ''}",
        ),
    ]
    facts += [
        ("", f"{source}: {origin}" if len(report.inputs) > 1 else origin) for source, origin in report.inputs.items()
    ]
    kills = sum(report.kills.values())
    processes = [f"{name} {report.kills[name]}" for name in PROCESSES if name in report.kills]
    at_points = [f"{name} {count}" for name, count in sorted(report.kills.items()) if name not in PROCESSES]
    reached = sum(count for name, count in report.kills.items() if name not in PROCESSES)
    processes += [f"at points {reached}"] if reached else []
    facts.append(("kills", f"{kills}: {', '.join(processes)}" if processes else str(kills)))
    facts += [("at points", ", ".join(at_points))] if at_points else []
    if report.not_reached:
        facts.append(("not reached", ", ".join(f"{name} {count}" for name, count in report.not_reached.items())))
    stall = "not known" if report.longest_stall is None else f"{report.longest_stall:.2f} s"
    facts += [("rebalances", f"{report.rebalances:,}")] if report.nodes > 1 else []
    facts += [
        ("longest stall", stall),
        ("time", f"{report.seconds:.1f} s, {report.disturbed_seconds:.1f} s of them under kills"),
    ]
    return facts


def _remarks(report: Report) -> Iterator[str]:
    if report.out_of_time:
        yield f"The time was over before all of the {report.planned_kills} strikes: --seconds gives more."
    if not report.kills and not report.failure:
        asked = "" if report.planned_kills else " (--kills 0)"
        yield f"Nothing was killed{asked}: that tried nothing, and says nothing of exactly once."
    if report.ignored_fields:
        yield f"Not compared: {', '.join(report.ignored_fields)} (--ignore-fields)."
    for output in report.outputs:
        verdict = output.verdict
        if verdict.records and verdict.order.startswith("not"):
            yield f"Order in {verdict.output}: {verdict.order}."
        if not verdict.records and not verdict.differences:
            yield f"Nothing came to {verdict.output}, in neither run: this input does not show what it does."
        if output.promise != "exactly once":
            yield f"{verdict.output} promises {output.promise} only (streamd explain says why)."
        yield from output.details
    yield from report.notes

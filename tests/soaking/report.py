"""The result of a soak as a page of Markdown."""

from __future__ import annotations

import platform
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Iterator

from soaking.flat import Trend
from soaking.run import Outcome
from soaking.sampler import BOUNDS, MB, SHOWN_ONLY, Who

_NAMES = {
    "rss": "resident memory, MB",
    "pss": "memory with a share of what is shared, MB",
    "blocks": "allocated blocks, thousand",
    "files": "open files",
    "threads": "threads",
    "tasks": "asyncio tasks",
    "futures": "asyncio futures",
}


def page(outcome: Outcome, cores: int) -> str:
    """The whole page."""
    return "\n".join(_lines(outcome, cores)) + "\n"


def _lines(outcome: Outcome, cores: int) -> Iterator[str]:
    options = outcome.options
    command = f"make soak MINUTES={options.seconds / 60:g} SEED={options.seed}" + (" STATE=1" if options.state else "")
    work = "filter, set and running totals for each key" if options.state else "filter and set"
    yield "# Soak"
    yield ""
    yield f"Made by `{command}`; do not edit. Two nodes of two workers over one Kafka broker, {cores} cores of a shared"
    yield f"machine, Python {platform.python_version()}; {work}, exactly once, 6 partitions in and out."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| duration | {outcome.seconds / 60:.1f} min |"
    yield f"| load | {options.rate:,} records a second, {outcome.records:,} in all |"
    yield f"| faults | {len(outcome.faults)} of {len({fault.kind for fault in outcome.faults})} kinds |"
    for name, verdict in (("output, judged as it came", outcome.verdict), ("output, read once more", outcome.again)):
        yield (
            f"| {name} | {verdict.came:,} records: {verdict.lost} lost, {verdict.duplicated} duplicated, "
            f"{verdict.disordered} out of order, {verdict.wrong} wrong, {len(verdict.unread)} partitions left unread |"
        )
    yield f"| transactions left open | {outcome.open} |"
    yield f"| nodes ended with | {', '.join(f'{name} {code}' for name, code in sorted(outcome.codes.items()))} |"
    yield f"| processes in all | {len({who.pid for who in outcome.lives})} |"
    flat = "flat" if not outcome.risen else f"{len(outcome.risen)} series rise"
    yield f"| **verdict** | **{'exact' if outcome.exact else 'not exact'}, {flat}** |"
    yield ""
    yield from _faults(outcome)
    yield from _trends(outcome)


def _faults(outcome: Outcome) -> Iterator[str]:
    yield "## Faults"
    yield ""
    yield "Seconds from the end of the fault (the process is killed, the broker serves again, the guest is gone) until"
    yield "records fed after it came out of every partition."
    yield ""
    yield "| fault | times | median s | longest s |"
    yield "| --- | ---: | ---: | ---: |"
    stalls: dict[str, list[float]] = defaultdict(list)
    for fault in outcome.faults:
        stalls[fault.kind].append(fault.stall)
    for kind, found in sorted(stalls.items()):
        yield f"| {kind} | {len(found)} | {statistics.median(found):.2f} | {max(found):.2f} |"
    yield ""


def _trends(outcome: Outcome) -> Iterator[str]:
    options = outcome.options
    yield "## What processes use"
    yield ""
    lived, warm_up = (options.warm_up + options.shortest) / 60, options.warm_up / 60
    yield textwrap.fill(
        f"Sampled every {options.sampled:g} s. Every process that lived for {lived:g} minutes in one role is judged, "
        f"without its first {warm_up:g} minutes, by the samples at which it had its usual number of tasks. The slope "
        "is the median of the slopes of all pairs of samples. A series is flat when that is at most a share of its "
        "median, or a fixed amount, whichever is more. The first node's supervisor and its first worker live as long "
        "as the run.",
        width=120,
    )
    yield ""
    yield "| series | may rise in an hour by |"
    yield "| --- | --- |"
    for what, (_, scale, bound) in BOUNDS.items():
        yield f"| {_NAMES[what]} | {bound.share:.0%} or {bound.floor / scale:g} |"
    yield ""
    yield "| process | series | minutes | start | end | highest | slope an hour | allowed | |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for who, trends in sorted(outcome.trends.items()):
        for what in (*BOUNDS, *SHOWN_ONLY):
            if what in trends:
                yield _row(who, what, trends[what])
    yield ""
    if outcome.broker and outcome.broker[0]:
        start, end = (value / MB for value in (outcome.broker[0], outcome.broker[-1]))
        yield f"The broker's resident memory went from {start:.0f} to {end:.0f} MB; it is not judged."


def _row(who: Who, what: str, found: Trend) -> str:
    scale = BOUNDS[what][1] if what in BOUNDS else MB
    places = 1 if scale > 1 else 0
    start, end, highest = (f"{value / scale:,.{places}f}" for value in (found.start, found.end, found.highest))
    judged = what in BOUNDS
    allowed = f"{found.allowed / scale:,.1f}" if judged else "–"
    word = ("flat" if found.flat else "**rises**") if judged else ""
    return (
        f"| {who.node} node, {who.role} | {_NAMES[what]} | {found.seconds / 60:.0f} | {start} | {end} | {highest} "
        f"| {found.slope / scale:+,.2f} | {allowed} | {word} |"
    )

"""How many faults the suite really injected, and what came of them: the figures of docs/reliability.md.

A test counts through its fixture `tally`; at the end of the session one table is printed and `.cache/faults.json` is
written. What is counted is what happened (a log line, an exit code, a reply that a proxy kept), never what was planned.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

SYSTEMS = ("kafka", "embedded")
WANTED = {"kafka": 1_000, "embedded": 500}
FILE = Path(__file__).parents[2] / ".cache" / "faults.json"


class Judged(Protocol):
    """What a tally takes of a verdict."""

    @property
    def lost(self) -> int: ...
    @property
    def duplicated(self) -> int: ...
    @property
    def disordered(self) -> int: ...


@dataclass
class Tally:
    """What one test tried. `faults`: {system: {what: how often}}; the other figures are records, over all systems.

    `repeated`: records that came more than once where that is allowed.
    """

    test: str
    promise: str
    faults: dict[str, Counter[str]] = field(default_factory=dict)
    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    disordered: int = 0
    repeated: int = 0
    passed: bool | None = None

    def injected(self, system: str, what: str, count: int = 1) -> None:
        """Count faults that were seen to happen. `what` is a word or two: "kill -9", "exception", "reply lost"."""
        if system not in SYSTEMS:
            raise ValueError(f"there is no system {system!r}; the systems are {', '.join(SYSTEMS)}")
        if count:
            self.faults.setdefault(system, Counter())[what] += count

    def judged(self, system: str, verdict: Judged, *, at_least_once: bool = False) -> None:
        """Add what an oracle found. With `at_least_once`, what came twice or late is no error, and is kept apart."""
        if system not in SYSTEMS:
            raise ValueError(f"there is no system {system!r}; the systems are {', '.join(SYSTEMS)}")
        self.runs += 1
        self.lost += verdict.lost
        if at_least_once:
            self.repeated += verdict.duplicated
        else:
            self.duplicated += verdict.duplicated
            self.disordered += verdict.disordered

    @property
    def count(self) -> int:
        """Faults of all kinds on both systems."""
        return sum(faults.total() for faults in self.faults.values())


class Ledger:
    """The tallies of a session, by test."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}

    def open(self, test: str, promise: str) -> Tally:
        """The tally of a test that begins."""
        return self.tallies.setdefault(test, Tally(test, promise))

    def ended(self, test: str, passed: bool) -> None:
        """Note how a test ended."""
        if test in self.tallies:
            tally = self.tallies[test]
            tally.passed = passed and tally.passed is not False

    def used(self) -> list[Tally]:
        """Those in which something was counted."""
        return sorted((t for t in self.tallies.values() if t.count or t.runs), key=lambda tally: tally.test)

    def totals(self) -> dict[str, int]:
        """Faults by system."""
        return {name: sum(t.faults.get(name, Counter()).total() for t in self.used()) for name in SYSTEMS}

    def write(self, path: Path) -> None:
        """Write everything as JSON, at once or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".new")
        content = {"totals": self.totals(), "wanted": WANTED, "tests": [vars(tally) for tally in self.used()]}
        made.write_text(json.dumps(content, indent=1))
        made.replace(path)

    def lines(self) -> Iterator[str]:
        """The table that is printed: one line for each test function, with the faults of all its cases."""
        yield f"{'promise and test':<96} {'faults tried':>13}  lost/duplicated/reordered"
        for name, tallies in by_function(self.used()).items():
            first = tallies[0]
            found = "/".join(
                str(sum(getattr(t, what) for t in tallies)) for what in ("lost", "duplicated", "disordered")
            )
            repeated = sum(tally.repeated for tally in tallies)
            allowed = f" ({repeated} repeated, as allowed)" if repeated else ""
            failed = "" if all(tally.passed for tally in tallies) else "  FAILED"
            yield f"{first.promise[:96]}"
            yield f"  {name[:94]:<94} {sum(tally.count for tally in tallies):>13}  {found}{allowed}{failed}"
            yield f"    {kinds(tallies)}"
        yield "total: " + ", ".join(f"{count:,} faults on {name}" for name, count in self.totals().items())


def by_function(tallies: list[Tally]) -> Mapping[str, list[Tally]]:
    """{file::function: tallies of its cases}, in order."""
    found: dict[str, list[Tally]] = {}
    for tally in tallies:
        file, _, name = tally.test.rpartition("/")[2].partition("::")
        found.setdefault(f"{file}::{name.partition('[')[0]}", []).append(tally)
    return found


def kinds(tallies: list[Tally]) -> str:
    """The faults of some tallies in words: `kafka: 12 kill -9, 3 exception; embedded: …`."""
    parts = []
    for name in SYSTEMS:
        sum_of: Counter[str] = sum((t.faults.get(name, Counter()) for t in tallies), Counter())
        if sum_of:
            parts.append(f"{name}: " + ", ".join(f"{count} {what}" for what, count in sum_of.most_common()))
    return "; ".join(parts)


def promise_of(test: Any) -> str:
    """The first sentence of a test's docstring, or of its module's."""
    text = getattr(test.function, "__doc__", None) or test.module.__doc__ or test.name
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")

#!/usr/bin/env python3
"""Writes what the last `make faults` found into docs/reliability.md; fails when a test failed or too few faults came.

`reliability.py [FILE]`, by default `.cache/faults.json`, which the fault tests write.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- Written by `make faults`. -->", "<!-- End of what `make faults` wrote. -->"


def table(found: dict[str, Any]) -> str:
    """The Markdown table: one row for each test function, the sums under it."""
    rows = ["| promise | test | faults tried | result |", "| --- | --- | --- | --- |"]
    by_function: dict[str, list[dict[str, Any]]] = {}
    for test in found["tests"]:
        by_function.setdefault(test["test"].partition("[")[0], []).append(test)
    for name, tests in sorted(by_function.items()):
        file, _, function = name.rpartition("/")[2].partition("::")
        promise = tests[0]["promise"].replace("|", "\\|")
        rows.append(f"| {promise} | `{file}` `{function}` | {faults(tests)} | {result(tests)} |")
    totals = ", ".join(f"{count:,} faults on {system}" for system, count in found["totals"].items())
    return "\n".join(rows) + f"\n\nTogether: {totals}; {result(found['tests'])}.\n"


def faults(tests: list[dict[str, Any]]) -> str:
    """The faults of some tests: `Kafka: 183 kill -9; embedded: …`."""
    parts = []
    for system in ("kafka", "embedded"):
        kinds: Counter[str] = sum((Counter(test["faults"].get(system, {})) for test in tests), Counter())
        if kinds:
            parts.append(f"{system}: " + ", ".join(f"{count} {what}" for what, count in kinds.most_common()))
    return "; ".join(parts) or "none counted"


def result(tests: list[dict[str, Any]]) -> str:
    """What came of some tests."""
    lost, duplicated, disordered, repeated = (
        sum(test[what] for test in tests) for what in ("lost", "duplicated", "disordered", "repeated")
    )
    if not any(test["runs"] for test in tests):
        return "passed"
    allowed = f" ({repeated:,} came again where that is allowed)" if repeated else ""
    return f"{lost} lost, {duplicated} duplicated, {disordered} reordered{allowed}"


def problems(found: dict[str, Any]) -> list[str]:
    """Why this run proves too little."""
    said = [f"{test['test']} did not pass" for test in found["tests"] if not test["passed"]]
    for system, wanted in found["wanted"].items():
        if found["totals"][system] < wanted:
            said.append(f"{found['totals'][system]} faults on {system}, expected at least {wanted}")
    return said


def main(path: Path) -> int:
    """Write the page, and judge the run."""
    found = json.loads(path.read_text())
    said = problems(found)
    for problem in said:
        print(f"reliability: {problem}", file=sys.stderr)
    if said:
        return 1
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(found)}\n{END}{tail}")
    print(", ".join(f"{count:,} faults on {system}" for system, count in found["totals"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / ".cache" / "faults.json"))

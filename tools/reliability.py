#!/usr/bin/env python3
"""Writes what the last `make faults` found into docs/reliability.md; fails when a test failed or too few faults came.

`reliability.py [FILE]`, by default `.cache/faults.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def main(path: Path) -> int:
    """Check the totals of the run."""
    found = json.loads(path.read_text())
    problems = [f"{test['test']} did not pass" for test in found["tests"] if not test["passed"]]
    for system, wanted in found["wanted"].items():
        if found["totals"][system] < wanted:
            problems.append(f"{found['totals'][system]} faults on {system}, expected at least {wanted}")
    for problem in problems:
        print(f"reliability: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / ".cache" / "faults.json"))

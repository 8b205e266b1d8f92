"""`make etl`: the example of a whole ETL, as a new user runs it."""

from __future__ import annotations

import json
import os
import subprocess

from demo.etl_example import revenue
from services.process import REPOSITORY


def test_make_etl_shows_revenue_and_dead_letters():
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("STREAMD_")}
    ended = subprocess.run(
        ["make", "--no-print-directory", "etl"],
        cwd=REPOSITORY,
        env=cleared,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    printed = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    by_window = lambda row: (row["window_start"], row["tier"])  # noqa: E731
    assert sorted(printed, key=by_window) == sorted(revenue([]), key=by_window)
    assert "4 dead letters, 4 open" in ended.stdout
    assert "90 records processed" in ended.stderr

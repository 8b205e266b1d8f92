#!/usr/bin/env python3
"""startup.py: what the command line costs before it does anything, as ratios to `python -c pass` in the same run.

Times `streamd --help`, and `streamd validate` over 100 pipeline files, each as a whole process; the median of RUNS.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 11
STREAMD = str(Path(sys.executable).with_name("streamd"))
PIPELINE = """\
name: orders-{n}
description: One of a hundred.
kafka: {{bootstrap: "localhost:9092"}}
source:
  kafka: {{topic: orders-{n}, event_time: {{field: ts, max_future: 1h}}}}
stages:
  - filter: type != "refund" and amount > {n}
  - set:
      eur: round(amount * 1.1, 2)
      big: amount > 400
      country: upper(get(address.country, "de"))
  - id: region
    route:
      outputs:
        eu: country in ["DE", "FR"]
        us: country == "US"
      otherwise: rest
sinks:
  - {{id: eu, from: region.eu, kafka: {{topic: eu-{n}, key: user}}}}
  - {{id: other, from: [region.us, region.rest], file: {{path: "out-{n}-{{partition}}.ndjson"}}}}
on_error: {{dead_letter: {{kafka: {{topic: orders-{n}-dlq}}}}}}
"""


def median_seconds(command: list[str]) -> float:
    """Median wall time of the command over RUNS runs."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for n in range(100):
            (Path(folder) / f"{n}.yaml").write_text(PIPELINE.format(n=n))
        base = median_seconds([sys.executable, "-c", "pass"])
        print("| command | median s | × `python -c pass` |\n|---|---:|---:|")
        print(f"| python -c pass | {base:.3f} | 1.0 |")
        for name, command in {
            "streamd --help": [STREAMD, "--help"],
            "streamd validate (100 files)": [STREAMD, "validate", folder],
        }.items():
            seconds = median_seconds(command)
            print(f"| {name} | {seconds:.3f} | {seconds / base:.1f} |")


if __name__ == "__main__":
    main()

"""A soak: constant load, one fault a minute, and everything must stay exact and flat.

    bench/soak.py [--minutes 20 | --hours 8] [--seed 1] [--rate 2000] [--state] [--out bench/SOAK.md] [--bootstrap …]

Two nodes of two workers each over a Kafka broker of its own (or, with --bootstrap, one that runs already: it is then
neither restarted nor cut off). Memory, open files, threads, and what the event loops hold are sampled every few
seconds. Exits with 1 when a record was lost, doubled or disordered, and when a series rises; the bounds are in
tests/soaking/sampler.py, and in the page that is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from soaking.report import page
from soaking.run import Options, soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--hours", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=2000, help="records a second")
    parser.add_argument("--every", type=float, default=60.0, help="seconds from one fault to the next")
    parser.add_argument("--state", action="store_true", help="keep running totals for each key as well")
    parser.add_argument("--only", default="", help="faults whose name begins so, to look into one")
    parser.add_argument("--bootstrap", help="HOST:PORT of a broker that runs already")
    parser.add_argument("--out", type=Path, help="where the page goes; standard output by default")
    parser.add_argument("--samples", type=Path, help="where all samples go, as JSON")
    given = parser.parse_args()
    seconds = (given.hours * 60 if given.hours else given.minutes) * 60
    # Short runs are for trying it out: they judge what little there is.
    scale = min(1.0, seconds / 1200)
    options = Options(
        seconds=seconds,
        every=given.every,
        rate=given.rate,
        seed=given.seed,
        state=given.state,
        warm_up=180 * scale,
        shortest=300 * scale,
        only=given.only,
        bootstrap=given.bootstrap,
    )
    # Reconnecting is what happens here all the time; the nodes' own logs stay as they are.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"nodes, broker and their logs: {folder} (deleted when all went well)", flush=True)
    outcome = asyncio.run(soak(folder, options))
    if outcome.exact:
        shutil.rmtree(folder, ignore_errors=True)
    text = page(outcome, len(os.sched_getaffinity(0)))
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text)
    if given.samples is not None:
        lives = {"/".join(map(str, who)): asdict(life) for who, life in outcome.lives.items()}
        given.samples.write_text(json.dumps(lives))
    for who, what, found in outcome.risen:
        print(
            f"{who.node} {who.role} {who.pid}: {what} rises by {found.slope:g} an hour, {found.allowed:g} are allowed"
        )
    print("exact" if outcome.exact else f"NOT EXACT: {outcome.verdict} {outcome.again} {outcome.codes} {outcome.open}")
    sys.exit(0 if outcome.exact and not outcome.risen else 1)


if __name__ == "__main__":
    main()

"""How long output stands still when a worker is killed with -9 while input flows.

    bench/resume.py [--kills 10] [--workers 2] [--between 3] [--bootstrap HOST:PORT] [kafka] [embedded]

For each kill: the seconds until a record that was fed after it has come out of every input partition, so with starting
the replacement, recovering and catching up. Without --bootstrap a Kafka broker of its own is started.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faults.campaign import flow, strike
from faults.daemon import Daemon
from faults.systems import EmbeddedSystem, KafkaSystem, System
from services.kafka import KafkaBroker
from services.process import tail


async def measure(system: System, kills: int, workers: int, between: float) -> list[float]:
    """The stall of each kill, in seconds; raises AssertionError when the output is not exact."""
    await system.open()
    daemon = Daemon(system.folder, workers=workers)
    await daemon.start()
    chance, enough = random.Random(7), asyncio.Event()
    stalls: list[float] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(flow(system, enough, chance, pause=0.04))
            await system.until(lambda: min(system.newest.values()) >= 0, "the first output")
            for _ in range(kills):
                await asyncio.sleep(between * (0.5 + chance.random()))
                await strike(daemon, chance)
                began = time.monotonic()
                stalls.append(await system.resumed() - began)
                print(f"  {stalls[-1]:.2f}", end="", flush=True)
            enough.set()
        print()
        await system.complete()
        assert await daemon.drain() == 0
        verdict = await system.verdict()
        assert verdict.exact, verdict
    except BaseException:
        print(tail(daemon.log), file=sys.stderr)
        raise
    finally:
        daemon.kill()
        await system.close()
    return stalls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", choices=["kafka", "embedded", "all"], default="all")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--between", type=float, default=3.0, help="seconds between two kills, on average")
    parser.add_argument("--bootstrap")
    options = parser.parse_args()
    if "all" in options.systems:
        options.systems = ["kafka", "embedded"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resume-")))
        bootstrap = options.bootstrap
        if bootstrap is None and "kafka" in options.systems:
            broker = KafkaBroker(folder / "broker")
            stack.callback(broker.discard)
            broker.start()
            bootstrap = broker.bootstrap
        for name in options.systems:
            (run := folder / name).mkdir()
            system = KafkaSystem(run, bootstrap) if name == "kafka" else EmbeddedSystem(run)
            stalls = asyncio.run(measure(system, options.kills, options.workers, options.between))
            print(
                f"{name}: {len(stalls)} kills of {options.workers} workers: median {statistics.median(stalls):.2f} s, "
                f"longest {max(stalls):.2f} s (load {os.getloadavg()[0]:.1f})"
            )


if __name__ == "__main__":
    main()

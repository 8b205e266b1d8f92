"""What whole pipelines cost per record: `streamd run` from files to a file, one worker, everything exactly once.

    python bench/whole.py [--records 500000] [--rounds 3] [windows] [sparse] [hot] [exchange] [joins]

CPU time of the process tree for each input record, without starting and stopping, which a run over a few records shows;
the least of several rounds, in which all shapes take turns. `x` is how many times as long as the first of its group it
takes.

`windows`: 10,000 users with three events in a minute; `sparse`: 100,000 users, who have mostly one event in 12 s, if
any; `hot`: 100 users. `exchange`: a count per user with the records in place, and moved to their partitions first.
`joins`: orders and their payments within 10 s. `commit_interval` is 2 s, so that on a machine with other work a
checkpoint has about as many records as elsewhere.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

BASE = 1_700_000_000_000
FEW = 1000


SINK = "sink: {file: {path: out.ndjson}}"
WINDOW = """
name: bench
commit_interval: 2s
source: {{file: {{path: {path}, event_time: ts}}}}
stages:
  - window: {{by: user, {window}, grace: 5s, aggregate: {{count: count(), sum: sum(amount)}}}}
"""
JOIN = """
name: bench
commit_interval: 2s
sources:
  orders: {{file: {{path: orders.ndjson, event_time: ts}}}}
  payments: {{file: {{path: payments.ndjson, event_time: ts}}}}
stages:
  - id: paid
    join:
      left: orders
      right: payments
      on: order
      within: {within}
      type: {type}
      fields: {{order: orders.order, amount: orders.amount, by: 'get(payments.by)'}}
"""


def window(shape: str, path: str = "events.ndjson") -> str:
    """A pipeline that counts and sums per user."""
    return WINDOW.format(window=shape, path=path) + SINK


def join(within: str, kind: str = "inner") -> str:
    """A pipeline that joins orders with payments."""
    return JOIN.format(within=within, type=kind) + SINK.replace("{file", "{from: paid, file", 1)


# {group: (users, {name: pipeline})}; with 0 users it is orders and payments
GROUPS = {
    "windows": (
        10_000,
        {
            "tumbling 60s": window("tumbling: 60s"),
            "hopping 60s every 10s": window("hopping: {size: 60s, every: 10s}"),
            "session, gap 30s": window("session: {gap: 30s}"),
        },
    ),
    "sparse": (
        100_000,
        {
            "tumbling 12s": window("tumbling: 12s"),
            "hopping 12s every 2s": window("hopping: {size: 12s, every: 2s}"),
            "session, gap 12s": window("session: {gap: 12s}"),
        },
    ),
    "hot": (
        100,
        {
            "tumbling 60s, 100 users": window("tumbling: 60s"),
            "hopping 60s every 10s, 100 users": window("hopping: {size: 60s, every: 10s}"),
            "session, gap 30s, 100 users": window("session: {gap: 30s}"),
        },
    ),
    "exchange": (
        10_000,
        {
            "tumbling 10s": window("tumbling: 10s"),
            "tumbling 10s, behind an exchange": window("tumbling: 10s", "events*.ndjson"),
        },
    ),
    "joins": (
        0,
        {
            "join within 10s": join("10s"),
            "join within 10m": join("10m"),
            "join within 10s, left": join("10s", "left"),
        },
    ),
}


def events(count: int, users: int) -> Iterator[tuple[str, str]]:
    """(file, document of about 217 bytes): one in 2 ms, up to 500 ms out of order."""
    dice = random.Random(7)
    for n in range(count):
        at, user, amount = BASE + 2 * n + dice.randint(-500, 500), dice.randrange(users), round(dice.random() * 500, 2)
        document = (
            f'{{"event_id":"{n:012}","user":"user-{user}","type":"{dice.choice(("view", "click"))}","ts":{at},'
            f'"amount":{amount},"currency":"EUR","country":"DE","session":"{dice.getrandbits(64):016x}",'
            f'"url":"/p/{dice.randrange(1000)}?ref={dice.randrange(100)}","ua":"Mozilla/5.0 (X11; Linux x86_64)"}}\n'
        )
        yield "events.ndjson", document


def orders(count: int) -> Iterator[tuple[str, str]]:
    """(file, document): a payment for each order, up to 10 s after it."""
    dice = random.Random(7)
    for n in range(count // 2):
        at = BASE + n * 4
        paid = at + dice.randrange(10_000)
        yield "orders.ndjson", f'{{"order":"o-{n:08}","ts":{at},"user":"user-{n % 997}","amount":{n % 500}.5}}\n'
        yield "payments.ndjson", f'{{"order":"o-{n:08}","ts":{paid},"by":"card","paid":{n % 500}.5}}\n'


def write(folder: Path, lines: Iterator[tuple[str, str]]) -> None:
    """The input, in the order of time as far as the generators say."""
    folder.mkdir(parents=True)
    by_file: dict[str, list[str]] = {}
    for name, line in lines:
        by_file.setdefault(name, []).append(line)
    for name, found in by_file.items():
        if name == "payments.ndjson":
            found.sort(key=lambda line: line[line.index('"ts"') :])
        (folder / name).write_text("".join(found))


def run(folder: Path, pipeline: str) -> tuple[float, int]:
    """(CPU seconds of the process tree, lines of output)"""
    shutil.rmtree(folder / ".streamd", ignore_errors=True)
    (folder / "out.ndjson").unlink(missing_ok=True)
    (folder / "bench.yaml").write_text(pipeline)
    (folder / "streamd.yaml").write_text("app: bench\nworkers: 1\nhttp: {enabled: false}\n")
    before = spent()
    streamd = Path(sys.executable).with_name("streamd")
    done = subprocess.run([streamd, "run", "bench.yaml", "--until-idle"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    with (folder / "out.ndjson").open("rb") as out:
        return spent() - before, sum(1 for _ in out)


def spent() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(place: Path, group: str, records: int, rounds: int) -> None:
    """Print a group's lines."""
    users, shapes = GROUPS[group]
    for name, count in (("few", FEW), ("many", records)):
        write(place / group / name, events(count, users) if users else orders(count))
    idle, best, lines = {}, {}, {}
    for number in range(rounds):
        for name, pipeline in shapes.items():
            if number == 0:
                idle[name] = run(place / group / "few", pipeline)[0]
            took, lines[name] = run(place / group / "many", pipeline)
            best[name] = min(best.get(name, 9e9), took)
    first = 0.0
    for name in shapes:
        each = (best[name] - idle[name]) / (records - FEW) * 1e6
        first = first or each
        print(
            f"{name:34} {each:6.2f} µs/record  {each / first:5.2f} x  {lines[name] / records:5.2f} results/record  "
            f"(start and stop {idle[name]:.2f} s)",
            flush=True,
        )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=list(GROUPS))
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for group in given.groups:
            measure(Path(folder), group, given.records, given.rounds)


if __name__ == "__main__":
    main()

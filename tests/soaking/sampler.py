"""What the processes of nodes use, sampled while they run: from the kernel, and from the nodes' own metrics."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from faults.daemon import Daemon
from soaking.flat import Bound, Series, Trend, trend

MB = 1e6

# {series: (unit, what it is divided by to be shown, how much it may rise in an hour)}. RSS is judged rather than PSS: a
# process's share of shared pages rises when another process ends.
BOUNDS = {
    "rss": ("MB", MB, Bound(share=0.10, floor=6 * MB)),
    "blocks": ("thousand", 1e3, Bound(share=0.05, floor=10_000)),
    "files": ("", 1.0, Bound(share=0.10, floor=6)),
    "threads": ("", 1.0, Bound(share=0.0, floor=2)),
    "tasks": ("", 1.0, Bound(share=0.10, floor=6)),
    "futures": ("", 1.0, Bound(share=0.25, floor=20)),
}
SHOWN_ONLY = ("pss",)
_GAUGES = {
    "streamd_process_allocated_blocks": "blocks",
    "streamd_event_loop_tasks": "tasks",
    "streamd_event_loop_futures": "futures",
}
_LINE = re.compile(r'^(\w+)\{worker="(\w+)"\} (\S+)$', re.MULTILINE)


class Who(NamedTuple):
    """A process in one role. A spare worker that takes a place is another one from then on."""

    node: str
    role: str
    pid: int


@dataclass(slots=True)
class Life:
    """The samples of one process in one role. `load`: how many tasks it had at each, by time."""

    born: float
    series: dict[str, Series] = field(default_factory=dict)
    load: dict[float, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.series["rss"].seconds if "rss" in self.series else 0.0


@dataclass(slots=True)
class Sampler:
    """Samples nodes every few seconds. `lives`: everything found so far."""

    lives: dict[Who, Life] = field(default_factory=dict)

    async def watch(self, nodes: dict[str, Daemon], every: float) -> None:
        """Sample until cancelled; `nodes` may change meanwhile."""
        while True:
            await asyncio.gather(*(self.sample(name, node) for name, node in list(nodes.items())))
            await asyncio.sleep(every)

    async def sample(self, name: str, node: Daemon) -> None:
        """One sample of one node; one that does not run gives none."""
        try:
            supervisor = node.pid
        except RuntimeError:
            return
        now = time.monotonic()
        pids = [supervisor, *node.children()]
        places = {place["pid"]: place for place in await node.places()}
        gauges = await asyncio.to_thread(_gauges, node)
        for pid in pids:
            place = places.get(pid)
            role = "supervisor" if pid == supervisor else f"worker {place['worker']}" if place else _other(pid)
            found = _usage(pid)
            if not found:
                continue
            if role == "supervisor" or place:
                found |= gauges.get("supervisor" if place is None else str(place["worker"]), {})
            life = self.lives.setdefault(Who(name, role, pid), Life(now))
            life.load[now] = place["tasks"] if place else 0
            for what, value in found.items():
                life.series.setdefault(what, Series()).add(now, value)

    def trends(self, warm_up: float, shortest: float) -> dict[Who, dict[str, Trend]]:
        """Of every process that lived long enough: at least `shortest` seconds beyond its warm-up.

        Only samples with its usual number of tasks count: what a partition needs while it visits is no leak.
        """
        found: dict[Who, dict[str, Trend]] = {}
        for who, life in self.lives.items():
            begin = life.born + warm_up
            if life.seconds < warm_up + shortest:
                continue
            usual = _usual(life, begin)
            for what, samples in life.series.items():
                kept = _only(samples.after(begin), life, usual)
                if kept.seconds >= shortest and len(kept) > 2:
                    bound = BOUNDS[what][2] if what in BOUNDS else Bound(share=1e9, floor=1e18)
                    found.setdefault(who, {})[what] = trend(kept, bound)
        return found


def _usual(life: Life, begin: float) -> int:
    counted = Counter(load for at, load in life.load.items() if at >= begin)
    return counted.most_common(1)[0][0] if counted else 0


def _only(samples: Series, life: Life, load: int) -> Series:
    kept = Series()
    for at, value in zip(samples.times, samples.values, strict=True):
        if life.load.get(at) == load:
            kept.add(at, value)
    return kept


def _other(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "spare"
    return "fork server" if b"streamd.runtime.fork_server" in command else "spare"


def _usage(pid: int) -> dict[str, float]:
    """What the kernel says of a process; nothing when it has ended or stands at its end."""
    folder = Path(f"/proc/{pid}")
    try:
        rollup = dict(line.split(":", 1) for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
        return {
            "rss": int(rollup["Rss"].split()[0]) * 1024.0,
            "pss": int(rollup["Pss"].split()[0]) * 1024.0,
            "files": float(sum(1 for _ in (folder / "fd").iterdir())),
            "threads": float(sum(1 for _ in (folder / "task").iterdir())),
        }
    except (OSError, KeyError, ValueError):
        return {}


def _gauges(node: Daemon) -> dict[str, dict[str, float]]:
    """{worker label: {series: value}} of what a node says of itself."""
    found: dict[str, dict[str, float]] = {}
    try:
        with urllib.request.urlopen(f"{node.url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return found
    for name, worker, value in _LINE.findall(text):
        if name in _GAUGES:
            found.setdefault(worker, {})[_GAUGES[name]] = float(value)
    return found

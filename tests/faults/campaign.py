"""Input that flows, a killer that strikes at random moments of it, and schedules of faults at named points."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from faults.daemon import Daemon, state_of
from faults.systems import System
from streamd.runtime.faults import POINTS

SLICE = 200  # records fed at once
# The points in workers at work, and those of them that are passed only when a task opens.
AT_WORK = tuple(point for point in POINTS if point not in ("in_assign", "in_revoke", "in_last_mark"))
OPENING = ("in_open", "in_restore")


@dataclass
class Campaign:
    """How it went. `stalls`: for each kill the seconds until records fed after it came out of every partition."""

    kills: int = 0
    stalls: list[float] = field(default_factory=list)


async def flow(
    system: System, enough: asyncio.Event, chance: random.Random, pause: float = 0.01, ahead: int | None = None
) -> None:
    """Feed a slice every few milliseconds until told that it is enough; at most `ahead` records before the output."""
    while not enough.is_set():
        if ahead is None or system.fed - system.came < ahead:
            await system.feed(SLICE)
        await asyncio.sleep(chance.random() * pause)


def schedule(seed: int, rates: Mapping[str, float], points: Sequence[str] = AT_WORK) -> str:
    """`STREAMD_FAULT` for faults at all points mixed. `rates`: {action: about how often at each passing}.

    A task passes most points several times a second, and those of its opening only after another fault.
    """
    chance = random.Random(seed)
    planned = []
    for point in points:
        for action, rate in rates.items():
            often = rate * (0.5 + chance.random()) * (2 if point in OPENING else 1)
            planned.append(f"{point}:{action}:{often:.4f}")
    return ",".join(planned)


async def storm(
    system: System,
    daemon: Daemon,
    enough: Callable[[Counter[tuple[str, str]]], bool],
    seed: int,
    *,
    deadline: float = 120.0,
    pause: float = 0.01,
) -> Counter[tuple[str, str]]:
    """Feed a node that was started with a schedule until what was injected is enough, and everything has come out.

    Returns {(point, action): how often}. Workers that stopped themselves are woken after a moment.
    """
    chance = random.Random(seed)
    fed, awake = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_wake(daemon, awake, random.Random(seed + 1)))
        feeding = group.create_task(flow(system, fed, chance, pause, ahead=20 * SLICE))
        try:
            async with asyncio.timeout(deadline):
                while not enough(daemon.faults()):
                    daemon.check()
                    system.check()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"too few faults within {deadline:g} s: {daemon.faults()}") from None
        fed.set()
        await feeding
        await system.complete()
        awake.set()
    return daemon.faults()


async def _wake(daemon: Daemon, enough: asyncio.Event, chance: random.Random) -> None:
    while not enough.is_set():
        stopped = [pid for pid in daemon.children() if state_of(pid) == "T"]
        await asyncio.sleep(0.02 + chance.random() * 0.1)
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def kill_often(system: System, daemon: Daemon, *, kills: int, records: int, seed: int) -> Campaign:
    """Feed `records`, and within each of `kills` equal shares of them kill a worker with -9 at a random moment.

    Returns once everything is fed and output has resumed after the last kill.
    """
    chance = random.Random(seed)
    campaign = Campaign()
    share = records // kills
    async with asyncio.TaskGroup() as group:
        feeding = group.create_task(_feed(system, campaign, share, records, random.Random(seed + 1)))
        await system.until(lambda: min(system.newest.values()) >= 0, "the first output")
        for number in range(kills):
            moment = int((number + chance.random() * 0.5) * share)
            await system.until(lambda moment=moment: system.fed >= moment, "the moment of the next kill")
            await asyncio.sleep(chance.random() * 0.02)
            await strike(daemon, chance)
            began = time.monotonic()
            campaign.stalls.append(await system.resumed() - began)
            campaign.kills += 1
            daemon.check()
        await feeding
    return campaign


async def _feed(system: System, campaign: Campaign, share: int, records: int, chance: random.Random) -> None:
    """One share for each kill, flowing; and on until output has resumed, as long as there is any left."""
    while system.fed < records:
        allowed = records if campaign.kills * share >= records - share else (campaign.kills + 1) * share
        # The last slices of a share are fed slowly, so that there is input after each kill until it is overcome.
        behind = allowed - system.fed
        await system.feed(min(SLICE if behind > share // 4 else SLICE // 20, records - system.fed, max(behind, 1)))
        await asyncio.sleep(chance.random() * 0.01)


async def strike(daemon: Daemon, chance: random.Random, number: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal to one of the workers, chosen by chance; its pid."""
    async with asyncio.timeout(30):
        while not (active := await daemon.at_work()):
            daemon.check()
            await asyncio.sleep(0.01)
    pid = chance.choice(active)
    os.kill(pid, number)
    return pid

"""Input that flows, and a killer that strikes at random moments of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field

from faults.daemon import Daemon
from faults.systems import System

SLICE = 200  # records fed at once


@dataclass
class Campaign:
    """How it went. `stalls`: for each kill the seconds until records fed after it came out of every partition."""

    kills: int = 0
    stalls: list[float] = field(default_factory=list)


async def flow(system: System, enough: asyncio.Event, chance: random.Random, pause: float = 0.01) -> None:
    """Feed a slice every few milliseconds until told that it is enough."""
    while not enough.is_set():
        await system.feed(SLICE)
        await asyncio.sleep(chance.random() * pause)


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

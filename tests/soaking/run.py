"""One soak: constant load, a fault now and then, samples all along, and a verdict at the end."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from faults.oracle import Verdict
from faults.proxy import Proxy
from services.kafka import KafkaBroker
from services.process import tail
from soaking.flat import Trend
from soaking.load import Load
from soaking.mix import Fault, Mix
from soaking.sampler import BOUNDS, Life, Sampler, Who


@dataclass(frozen=True, slots=True)
class Options:
    """All times in seconds. `every`: from one fault to the next; `warm_up`, `shortest`: of a process that is judged.

    `only`: how the faults' names begin, of which there are to be any. `bootstrap`: a broker that runs already and is
    left alone; None for one of the soak's own.
    """

    seconds: float = 1200.0
    every: float = 60.0
    rate: int = 2000
    seed: int = 1
    state: bool = False
    warm_up: float = 180.0
    shortest: float = 300.0
    sampled: float = 5.0
    only: str = ""
    bootstrap: str | None = None


@dataclass(slots=True)
class Outcome:
    """How a soak went. `verdict` is of what was followed, `again` of the whole output read once more.

    `codes`: exit codes of the nodes; `open`: output partitions with a transaction left open; `lives`: the samples;
    `trends` of every process that lived long enough; `broker`: its resident memory in bytes, at the start and the end.
    """

    options: Options
    seconds: float
    records: int
    faults: list[Fault]
    verdict: Verdict
    again: Verdict
    codes: dict[str, int]
    open: int
    lives: dict[Who, Life]
    trends: dict[Who, dict[str, Trend]]
    broker: list[float] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Nothing lost, twice, or out of order; nodes ended in order, and left nothing open."""
        return self.verdict.exact and self.again.exact and not any(self.codes.values()) and not self.open

    @property
    def risen(self) -> list[tuple[Who, str, Trend]]:
        """What is not flat."""
        return [
            (who, what, found)
            for who, trends in self.trends.items()
            for what, found in trends.items()
            if what in BOUNDS and not found.flat
        ]


async def soak(folder: Path, options: Options) -> Outcome:
    """Run one. Raises TimeoutError when output does not go on after a fault, ServiceError when a node ends."""
    broker = None
    if options.bootstrap is None:
        broker = KafkaBroker(folder / "broker", proxied=True)
        await asyncio.to_thread(broker.start)
    bootstrap = options.bootstrap or broker.bootstrap  # type: ignore[union-attr]
    behind = broker.behind_proxy if broker else bootstrap
    host, _, port = behind.rpartition(":")
    proxy = Proxy(host, int(port), seed=options.seed)
    await proxy.start(broker.proxy_port if broker else 0)
    try:
        # A broker that is not ours sends its clients to itself, not to our proxy.
        through = f"127.0.0.1:{proxy.port}" if broker else bootstrap
        load = Load(bootstrap, options.rate, options.state)
        mix = Mix(folder, load, broker, proxy, await load.open(through), options.seed, options.only)
        try:
            return await _run(options, load, mix, broker)
        except BaseException:
            for name, node in mix.nodes.items():
                print(
                    f"--- {name}\n{tail(node.log)}\n{await node.told('pipelines')}\n{await node.places()}", flush=True
                )
            raise
        finally:
            mix.kill()
            await load.close()
    finally:
        await proxy.stop()
        if broker is not None:
            await asyncio.to_thread(broker.discard)


async def _run(options: Options, load: Load, mix: Mix, broker: KafkaBroker | None) -> Outcome:
    began = time.monotonic()
    sampler = Sampler()
    memory = [_resident(broker)]
    await mix.start()
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(load.follow())
        watcher = group.create_task(sampler.watch(mix.nodes, options.sampled))
        enough = asyncio.Event()
        feeder = group.create_task(load.feed(enough))
        await load.resumed(60.0)
        await _strike(options, load, mix, began)
        await asyncio.sleep(began + options.seconds - time.monotonic())
        enough.set()
        await feeder
        await load.complete(120.0)
        memory.append(_resident(broker))
        watcher.cancel()
        codes = await mix.drain()
        follower.cancel()
    verdict, again = await load.verdicts()
    return Outcome(
        options=options,
        seconds=time.monotonic() - began,
        records=load.fed,
        faults=mix.done,
        verdict=verdict,
        again=again,
        codes=codes,
        open=await load.open_transactions(),
        lives=sampler.lives,
        trends=sampler.trends(options.warm_up, options.shortest),
        broker=memory,
    )


async def _strike(options: Options, load: Load, mix: Mix, began: float) -> None:
    """A fault in each interval but the first and the last; the judge is asked after each."""
    chance = random.Random(options.seed)
    number = 1
    while began + (number + 1) * options.every <= began + options.seconds:
        moment = began + (number + 0.2 * chance.random()) * options.every
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        await mix.strike()
        fault = mix.done[-1]
        print(f"{fault.at:7.0f} s  {fault.kind} ({fault.whom}): output after {fault.stall:.2f} s", flush=True)
        if load.judged.faults:
            raise AssertionError(f"The output is wrong after this fault: {load.judged.verdict(load.fed, {}, {})}")
        number += 1


def _resident(broker: KafkaBroker | None) -> float:
    if broker is None:
        return 0.0
    return int(Path(f"/proc/{broker.pid}/statm").read_text().split()[1]) * 4096.0

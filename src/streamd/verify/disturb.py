"""The disturbed run: input flows, and workers and nodes are killed while it does."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamd.errors import StreamdError
from streamd.verify.feed import Feed
from streamd.verify.nodes import STOPPED_WITHIN, Node, NodeFailedError, strike
from streamd.verify.progress import Place, Probe, Stalls
from streamd.verify.schedule import OPEN_POINTS, REBALANCE_POINTS, Strike

POLL = 0.05  # seconds between two looks at what is committed
REACHED_WITHIN = 10.0  # seconds for somebody to come to a point
RESUMED_WITHIN = 90.0  # seconds without any progress of a partition: then it hangs
_TRICKLE = 0.02  # seconds between two slices of input


class StuckError(StreamdError):
    """The pipeline does not go on after a kill."""


@dataclass
class Disturbance:
    """What was done to a run. `kills`: by what really happened; `not_reached`: points that nobody came to in time."""

    kills: Counter[str] = field(default_factory=Counter)
    not_reached: Counter[str] = field(default_factory=Counter)
    rebalances: int = 0
    longest_stall: float = 0.0
    seconds: float = 0.0
    out_of_time: bool = False

    @property
    def total(self) -> int:
        """Processes killed."""
        return self.kills.total()


class Tickets:
    """Files that have a worker or a node kill itself at a point, and the log of what they really did."""

    def __init__(self, folder: Path, points: Sequence[str]) -> None:
        self._folder = folder
        self._points = points
        folder.mkdir(parents=True, exist_ok=True)

    def environment(self, seed: int) -> dict[str, str]:
        """What the nodes are to be started with."""
        faults = ",".join(f"{point}:kill9:@{self._folder / point}" for point in self._points)
        return {"STREAMD_FAULT": faults, "STREAMD_FAULT_SEED": str(seed), "STREAMD_FAULT_LOG": str(self._log)}

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def put(self, point: str) -> None:
        """Have whoever comes next to the point kill itself."""
        (self._folder / point).touch()

    def open(self, point: str) -> bool:
        """Whether nobody has come to the point yet."""
        return (self._folder / point).exists()

    def withdraw(self, point: str) -> bool:
        """Take the ticket back; False when somebody was faster."""
        try:
            (self._folder / point).unlink()
        except FileNotFoundError:
            return False
        return True

    def done(self) -> Counter[str]:
        """Kills by point, as those wrote down who were killed."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return Counter(line.split()[1] for line in lines if line.endswith(" kill9"))


class Disturber:
    """Strikes a run by a schedule. `progress` is called with what has been done so far."""

    def __init__(
        self,
        nodes: Sequence[Node],
        feed: Feed,
        probe: Probe,
        tickets: Tickets,
        *,
        visible: frozenset[str],
        records: int,
        seed: int,
        on_progress: Callable[[Disturbance], None],
    ) -> None:
        """`visible`: ids of the sources whose committed positions the probe sees."""
        self._nodes, self._feed, self._probe, self._tickets = nodes, feed, probe, tickets
        self._records = records
        self._chance = random.Random(f"strikes {seed}")
        self._on_progress = on_progress
        self._stalls = Stalls()
        self._visible = visible
        self._allowed = 0
        self._struck: Counter[str] = Counter()
        self.done = Disturbance()

    async def run(self, schedule: Sequence[Strike], seconds: float) -> Disturbance:
        """Strike until the schedule or the time is over, and wait until all input is committed.

        Raises StuckError when the pipeline does not go on, NodeFailedError when it fails for good.
        """
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(self._flow()), group.create_task(self._watch(began))]
                await self._strike_all(schedule, began + seconds)
                self._allowed = self._records
                await self._feed.up_to(self._records)
                await self._resumed()
                for task in watching:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._note(began)
        return self.done

    async def _strike_all(self, schedule: Sequence[Strike], deadline: float) -> None:
        share = max(1, self._records // (len(schedule) + 1))
        self._allowed = share
        await self._feed.up_to(share)
        await self._resumed()
        # What the nodes took to start is no stall.
        self._stalls.longest = 0.0
        for number, planned in enumerate(schedule):
            if time.monotonic() > deadline:
                self.done.out_of_time = True
                return
            # A burst, so that there is something in flight; the rest of the share trickles in until output resumes.
            self._allowed = (number + 2) * share
            await self._feed.up_to(min(self._feed.fed + share // 2, self._allowed, self._records))
            await asyncio.sleep(planned.after)
            await self._strike(planned)
            await self._bring_back()
            await self._resumed()

    async def _strike(self, planned: Strike) -> None:
        if planned.what == "worker":
            await self._kill_worker()
        elif planned.what == "node":
            self._kill_node()
        else:
            await self._kill_at(planned.point)

    async def _kill_worker(self) -> None:
        deadline = time.monotonic() + RESUMED_WITHIN
        while time.monotonic() < deadline:
            pids = [pid for node in self._nodes if node.running for pid in await node.workers_with_tasks()]
            if pids and strike(self._chance.choice(pids)):
                self._struck["worker"] += 1
                return
            await self._bring_back()
            await asyncio.sleep(POLL)
        raise StuckError(f"no worker has had anything to do for {RESUMED_WITHIN:g} s after a kill")

    def _kill_node(self) -> None:
        node = self._chance.choice([node for node in self._nodes if node.running] or list(self._nodes))
        node.kill()
        self._struck["node"] += 1

    async def _kill_at(self, point: str) -> None:
        self._tickets.put(point)
        if point in OPEN_POINTS:
            await self._kill_worker()
        elif point in REBALANCE_POINTS:
            # A node that goes and comes is what rebalances a group.
            node = self._chance.choice(self._nodes)
            await node.stop(STOPPED_WITHIN)
            node.kill()
            node.start()
        deadline = time.monotonic() + REACHED_WITHIN * (2 if point in REBALANCE_POINTS else 1)
        while self._tickets.open(point) and time.monotonic() < deadline:
            await self._bring_back()
            # Somebody comes there only while there is input.
            self._allowed = max(self._allowed, self._feed.fed + 1)
            await asyncio.sleep(POLL / 5)
        if self._tickets.withdraw(point):
            self.done.not_reached[point] += 1

    async def _bring_back(self) -> None:
        """Start the nodes that were killed again. Raises NodeFailedError for one that ended by itself."""
        for node in self._nodes:
            if not node.running:
                ended = await node.wait(1.0)
                if ended is not None and ended.error:
                    raise NodeFailedError(ended.error)
                node.kill()
                node.start()

    async def _resumed(self) -> None:
        """Return once everything that is there now is committed. Input goes on meanwhile."""
        marks = self._marks()
        if not marks:
            await self._checkpointed()
        last, behind = time.monotonic(), self._behind(marks)
        while behind:
            await self._bring_back()
            await asyncio.sleep(POLL)
            now_behind = self._behind(marks)
            if now_behind != behind:
                last, behind = time.monotonic(), now_behind
            elif time.monotonic() - last > RESUMED_WITHIN:
                where = ", ".join(f"{source}[{partition}]" for source, partition in behind)
                raise StuckError(f"nothing more is committed of {where} within {RESUMED_WITHIN:g} s after a kill")

    async def _checkpointed(self) -> None:
        """Return once a checkpoint was made from now on, where nobody sees positions."""
        before = [await node.checkpoints() for node in self._nodes]
        deadline = time.monotonic() + RESUMED_WITHIN
        while self._feed.fed < self._records and not any(
            [await node.checkpoints() > known for node, known in zip(self._nodes, before, strict=True)]
        ):
            await self._bring_back()
            await asyncio.sleep(POLL * 4)
            if time.monotonic() > deadline:
                raise StuckError(f"no checkpoint was made within {RESUMED_WITHIN:g} s after a kill")

    def _behind(self, marks: dict[Place, int]) -> dict[Place, int]:
        return {place: self._stalls.position(place) for place in self._stalls.behind(marks)}

    def _marks(self) -> dict[Place, int]:
        """Where the input ends now, of what can be seen."""
        return {place: end for place, end in self._feed.ends().items() if place[0] in self._visible}

    async def _flow(self) -> None:
        """Trickle input in, as far as it is allowed."""
        while True:
            if self._feed.fed < min(self._allowed, self._records):
                left = min(self._allowed, self._records) - self._feed.fed
                await self._feed.up_to(self._feed.fed + max(1, left // 64))
            await asyncio.sleep(_TRICKLE * (0.5 + self._chance.random()))

    async def _watch(self, began: float) -> None:
        """Note what is committed, again and again, and the nodes' health once a second."""
        checked = 0.0
        while True:
            committed = await self._probe.committed()
            self._stalls.saw(committed, self._marks())
            if time.monotonic() - checked > 1.0:
                checked = time.monotonic()
                for node in self._nodes:
                    if node.running:
                        await node.check()
                self._note(began)
                self._on_progress(self.done)
            await asyncio.sleep(POLL)

    def _note(self, began: float) -> None:
        self.done.kills = self._struck + self._tickets.done()
        self.done.rebalances = sum(node.rebalances for node in self._nodes)
        self.done.longest_stall = self._stalls.longest
        self.done.seconds = time.monotonic() - began

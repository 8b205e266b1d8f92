"""What a run has committed, as its transport says, and how long it stood still."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

Place = tuple[str, int]
"""(source id, partition)"""


class Probe(Protocol):
    """Looks at committed positions from outside."""

    async def committed(self) -> dict[Place, int]:
        """{(source id, partition): committed position}, of all that can be seen."""

    async def close(self) -> None:
        """Release everything."""


class EmbeddedProbe:
    """Positions in the embedded log of an app. It is read, never written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def committed(self) -> dict[Place, int]:
        """See `Probe.committed`."""
        return await asyncio.to_thread(self._read)

    async def close(self) -> None:
        """Nothing is held between looks."""

    def _read(self) -> dict[Place, int]:
        if not self._path.exists():
            return {}
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1.0)) as connection:
                rows = connection.execute("SELECT source, partition, position FROM position").fetchall()
        except sqlite3.OperationalError:  # not made yet, or locked for long: the next look tells
            return {}
        return {(source, partition): _offset(json.loads(position)) for source, partition, position in rows}


def _offset(position: object) -> int:
    if isinstance(position, dict):
        return int(position.get("offset", 0))
    return position if isinstance(position, int) else 0


class Probes:
    """Several probes as one."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = probes

    async def committed(self) -> dict[Place, int]:
        """See `Probe.committed`."""
        found: dict[Place, int] = {}
        for probe in self._probes:
            found |= await probe.committed()
        return found

    async def close(self) -> None:
        """Release everything."""
        for probe in self._probes:
            await probe.close()


class Stalls:
    """The longest time that nothing of a partition was committed while input of it waited."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._committed: dict[Place, int] = {}
        self._since: dict[Place, float] = {}

    def saw(self, committed: Mapping[Place, int], ends: Mapping[Place, int]) -> None:
        """Note what is committed, and where the input ends, at this moment."""
        now = time.monotonic()
        for place, end in ends.items():
            position = max(committed.get(place, 0), self._committed.get(place, 0))
            since = self._since.get(place)
            if since is not None:
                self.longest = max(self.longest, now - since)
            if position >= end:
                self._since.pop(place, None)
            elif since is None or position > self._committed.get(place, 0):
                self._since[place] = now
            self._committed[place] = position

    def position(self, place: Place) -> int:
        """What a place has committed, as last seen."""
        return self._committed.get(place, 0)

    def behind(self, marks: Mapping[Place, int]) -> list[Place]:
        """The places that have not committed up to their marks."""
        return [place for place, mark in marks.items() if self._committed.get(place, 0) < mark]

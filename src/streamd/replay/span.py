"""From where to where: what somebody writes, and what it is in the partitions of a topic. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streamd.errors import ConfigError

# {partition: (first offset, offset behind the last)}
Span = Mapping[int, tuple[int, int]]

_OFFSETS: Final = re.compile(r"\d+(:\d+)?(\s*,\s*\d+:\d+)*")


@dataclass(frozen=True, slots=True)
class Point:
    """A place in every partition: a time in ms, or offsets (`None`: of all partitions). Neither: the very beginning."""

    ms: int | None = None
    offsets: Mapping[int | None, int] | None = None

    @property
    def earliest(self) -> bool:
        return self.ms is None and self.offsets is None

    def before(self, other: Point) -> bool:
        """Whether it lies before another of its kind, in all partitions that both name."""
        if self.ms is not None and other.ms is not None:
            return self.ms < other.ms
        both = (self.offsets or {}).keys() & (other.offsets or {}).keys()
        return bool(both) and all((self.offsets or {})[one] < (other.offsets or {})[one] for one in both)


def read_offsets(text: str, option: str) -> Mapping[int | None, int] | None:
    """The offsets that a text names: `120`, or `0:120,1:98` by partition; None when it names none."""
    stripped = text.strip()
    if _OFFSETS.fullmatch(stripped) is None:
        return None
    if ":" not in stripped:
        return {None: int(stripped)}
    found: dict[int | None, int] = {}
    for pair in stripped.split(","):
        partition, _, offset = pair.partition(":")
        if int(partition) in found:
            raise ConfigError(f"{option}: partition {int(partition)} is there twice")
        found[int(partition)] = int(offset)
    return found


def offset_in(point: Point, partition: int, first: int, end: int, topic: str, option: str) -> int | None:
    """The offset of a point in a partition that holds [first, end); None for a partition that it does not name.

    Raises ConfigError for an offset that is not there.
    """
    if point.offsets is None:
        return first
    found = point.offsets.get(partition, point.offsets.get(None))
    if found is not None and not first <= found <= end:
        raise ConfigError(f"{option}: {topic}[{partition}] holds offsets {first} to {end}, not {found}")
    return found


def check_partitions(point: Point, count: int, topic: str, option: str) -> None:
    """Raises ConfigError when a point names a partition that the topic does not have."""
    beyond = [partition for partition in point.offsets or () if partition is not None and partition >= count]
    if beyond:
        raise ConfigError(f"{option}: {topic} has {count} partitions, there is no partition {beyond[0]}")


def spans(begins: Mapping[int, int | None], ends: Mapping[int, int | None], known: Span) -> Span:
    """From `begins` to `ends`, where `known` says what there is; nothing of partitions that are not named."""
    found = {}
    for partition, (_, last) in known.items():
        begin, end = begins[partition], ends[partition]
        begin = last if begin is None else begin
        found[partition] = (begin, max(begin, last if end is None else end))
    return found


def counted(span: Span) -> int:
    """How many offsets there are in it."""
    return sum(end - begin for begin, end in span.values())

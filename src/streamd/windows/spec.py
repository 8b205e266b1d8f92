"""What a window is, in numbers: all that a kernel is generated from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from streamd.expr import Aggregate

Kind = Literal["tumbling", "hopping", "sliding", "session", "count", "global"]


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Times are in ms. `size` and `every` are records for `count`. `gap` and `longest` are a session's; 0: no longest.

    `emit`: "close", "update" (with each record), or so many ms of event time between early results.
    `by` are the names of the key's fields, `keys` how many keys each row has, `one` whether a key is a value alone, and
    not a list of them. `start_as`, `end_as`, `final_as` name fields of a result; None: it has none.
    """

    kind: Kind
    aggregates: Mapping[str, Aggregate]
    size: int = 0
    every: int = 0
    offset: int = 0
    gap: int = 0
    longest: int = 0
    grace: int = 0
    emit: Literal["close", "update"] | int = "close"
    by: tuple[str, ...] = ()
    keys: int = 1
    one: bool = True
    start_as: str | None = "window_start"
    end_as: str | None = "window_end"
    final_as: str | None = "window_final"

    @property
    def periodic(self) -> bool:
        """Whether early results come from time to time."""
        return self.emit.__class__ is int

    @property
    def fallible(self) -> bool:
        """Whether the user's own code may refuse a value in the middle of a step."""
        return any(aggregate.fallible for aggregate in self.aggregates.values())

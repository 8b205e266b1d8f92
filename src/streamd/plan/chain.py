"""A compiled chain: the function that `fuse.py` has written, and what is to be known of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamd.errors import ExtractError

Function = Callable[..., tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Chain:
    """A compiled chain. `targets` are component ids in the order of the function's last arguments.

    `owners[n]` is the id of the component that wrote line n+1 of `source`. `plain` parses every record whole; it is
    `function` itself where that does so anyway. `timed`: they have the argument `times`. `keyed` are the keyed stages
    among the targets. `unlike`: stages of `passing` that get documents here.
    """

    entry: str
    targets: tuple[str, ...]
    function: Function
    plain: Function
    source: str
    owners: tuple[str, ...]
    counters: tuple[tuple[str, str], ...]
    timed: bool = False
    unlike: frozenset[str] = frozenset()
    decodes: tuple[str, ...] = field(default=())
    keyed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> frozenset[str]:
        """Every name that stands in the code: what the user wrote, and so what an error may tell."""
        return frozenset(re.findall(r"\w+", self.source))

    def owner_of(self, error: BaseException) -> str:
        """The id of the component whose line raised the error. What was not to be read is the entry's, also a key."""
        trace = error.__traceback__
        if trace is None or isinstance(error, ExtractError) or trace.tb_lineno > len(self.owners):
            return self.entry
        return self.owners[trace.tb_lineno - 1]

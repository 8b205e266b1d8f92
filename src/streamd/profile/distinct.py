"""How many different values a field has: exactly while there is room, by HyperLogLog from there on."""

from __future__ import annotations

from streamd.expr.aggregates.sketches import Registers, has_library
from streamd.profile.bounds import Bounds


class Distinct:
    """Counts hashes (64 bits) of values.

    Without the library of HyperLogLog it stops at the bound, and says that there are more (`at_least`).
    """

    __slots__ = ("_registers", "_seen", "at_least")

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._registers: Registers | None = None
        self.at_least = False

    def add(self, hashed: int, bounds: Bounds) -> None:
        """Take one value's hash."""
        if self._registers is not None:
            self._registers.add(hashed)
        elif hashed not in self._seen and not self.at_least:
            if bounds.hashes > 0:
                bounds.hashes -= 1
                self._seen.add(hashed)
            else:
                self._overflow(hashed)

    def _overflow(self, hashed: int) -> None:
        if not has_library():
            self.at_least = True
            return
        self._registers = Registers()
        for known in (*self._seen, hashed):
            self._registers.add(known)
        self._seen.clear()

    def merge(self, other: Distinct) -> None:
        """Take all that another one has seen."""
        self._seen |= other._seen
        self.at_least = self.at_least or other.at_least
        if other._registers is not None:
            own = self._registers or Registers()
            self._registers = own.merged(other._registers)
        if self._registers is not None:
            for known in self._seen:
                self._registers.add(known)
            self._seen.clear()

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate and no bound."""
        return self._registers is None and not self.at_least

    @property
    def count(self) -> int:
        """How many; about so many, or at least so many, where it is not `exact`."""
        return len(self._seen) if self._registers is None else self._registers.estimate()

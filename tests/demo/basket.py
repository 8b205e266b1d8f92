"""An aggregate of a user's own, for tests: the sum, which refuses 13 half-way."""

from __future__ import annotations

from typing import Any


class Basket:
    """Keeps {"total": …}."""

    def start(self) -> dict[str, Any]:
        return {"total": 0}

    def add(self, state: dict[str, Any], value: int) -> dict[str, Any]:
        state["total"] += value
        if value == 13:
            raise ValueError("13 is refused")
        return state

    def merge(self, state: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
        state["total"] += later["total"]
        return state

    def result(self, state: dict[str, Any]) -> int:
        total: int = state["total"]
        return total

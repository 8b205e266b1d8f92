"""What the ETL example prints, as plain Python has it."""

from __future__ import annotations

import csv
import json
from typing import Any

from services.process import REPOSITORY

SAMPLES = REPOSITORY / "config" / "samples"
Document = dict[str, Any]


def sound(line: str) -> Document | None:
    """The order in a line; None where it would be a dead letter."""
    try:
        order = json.loads(line)
        return order if isinstance(order, dict) and 0 <= order["amount"] <= 5000 else None
    except (ValueError, KeyError, TypeError):
        return None


def revenue(_orders: list[Document]) -> list[Document]:
    with (SAMPLES / "customers.csv").open(newline="") as file:
        tiers = {row["id"]: row["tier"] for row in csv.DictReader(file)}
    sums: dict[tuple[str, int], list[float]] = {}
    for order in filter(None, map(sound, (SAMPLES / "orders-with-errors.ndjson").read_text().splitlines())):
        minute = order["ts"] - order["ts"] % 60_000
        sums.setdefault((tiers[order["customer"]], minute), []).append(
            -order["amount"] if order["type"] == "refund" else order["amount"]
        )
    return [
        {
            "tier": tier,
            "window_start": minute,
            "window_end": minute + 60_000,
            "orders": len(eur),
            "eur": round(sum(eur), 2),
        }
        for (tier, minute), eur in sums.items()
    ]


ETL = {"etl": revenue}

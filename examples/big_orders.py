"""A pipeline in Python: an own source, stages and sinks, and dead letters. `python examples/big_orders.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from streamd import DataSink, DataSource, Pipeline, PipelineMetrics

ORDERS = [
    {"id": 1, "user": "ada", "amount": 120.5},
    {"id": 2, "user": "cyd", "amount": 20},
    {"id": 3, "user": "bob", "amount": "free"},
    {"id": 4, "user": "bob", "amount": 990},
]
TIERS = {"ada": "gold"}


class Orders(DataSource):
    async def read(self) -> AsyncIterator[dict[str, Any]]:
        for order in ORDERS:
            yield dict(order)


class Printer(DataSink):
    def __init__(self, label: str) -> None:
        self.label = label

    def write(self, record: Any) -> None:
        print(self.label, record)


class Refused(DataSink):
    def write(self, record: Any) -> None:
        print("refused:", record["record"]["value"], "by", record["error"]["stage"])


async def main() -> PipelineMetrics:
    pipeline = (
        Pipeline("big-orders", source=Orders(), sink=Printer("order:"), dead_letter=Refused())
        .filter(lambda order: order["amount"] > 50)
        .enrich(lambda order: {"tier": TIERS.get(order["user"], "basic")})
        .add_stage("set", {"eur": "round(amount * 1.1, 2)"})
    )
    return await pipeline.run()


if __name__ == "__main__":
    metrics = asyncio.run(main())
    print(f"{metrics.records_processed} read, {metrics['records_filtered']} filtered, {metrics.errors} refused")

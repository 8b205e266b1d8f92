"""What the examples of `transform` print, as plain Python has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]


def transform(orders: list[Document]) -> list[Document]:
    made = []
    for order in orders:
        if order["type"] != "purchase" or order["channel"] != "store" or order["amount"] <= 400:
            continue
        lines = [
            {"sku": line["sku"], "value": round(line["price"] * line["quantity"], 2)}
            for line in order["lines"]
            if line["price"] >= 40
        ]
        tier = "gold" if order["amount"] > 800 else "silver"
        moved = ("type", "channel", "order_id", "ts", "lines", "customer", "country")
        at = datetime.fromtimestamp(order["ts"] / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made.append(
            {
                **{name: value for name, value in order.items() if name not in moved},
                "skus": [line["sku"] for line in order["lines"]],
                "cables": sum("cable" in line["name"].lower() for line in order["lines"]),
                "order": {
                    "id": order["order_id"],
                    "at": at,
                    "lines": sorted(lines, key=lambda line: (-line["value"], line["sku"])),
                },
                "customer_data": {"customer": order["customer"], "country": order["country"]},
                "tier": tier,
                "title": f"Order {order['order_id']}: {order['amount']:.2f} ({tier})",
            }
        )
    return made


TRANSFORMS: dict[str, Callable[[list[Document]], list[Document]]] = {
    "transform": transform,
    # Orders bring neither a patch nor changes.
    "transform-patch": lambda orders: orders,
}

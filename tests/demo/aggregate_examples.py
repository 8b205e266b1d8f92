"""What the examples of `aggregate` print, as plain Python has it."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def changes(orders: list[Document]) -> list[Document]:
    groups: dict[str | None, list[Document]] = {}
    for order in orders:
        if order["type"] == "purchase":
            for customer in (order["customer"], None):
                groups.setdefault(customer, []).append(order)
    return [
        {
            "customer": customer,
            "orders": len(bought),
            "large": sum(order["amount"] > 500 for order in bought),
            "countries": len({order["country"] for order in bought}),
            "sizes": [
                sum(low <= order["amount"] < high for order in bought)
                for low, high in ((0, 100), (100, 500), (500, 1e9))
            ],
            "best": min(
                ({"order": order["order_id"], "amount": order["amount"]} for order in bought),
                key=lambda one: (-one["amount"], one["order"]),
            ),
        }
        for customer, bought in groups.items()
    ]


def spent_so_far(orders: list[Document]) -> list[Document]:
    """The sample is of one morning: nobody is forgotten in it."""
    spent: dict[str, list[float]] = {}
    made = []
    for order in orders:
        if order["type"] == "purchase":
            amounts = spent.setdefault(order["customer"], [])
            amounts.append(order["amount"])
            made.append({"customer": order["customer"], "orders": len(amounts), "spent": sum(amounts)})
    return made


AGGREGATES = {"aggregate-changes": changes, "aggregate-ttl": spent_so_far}

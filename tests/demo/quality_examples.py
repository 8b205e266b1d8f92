"""What the examples of `validate` print, as plain Python has it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from demo.sample_orders import SAMPLES, readable_orders

Document = dict[str, Any]


def rules(orders: list[Document]) -> list[Document]:
    codes = {country["code"] for country in json.loads((SAMPLES / "countries.json").read_text())}
    made = []
    for order in orders:
        lines = round(sum(line["price"] * line["quantity"] for line in order["lines"]), 2)
        broken = {
            "customer_pattern": re.search("^c-[0-9]{3}$", order["customer"]) is None,
            "channel_in": order["channel"] not in ("web", "store"),
            "country_references": order["country"] not in codes,
            "lines_add_up": round(abs(order["amount"]), 2) != lines,
        }
        if any(broken.values()) and -1000 <= order["amount"] <= 5000:
            made.append({"order": order["order_id"], "failed_rules": [name for name, is_so in broken.items() if is_so]})
    return made


def right_amounts(_orders: list[Document]) -> list[Document]:
    """What is no JSON, or has an amount that is no number, breaks the schema and has drifted."""
    return [{"order": order["order_id"], "amount": order["amount"]} for order in readable_orders()]


def unique(orders: list[Document]) -> list[Document]:
    made: list[Document] = []
    for order in orders:
        near = [one for one in made if one["customer"] == order["customer"] and order["ts"] - one["ts"] <= 600_000]
        if order["type"] == "purchase" and order["amount"] >= 0.01 and not near:
            made.append(order)
    return [{"order": order["order_id"], "customer": order["customer"]} for order in made]


def score(orders: list[Document]) -> list[Document]:
    made = []
    for end in sorted({order["ts"] // 900_000 * 900_000 + 900_000 for order in orders}):
        within = [order for order in orders if end - 900_000 <= order["ts"] < end]
        known = sum(order["channel"] in ("web", "store") for order in within)
        nowhere = sum(order["country"] is None for order in within)
        rules = {"known_channel": len(within) - known, "has_country": nowhere}
        row = {
            "stage": "checked",
            "window_start": end - 900_000,
            "window_end": end,
            "records": len(within),
            "passed": known,
            "score": round(known / len(within), 6),
            "rules": {name: {"failed": n, "score": round(1 - n / len(within), 6)} for name, n in rules.items()},
        }
        made += [row] if known < 0.9 * len(within) else []
    return made


def of_known_orders(orders: list[Document]) -> list[Document]:
    known = {order["order_id"] for order in orders}
    refunds = [json.loads(line) for line in (SAMPLES / "refunds.ndjson").read_text().splitlines()]
    return [{"refund": one["refund_id"], "order": one["order_id"]} for one in refunds if one["order_id"] in known]


def sink(orders: list[Document]) -> list[Document]:
    made = [
        {"order": order["order_id"], "net": round(order["amount"] / 1.19, 2), "country": order["country"]}
        for order in orders
        if order["amount"] > 900
    ]
    return [order for order in made if order["net"] <= 1500]


QUALITY: dict[str, Callable[[list[Document]], list[Document]]] = {
    "validate-rules": rules,
    "validate-schema": right_amounts,
    "validate-unique": unique,
    "validate-score": score,
    "validate-sink": sink,
    "validate-table": of_known_orders,
    "schema-drift": right_amounts,
}

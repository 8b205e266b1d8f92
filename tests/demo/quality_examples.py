"""What the examples of `validate` print, as plain Python has it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from services.process import REPOSITORY

SAMPLES = REPOSITORY / "config" / "samples"
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


def schema(orders: list[Document]) -> list[Document]:
    made = []
    for line in (SAMPLES / "orders-with-errors.ndjson").read_text().splitlines():
        try:
            order = json.loads(line)
        except ValueError:
            continue
        if isinstance(order, dict) and isinstance(order.get("amount"), int | float):
            made.append({"order": order["order_id"], "amount": order["amount"]})
    return made


QUALITY: dict[str, Callable[[list[Document]], list[Document]]] = {"validate-rules": rules, "validate-schema": schema}

#!/usr/bin/env python3
"""Writes the bundled sample data into config/samples: the same bytes each time. No dependency but Python itself."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "config" / "samples"
START_MS = 1_767_603_600_000  # 2026-01-05T09:00:00Z
ORDERS = 400

COUNTRIES = {
    "AT": {"name": "Austria", "region": "EU", "currency": "EUR"},
    "BR": {"name": "Brazil", "region": "LATAM", "currency": "BRL"},
    "DE": {"name": "Germany", "region": "EU", "currency": "EUR"},
    "FR": {"name": "France", "region": "EU", "currency": "EUR"},
    "GB": {"name": "United Kingdom", "region": "EMEA", "currency": "GBP"},
    "JP": {"name": "Japan", "region": "APAC", "currency": "JPY"},
    "US": {"name": "United States", "region": "NA", "currency": "USD"},
}
TIERS = ("basic", "silver", "gold")
PRODUCTS = (
    ("KB-104", "Mechanical keyboard", 89.00),
    ("MS-220", "Wireless mouse", 34.50),
    ("MN-270", "27 inch monitor", 279.00),
    ("HD-001", "USB-C cable", 9.90),
    ("HS-410", "Headset", 119.95),
    ("DK-330", "Docking station", 189.00),
    ("WC-080", "Webcam", 64.00),
    ("ST-015", "Laptop stand", 42.00),
)


def customers(chance: random.Random) -> list[dict[str, str]]:
    rows = []
    for number in range(1, 41):
        country = chance.choice(sorted(COUNTRIES))
        tier = chance.choices(TIERS, (6, 3, 1))[0]
        rows.append(
            {"id": f"c-{number:03}", "country": country, "tier": tier, "since": str(chance.randint(2018, 2025))}
        )
    return rows


def order(number: int, at_ms: int, customer: dict[str, str], chance: random.Random) -> dict[str, object]:
    lines = [
        {"sku": sku, "name": name, "quantity": chance.choices((1, 2, 3), (7, 2, 1))[0], "price": price}
        for sku, name, price in chance.sample(PRODUCTS, chance.choices((1, 2, 3, 4), (5, 3, 2, 1))[0])
    ]
    event: dict[str, object] = {
        "order_id": f"o-{number:05}",
        "type": chance.choices(("purchase", "refund", "cancel"), (88, 8, 4))[0],
        "customer": customer["id"],
        "country": customer["country"],
        "amount": round(sum(int(line["quantity"]) * float(line["price"]) for line in lines), 2),
        "lines": lines,
        "channel": chance.choice(("web", "app", "store")),
        "ts": at_ms,
    }
    if chance.random() < 0.2:
        event["coupon"] = chance.choice(("WELCOME10", "SPRING", "VIP"))
    return event


def main() -> None:
    chance = random.Random(20260105)
    FOLDER.mkdir(parents=True, exist_ok=True)
    people = customers(chance)
    with (FOLDER / "customers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, people[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(people)
    rows = [{"code": code, **facts} for code, facts in COUNTRIES.items()]
    (FOLDER / "countries.json").write_text(json.dumps(rows, indent=2) + "\n")

    at_ms = START_MS
    events = []
    for number in range(1, ORDERS + 1):
        at_ms += chance.randint(200, 9_000)
        events.append(order(number, at_ms, chance.choice(people), chance))
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    (FOLDER / "orders.ndjson").write_text("\n".join(lines) + "\n")

    # What goes wrong in real life: cut off, a number that is a text, a missing field, not an object at all.
    broken = lines[:60]
    broken[7] = broken[7][: len(broken[7]) // 2]
    broken[19] = json.dumps({**events[19], "amount": "a lot"}, separators=(",", ":"))
    broken[33] = json.dumps({key: value for key, value in events[33].items() if key != "amount"}, separators=(",", ":"))
    broken[48] = '"hello"'
    (FOLDER / "orders-with-errors.ndjson").write_text("\n".join(broken) + "\n")

    refunds = [
        {"refund_id": f"r-{n:04}", "order_id": f"o-{n * 9:05}", "ts": START_MS + n * 60_000} for n in range(1, 31)
    ]
    (FOLDER / "refunds.ndjson").write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in refunds))


if __name__ == "__main__":
    main()

"""Every example pipeline in config/pipelines validates, and runs, and says what a plain Python program says."""

from __future__ import annotations

import asyncio
import csv
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.aggregate_examples import AGGREGATES
from demo.etl_example import ETL
from demo.quality_examples import QUALITY
from demo.sample_orders import readable_orders
from demo.transform_examples import TRANSFORMS
from demo.window_examples import WINDOWS
from services.command import Ended, service_file, streamd
from services.kafka import read_topic
from services.process import REPOSITORY

PIPELINES = REPOSITORY / "config" / "pipelines"
SAMPLES = REPOSITORY / "config" / "samples"
ALL = sorted(path for path in PIPELINES.rglob("*.yaml") if not path.name.endswith(".test.yaml"))
LOCAL = [path for path in ALL if "kafka" not in path.parts and "nexmark" not in path.parts]

Document = dict[str, Any]


def read(name: str) -> list[Document]:
    return [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]


def time_of(ts: int, shape: str) -> str:
    return datetime.fromtimestamp(ts / 1000, UTC).strftime(shape)


def customers() -> dict[str, Document]:
    with (SAMPLES / "customers.csv").open(newline="") as file:
        return {row["id"]: dict(row) for row in csv.DictReader(file)}


def quickstart(orders: list[Document]) -> list[Document]:
    people = customers()
    return [
        {
            "order": order["order_id"],
            "customer": order["customer"],
            "tier": people[order["customer"]]["tier"].upper(),
            "total": round(order["amount"] * 1.19, 2),
            "items": len(order["lines"]),
            "at": time_of(order["ts"], "%H:%M:%S"),
        }
        for order in orders
        if order["type"] == "purchase" and order["amount"] > 700
    ]


def filter_set_drop(orders: list[Document]) -> list[Document]:
    made = []
    for order in orders:
        if order["type"] == "cancel" or order["amount"] <= 500:
            continue
        net = round(order["amount"] / 1.19, 2)
        flags = {"big": order["amount"] > 900, "coupon": order.get("coupon", "none")}
        kept = {key: value for key, value in order.items() if key not in ("lines", "channel", "coupon")}
        tax = round(order["amount"] - net, 2)
        made.append({**kept, "net": net, "tax": tax, "customer": order["customer"].upper(), "flags": flags})
    return made


def mapped(orders: list[Document]) -> list[Document]:
    return [
        {
            "id": order["order_id"],
            "day": time_of(order["ts"], "%Y-%m-%d"),
            "skus": [line["sku"] for line in order["lines"]],
            "pieces": sum(line["quantity"] for line in order["lines"]),
            "dearest": max(line["price"] for line in order["lines"]),
            "size": "large" if order["amount"] > 800 else "medium" if order["amount"] > 300 else "small",
        }
        for order in orders
        if len(order["lines"]) > 3
    ]


def flatten(orders: list[Document]) -> list[Document]:
    return [
        {"order": order["order_id"], "sku": line["sku"], "value": round(line["quantity"] * line["price"], 2)}
        for order in orders
        if order["type"] == "purchase" and order["country"] == "JP"
        for line in order["lines"]
    ]


def route(orders: list[Document]) -> list[Document]:
    return [{**o, "amount": -o["amount"]} for o in orders if o["amount"] > 300 and o["type"] == "refund"]


def chains(orders: list[Document]) -> list[Document]:
    return [
        {"order_id": o["order_id"], "country": o["country"], "usd": round(o["amount"] * 1.08, 2)}
        for o in orders
        if o["amount"] >= 300 and o["type"] != "refund" and (o["country"] in ("FR", "US") or o["amount"] > 400)
    ]


def enrich_csv(orders: list[Document]) -> list[Document]:
    people = customers()
    made = []
    for order in orders:
        buyer = people[order["customer"]]
        if buyer["tier"] == "gold" and order["amount"] > 400:
            made.append({**{key: value for key, value in order.items() if key != "lines"}, "buyer": buyer})
    return made


def enrich_table(orders: list[Document]) -> list[Document]:
    rows = customers()
    return [
        {
            "order": order["order_id"],
            "amount": order["amount"],
            "buyer": {name: rows[order["customer"]][name] for name in ("tier", "since")},
        }
        for order in orders
        if order["type"] == "purchase" and order["amount"] > 700 and order["customer"] in rows
    ]


def enrich_json(orders: list[Document]) -> list[Document]:
    facts = {row["code"]: row for row in json.loads((SAMPLES / "countries.json").read_text())}
    return [
        {
            "order": order["order_id"],
            "country": order["country"],
            "region": facts[order["country"]]["region"],
            "currency": facts[order["country"]]["currency"],
        }
        for order in orders
        if order["amount"] > 850
    ]


def aggregate(orders: list[Document]) -> list[Document]:
    made = []
    seen: dict[str, list[float]] = {}
    for order in orders:
        if order["type"] == "purchase":
            amounts = seen.setdefault(order["customer"], [])
            amounts.append(order["amount"])
            if sum(amounts) > 3000:
                made.append(
                    {
                        "customer": order["customer"],
                        "orders": len(amounts),
                        "total": sum(amounts),
                        "largest": max(amounts),
                        "mean": sum(amounts) / len(amounts),
                        "last": order["order_id"],
                    }
                )
    return made


def sort_dedupe(orders: list[Document]) -> list[Document]:
    made: list[Document] = []
    for order in sorted(orders, key=lambda one: int(one["ts"])):
        known = [one["at"] for one in made if one["customer"] == order["customer"]]
        if order["type"] == "purchase" and all(order["ts"] - at > 300_000 for at in known):
            made.append({"order": order["order_id"], "customer": order["customer"], "at": order["ts"]})
    return made


def key_by(orders: list[Document]) -> list[Document]:
    made = []
    seen: dict[str, list[float]] = {}
    for order in orders:
        if order["type"] == "purchase":
            amounts = seen.setdefault(order["customer"], [])
            amounts.append(order["amount"])
            if len(amounts) >= 3:
                made.append({"customer": order["customer"], "orders": len(amounts), "total": sum(amounts)})
    return made


def join_refunds(orders: list[Document]) -> list[Document]:
    refunds = read("refunds.ndjson")
    made = []
    for order in orders:
        if order["type"] != "purchase" or order["amount"] <= 400:
            continue
        known = {"order": order["order_id"], "amount": order["amount"]}
        met = [r for r in refunds if r["order_id"] == order["order_id"] and 0 <= r["ts"] - order["ts"] <= 1_800_000]
        made += [{**known, "refund": r["refund_id"], "state": "refunded"} for r in met]
        if not met:
            made.append({**known, "refund": None, "state": "kept"})
    return made


def join_table(orders: list[Document]) -> list[Document]:
    people = customers()
    return [
        {"order": order["order_id"], "amount": order["amount"], "tier": people.get(order["customer"], {}).get("tier")}
        for order in orders
        if order["type"] == "purchase" and order["amount"] > 700
    ]


def python_stage(orders: list[Document]) -> list[Document]:
    made = []
    for order in orders:
        sign = {"purchase": 1, "refund": -1}.get(order["type"])
        if order["amount"] > 700 and sign:
            points = sign * round(order["amount"] * 0.1 * (2.0 if order["channel"] == "app" else 1.0))
            made.append({"customer": order["customer"], "type": order["type"], "points": points})
    return made


def above_900(orders: list[Document]) -> list[Document]:
    return [{"order": order["order_id"], "amount": order["amount"]} for order in orders if order["amount"] > 900]


def several(orders: list[Document]) -> list[Document]:
    sold = [
        {"order": order["order_id"], "event": "sold", "at": order["ts"], "day": time_of(order["ts"], "%Y-%m-%d")}
        for order in orders
        if order["type"] == "purchase" and order["amount"] > 800
    ]
    returned = [
        {"order": row["order_id"], "event": "returned", "at": row["ts"], "day": time_of(row["ts"], "%Y-%m-%d")}
        for row in read("refunds.ndjson")
    ]
    return sold + returned


def dead_letters(orders: list[Document]) -> list[Document]:
    gross = [(order["order_id"], round(order["amount"] * 1.19, 2)) for order in readable_orders()]
    return [{"order": name, "gross": amount} for name, amount in gross if amount > 700]


def readable_above(limit: float) -> Callable[[list[Document]], list[Document]]:
    return lambda orders: [
        {"order": order["order_id"], "amount": order["amount"]}
        for order in readable_orders()
        if order["amount"] > limit
    ]


# What each example prints, as plain Python has it.
WANTED: dict[str, Callable[[list[Document]], list[Document]]] = {
    "quickstart": quickstart,
    "filter-set-drop": filter_set_drop,
    "map": mapped,
    "flatten": flatten,
    "route": route,
    "chains": chains,
    "enrich-csv": enrich_csv,
    "enrich-json": enrich_json,
    "enrich-table": enrich_table,
    "aggregate": aggregate,
    "key-by": key_by,
    "sort-dedupe": sort_dedupe,
    "join-refunds": join_refunds,
    "join-table": join_table,
    "python-stage": python_stage,
    "rate-limit": above_900,
    "several-sources-and-sinks": several,
    "dead-letters": dead_letters,
    "errors-per-stage": readable_above(500),
    "error-threshold": readable_above(600),
    "stdin-to-stdout": lambda orders: [
        {key: value for key, value in order.items() if key != "lines"} for order in orders if order["amount"] > 900
    ],
    **WINDOWS,
    **AGGREGATES,
    **QUALITY,
    **TRANSFORMS,
    **ETL,
    "msgpack": lambda orders: [
        {"order": order["order_id"], "amount": order["amount"], "skus": [line["sku"] for line in order["lines"]]}
        for order in orders
        if order["amount"] > 900
    ],
    "csv-topics": lambda orders: [
        {
            "order": order["order_id"],
            "customer": order["customer"],
            "amount": float(order["amount"]),
            "coupon": order.get("coupon"),
        }
        for order in orders
        if order["amount"] > 900
    ],
    "protobuf": lambda orders: [
        {
            "order": order["order_id"],
            "amount": order["amount"],
            "at": datetime.fromtimestamp(order["ts"] / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        }
        for order in orders
        if order["amount"] > 900
    ],
    "avro-files": lambda orders: [
        {**refund, "day": time_of(refund["ts"], "%Y-%m-%d")} for refund in read("refunds.ndjson")
    ],
    "binary-files": lambda orders: [
        {"id": refund["order_id"], "at": refund["ts"], "kind": "refund"} for refund in read("refunds.ndjson")
    ],
    # They write elsewhere.
    "generate": lambda orders: [],
    "avro": lambda orders: [],
    "keys": lambda orders: [],
    "log-to-log": lambda orders: [],
    "tail-file": lambda orders: [],
}


def run(path: Path, folder: Path, **env: str) -> Ended:
    stdin = (SAMPLES / "orders.ndjson").read_text()
    service = service_file(folder, f"example-{uuid.uuid4().hex[:8]}")
    return streamd("run", path, "--config", service, "--until-idle", env=env, folder=folder, stdin=stdin)


def printed(ended: Ended) -> list[Document]:
    return [json.loads(line) for line in ended.out.splitlines() if line.startswith("{")]


def in_order(documents: list[Document]) -> list[str]:
    return sorted(json.dumps(document, sort_keys=True) for document in documents)


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(PIPELINES)))
def test_example_validates(path, tmp_path):
    (tmp_path / "side.csv").write_text("1,one\n")
    env = {"EVENTS": "events", "OUT": "out", "SIDE": "side.csv", "KAFKA_BOOTSTRAP": "kafka:9092"}
    ended = streamd("validate", path, env=env, folder=tmp_path)
    assert ended.code == 0, ended.all


def test_every_local_example_has_an_expectation():
    assert {path.stem for path in LOCAL} == set(WANTED) | {"stamp"}


@pytest.mark.parametrize("name", WANTED)
def test_example_prints_what_python_computes(name, tmp_path):
    ended = run(
        PIPELINES / f"{name}.yaml", tmp_path, AVRO_OUT=str(tmp_path / "refunds.avro"), ORDERS_OUT=str(tmp_path / "o.pb")
    )
    assert ended.code == 0, ended.all
    wanted = WANTED[name](read("orders.ndjson"))
    assert in_order(printed(ended)) == in_order(wanted)


def test_stamp_says_where_records_come_from(tmp_path):
    ended = run(PIPELINES / "stamp.yaml", tmp_path)
    assert ended.code == 0, ended.all
    documents = printed(ended)
    assert [{key: d[key] for key in ("order", "amount")} for d in documents] == above_900(read("orders.ndjson"))
    origins = [document["origin"] for document in documents]
    assert {origin["pipeline"] for origin in origins} == {"stamp"}
    assert len({origin["id"] for origin in origins}) == len(origins)


async def test_file_to_kafka_to_kafka(kafka, make_topic, tmp_path):
    orders, big = await make_topic(partitions=2), await make_topic(partitions=2)
    env = {
        "KAFKA_BOOTSTRAP": kafka.bootstrap,
        "KAFKA": kafka.bootstrap,
        "ORDERS_TOPIC": orders,
        "BIG_ORDERS_TOPIC": big,
    }
    for name in ("file-to-kafka", "big-orders"):
        ended = await asyncio.to_thread(run, PIPELINES / "kafka" / f"{name}.yaml", tmp_path, **env)
        assert ended.code == 0, ended.all
    records = await read_topic(kafka.bootstrap, big)
    wanted = [
        {**order, "eur": round(order["amount"] * 1.1, 2), "big": order["amount"] > 400}
        for order in read("orders.ndjson")
        if order["type"] != "refund" and order["amount"] > 50
    ]
    assert in_order([json.loads(record.value) for record in records]) == in_order(wanted)
    assert all(record.key.decode() == json.loads(record.value)["customer"] for record in records)

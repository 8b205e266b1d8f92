"""What stages cost per record: a compiled chain with one stage, beside the same work by hand or by the library itself.

    python bench/stages.py [NAME…]      # all stages, or those whose row starts with a name

Both get the same records as bytes of JSON, batch by batch, and give rows of bytes; they take turns, and the least time
of each counts. `x` is the chain's time divided by the other's: 1.00 is no overhead at all. A row is one entry in ROWS:
the stages as YAML, the documents, and a function from the bytes of one record to those of the result (None: left out).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonpatch
import jsonpath_rfc9535
import orjson
import yaml

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import compile_chains

BATCH = 1_000
ROUNDS = 40
loads, dumps = orjson.loads, orjson.dumps


@dataclass(frozen=True)
class Comparison:
    """One row. `beside` says what `by_hand` is."""

    name: str
    stages: Sequence[dict[str, Any]]
    documents: Sequence[dict[str, Any]]
    by_hand: Callable[[bytes], bytes | None]
    beside: str


def orders(lines: int) -> list[dict[str, Any]]:
    """Orders with this many lines."""
    return [
        {
            "id": f"o-{number}",
            "user": {"name": f"user-{number % 100}", "country": "DE"},
            "amount": str(10 + number % 500),
            "at": "2026-01-05T09:00:05.918Z",
            "lines": [
                {
                    "sku": f"s-{(number * 7 + line) % 50}",
                    "price": (number * 31 + line * 17) % 90,
                    "quantity": 1 + line % 3,
                }
                for line in range(lines)
            ],
            "note": "left alone " * 5,
        }
        for number in range(BATCH)
    ]


_CHEAP = jsonpath_rfc9535.compile("$.lines[?@.price < 10].sku")
_SKUS = jsonpath_rfc9535.compile("$.lines[*].sku")
_ALL = jsonpath_rfc9535.compile("$..price")
_NAME = jsonpath_rfc9535.compile("$.user.name")


def _library(query: Any) -> Callable[[bytes], bytes]:
    def select(value: bytes) -> bytes:
        document = loads(value)
        document["out"] = [node.value for node in query.find(document)]
        return dumps(document)

    return select


def _plain_name(value: bytes) -> bytes:
    document = loads(value)
    user = document.get("user")
    document["out"] = [user["name"]] if type(user) is dict and "name" in user else []
    return dumps(document)


def _reshape(value: bytes) -> bytes:
    document = loads(value)
    lines = [line for line in document["lines"] if line["price"] > 20]
    lines = [{"sku": line["sku"], "value": line["price"] * line["quantity"]} for line in lines]
    lines.sort(key=lambda line: line["value"], reverse=True)
    document["lines"] = lines
    document["tier"] = "gold" if len(lines) > 3 else "silver"
    document["title"] = f"Order {document['id']} of {document['user']['name']}"
    return dumps(document)


def _coerce_rename(value: bytes) -> bytes:
    document = loads(value)
    document["amount"] = int(document["amount"])
    document["user"] = {**document["user"], "id": document.pop("id")}
    return dumps(document)


def _merge(value: bytes) -> bytes:
    document = loads(value)
    document["user"] = {**document["user"], "country": "FR", "seen": True}
    return dumps(document)


PATCH = [
    {"op": "test", "path": "/user/country", "value": "DE"},
    {"op": "move", "from": "/user/country", "path": "/user/state"},
    {"op": "remove", "path": "/note"},
    {"op": "add", "path": "/lines/0", "value": {"sku": "s-0"}},
]


def _patch(value: bytes) -> bytes:
    document = loads(value)
    if document["user"]["country"] != "DE":
        raise ValueError
    document["user"]["state"] = document["user"].pop("country")
    del document["note"]
    document["lines"].insert(0, {"sku": "s-0"})
    return dumps(document)


_COMPILED_PATCH = jsonpatch.JsonPatch(PATCH)


def _patch_library(value: bytes) -> bytes:
    return dumps(_COMPILED_PATCH.apply(loads(value), in_place=True))


def _set(value: bytes) -> bytes:
    document = loads(value)
    document["label"] = f"{document['id']} {document['user']['name']}"
    return dumps(document)


def _transform(*operations: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    return [{"transform": {"operations": list(operations), **settings}}]


RESHAPE = (
    {"filter": {"list": "lines", "where": "item.price > 20"}},
    {"map": {"list": "lines", "fields": {"sku": "item.sku", "value": "item.price * item.quantity"}}},
    {"sort": {"list": "lines", "by": "desc(item.value)"}},
    {"when": "len(lines) > 3", "then": [{"set": {"tier": "'gold'"}}], "else": [{"set": {"tier": "'silver'"}}]},
    {"template": {"title": "Order {id} of {user.name}"}},
)
ROWS = [
    Comparison("set", [{"set": {"label": "f'{id} {user.name}'"}}], orders(4), _set, "by hand"),
    Comparison("transform: $.user.name", _transform({"select": {"out": "$.user.name"}}), orders(4), _plain_name,
               "by hand"),
    Comparison("transform: $.user.name", _transform({"select": {"out": "$.user.name"}}), orders(4), _library(_NAME),
               "jsonpath-rfc9535"),
    Comparison("transform: $.lines[*].sku", _transform({"select": {"out": "$.lines[*].sku"}}), orders(10),
               _library(_SKUS), "jsonpath-rfc9535"),
    Comparison("transform: $.lines[?@.price < 10].sku", _transform({"select": {"out": "$.lines[?@.price < 10].sku"}}),
               orders(10), _library(_CHEAP), "jsonpath-rfc9535"),
    Comparison("transform: $..price", _transform({"select": {"out": "$..price"}}), orders(10), _library(_ALL),
               "jsonpath-rfc9535"),
    Comparison("transform: filter, map, sort, when, template", _transform(*RESHAPE), orders(10), _reshape, "by hand"),
    Comparison("transform: the same with rollback", _transform(*RESHAPE, on_failure="rollback"), orders(10), _reshape,
               "by hand"),
    Comparison("transform: coerce, rename", _transform({"coerce": {"amount": "int"}}, {"rename": {"id": "user.id"}}),
               orders(4), _coerce_rename, "by hand"),
    Comparison("transform: merge", _transform({"merge": {"with": "{'country': 'FR', 'seen': true}", "into": "user"}}),
               orders(4), _merge, "by hand"),
    Comparison("transform: patch of 4 operations", _transform({"patch": PATCH}), orders(10), _patch, "by hand"),
    Comparison("transform: patch of 4 operations", _transform({"patch": PATCH}), orders(10), _patch_library,
               "jsonpatch"),
]  # fmt: skip


def compiled(stages: Sequence[dict[str, Any]]) -> Callable[..., Any]:
    """The function of the chain from a log to a log with these stages."""
    text = yaml.safe_dump({"name": "p", "source": {"log": {"topic": "in"}}, "stages": list(stages),
                           "sink": {"log": {"topic": "out"}}}, sort_keys=False)  # fmt: skip
    config = load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig())
    part = build_plan(config).parts[0]
    context = PipelineContext("bench", "p", Path(), Path())
    return compile_chains(part, {c.id: c.spec.factory(c.settings, context) for c in part.stages})[0, "source"].function


def compare(row: Comparison) -> tuple[float, float]:
    """µs per record: the chain's, and the other's."""
    chain = compiled(row.stages)
    records = [SourceRecord(b"k", json.dumps(document).encode(), 5, at) for at, document in enumerate(row.documents)]

    def streamd() -> list[Any]:
        rows: list[Any] = []
        failed: list[Any] = []
        chain(records, 0, failed, rows)
        assert not failed, failed[0]
        return rows

    def other() -> list[Any]:
        rows: list[Any] = []
        by_hand = row.by_hand
        for record in records:
            value = by_hand(record.value)
            if value is not None:
                rows.append((record.key, value, record.timestamp, record.headers))
        return rows

    assert [loads(one[1]) for one in streamd()] == [loads(one[1]) for one in other()], row.name
    times = [_turn(streamd, other) for _ in range(ROUNDS)]
    return min(own for own, _ in times) / len(records), min(theirs for _, theirs in times) / len(records)


def _turn(*runs: Callable[[], Any]) -> tuple[float, ...]:
    """µs of CPU time of each."""
    found = []
    for run in runs:
        gc.collect()
        start = time.process_time_ns()
        run()
        found.append((time.process_time_ns() - start) / 1000)
    return tuple(found)


def main() -> None:
    print("| stage | µs/record | beside | µs/record | x |\n|---|---:|---|---:|---:|")
    for row in ROWS:
        if not sys.argv[1:] or row.name.startswith(tuple(sys.argv[1:])):
            own, theirs = compare(row)
            print(f"| {row.name} | {own:.2f} | {row.beside} | {theirs:.2f} | {own / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()

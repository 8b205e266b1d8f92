"""What stages cost per record: a compiled chain with one stage, beside the same work by hand or by the library itself.

    python bench/stages.py [NAME…]      # all stages, or those whose row starts with a name

Both get the same records as bytes of JSON, batch by batch, and give rows of bytes; they take turns, and the least time
of each counts. `x` is the chain's time divided by the other's: 1.00 is no overhead at all. A row is one entry in ROWS:
the stages as YAML, the documents, and a function from the bytes of one record to those of the result; those written by
hand, and what they check, are in by_hand.py.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import jsonpath_rfc9535
import orjson
import yaml

import by_hand
from streamd.clock import SYSTEM_CLOCK
from streamd.codecs.format import format_of
from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.record import BEGINNING, SourceRecord
from streamd.runtime.assembly import compile_chains
from streamd.runtime.drift import SourceDrift
from streamd.state.store import TableStore

BATCH = 1_000
ROUNDS = 40
FOLDER = Path(tempfile.mkdtemp())
loads, dumps = orjson.loads, orjson.dumps


@dataclass(frozen=True)
class Comparison:
    """One row. `beside` says what `by_hand` is. `sinks`: what the outputs of the last stage are, where it has several;
    `by_hand` gives (output, bytes) then. `source`: settings of the source.
    """

    name: str
    stages: Sequence[dict[str, Any]]
    documents: Sequence[dict[str, Any]]
    by_hand: Callable[[bytes], Any]
    beside: str = "by hand"
    sinks: Sequence[str] = ()
    source: dict[str, Any] = field(default_factory=dict)


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


def twice() -> list[dict[str, Any]]:
    """Orders with ten lines of five products."""
    return [
        {**order, "lines": order["lines"] + order["lines"], "skus": [line["sku"] for line in order["lines"]] * 2}
        for order in orders(5)
    ]


def measured() -> list[dict[str, Any]]:
    """What has lists and objects for zip, flatten, pivot and unpivot, and fields for nest."""
    names = [f"sensor-{number}" for number in range(10)]
    return [
        {
            "id": f"m-{number}",
            "skus": names,
            "prices": [(number * 31 + place * 17) % 90 for place in range(10)],
            "parts": [["a", "b"], "c", ["d", "e", "f"], ["g"]],
            "readings": [{"name": name, "value": number % 7} for name in names],
            "sensors": dict.fromkeys(names, number % 11),
            "street": f"Street {number}",
            "city": "Berlin",
            "ship_street": f"Road {number}",
            "ship_city": "Bonn",
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


PATCH = [
    {"op": "test", "path": "/user/country", "value": "DE"},
    {"op": "move", "from": "/user/country", "path": "/user/state"},
    {"op": "remove", "path": "/note"},
    {"op": "add", "path": "/lines/0", "value": {"sku": "s-0"}},
]
_COMPILED_PATCH = jsonpatch.JsonPatch(PATCH)


def _patch_library(value: bytes) -> bytes:
    return dumps(_COMPILED_PATCH.apply(loads(value), in_place=True))


def _transform(*operations: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    return [{"transform": {"operations": list(operations), **settings}}]


RESHAPE = (
    {"filter": {"list": "lines", "where": "item.price > 20"}},
    {"map": {"list": "lines", "fields": {"sku": "item.sku", "value": "item.price * item.quantity"}}},
    {"sort": {"list": "lines", "by": "desc(item.value)"}},
    {"when": "len(lines) > 3", "then": [{"set": {"tier": "'gold'"}}], "else": [{"set": {"tier": "'silver'"}}]},
    {"template": {"title": "Order {id} of {user.name}"}},
)
COMPOSED = {"all": ["int(amount) > 50", {"any": ["user.country == 'DE'", "user.name == 'x'"]}, {"not": "id == 'o-7'"}]}
TABLE = {f"o-{number}": {"id": f"o-{number}", "tier": "gold", "region": f"r-{number % 9}"} for number in range(BATCH)}
ROUTES = {"few": "user.name in ['user-1', 'user-2']", "some": "user.name < 'user-3'"}
SCHEMA = {
    "type": "object",
    "required": ["id", "user", "lines"],
    "properties": {
        "id": {"type": "string"},
        "user": {"type": "object", "properties": {"name": {"type": "string"}, "country": {"type": "string"}}},
        "amount": {"type": "string"},
        "at": {"type": "string"},
        "note": {"type": "string"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "price": {"type": "number"}, "quantity": {"type": "integer"}},
            },
        },
    },
}
EVENT_TIME = {"log": {"topic": "in", "event_time": {"field": "n", "out_of_order": "50ms", "max_future": None}}}
SET = [{"set": {"label": "f'{id} {user.name}'"}}]


def timed() -> list[dict[str, Any]]:
    """Orders with times up to 40 ms out of order, and each third id twice."""
    return [
        {**order, "id": f"o-{number - number % 3 // 2}", "n": 1_700_000_000_000 + number * 10 + number * 7 % 5 * 8}
        for number, order in enumerate(orders(4))
    ]


ROWS = [
    Comparison("set", SET, orders(4), by_hand.set_),
    Comparison("map", [{"map": {"id": "id", "name": "user.name", "lines": "len(lines)"}}], orders(4), by_hand.map_),
    Comparison("drop", [{"drop": ["note", "amount"]}], orders(4), by_hand.drop),
    Comparison("filter by all, any and not", [{"filter": COMPOSED}], orders(4), by_hand.filter_),
    Comparison("flatten", [{"flatten": "lines"}], orders(4), by_hand.flatten),
    Comparison("flatten with only", [{"flatten": {"list": "lines", "only": True}}], orders(4), by_hand.flatten_only),
    Comparison("route", [{"id": "way", "route": {"outputs": ROUTES, "otherwise": "rest"}}], orders(4), by_hand.route,
               sinks=("few", "some", "rest")),
    Comparison("enrich from a file", [{"enrich": {"file": "rows.ndjson", "key": "id", "match": "id",
                                                  "fields": ["tier", "region"]}}], orders(4), by_hand.enricher(TABLE)),
    Comparison("dedupe", [{"dedupe": {"by": "id", "within": "1s"}}], timed(), by_hand.Dedupe(1_000, 50),
               source=EVENT_TIME),
    Comparison("validate: unique, drop",
               [{"validate": {"rules": [{"unique": "id", "within": "1s", "action": "drop"}]}}], timed(),
               by_hand.Dedupe(1_000, 50), source=EVENT_TIME),
    Comparison("sort", [{"sort": {}}], timed(), by_hand.Sort(50), source=EVENT_TIME),
    Comparison("schema_drift by samples, set", SET, orders(4), by_hand.set_,
               source={"schema_drift": {"policy": "warn"}}),
    Comparison("schema_drift of every record, set", SET, orders(4), by_hand.checked_set(SCHEMA),
               source={"schema_drift": {"policy": "fail", "json_schema": SCHEMA}}),
    Comparison("transform: $.user.name", _transform({"select": {"out": "$.user.name"}}), orders(4), by_hand.plain_name),
    Comparison("transform: $.user.name", _transform({"select": {"out": "$.user.name"}}), orders(4), _library(_NAME),
               "jsonpath-rfc9535"),
    Comparison("transform: $.lines[*].sku", _transform({"select": {"out": "$.lines[*].sku"}}), orders(10),
               _library(_SKUS), "jsonpath-rfc9535"),
    Comparison("transform: $.lines[?@.price < 10].sku", _transform({"select": {"out": "$.lines[?@.price < 10].sku"}}),
               orders(10), _library(_CHEAP), "jsonpath-rfc9535"),
    Comparison("transform: $..price", _transform({"select": {"out": "$..price"}}), orders(10), _library(_ALL),
               "jsonpath-rfc9535"),
    Comparison("transform: filter", _transform(RESHAPE[0]), orders(10), by_hand.filter_list),
    Comparison("transform: map to objects", _transform(RESHAPE[1]), orders(10), by_hand.map_list),
    Comparison("transform: map to texts",
               _transform({"map": {"list": "lines", "value": "f'{item.quantity} of {item.sku}'"}}), orders(10),
               by_hand.map_texts),
    Comparison("transform: set the sum of a list",
               _transform({"set": {"total": "sum(line.price * line.quantity for line in lines)"}}), orders(10),
               by_hand.total),
    Comparison("transform: sort", _transform({"sort": {"list": "lines", "by": "desc(item.price)"}}), orders(10),
               by_hand.sort),
    Comparison("transform: sort by two",
               _transform({"sort": {"list": "lines", "by": ["desc(item.price)", "item.sku"]}}), orders(10),
               by_hand.sort_by_two),
    Comparison("transform: group", _transform({"group": {"list": "lines", "by": "item.sku"}}), twice(), by_hand.group),
    Comparison("transform: group to an object",
               _transform({"group": {"list": "lines", "by": "item.sku", "shape": "object"}}), twice(),
               by_hand.group_object),
    Comparison("transform: zip", _transform({"zip": {"lists": {"sku": "skus", "price": "prices"}, "as": "lines"}}),
               measured(), by_hand.zip_objects),
    Comparison("transform: flatten", _transform({"flatten": {"list": "parts"}}), measured(), by_hand.flatten_list),
    Comparison("transform: unique by a field", _transform({"unique": {"list": "lines", "by": "item.sku"}}), twice(),
               by_hand.unique),
    Comparison("transform: unique", _transform({"unique": {"list": "skus"}}), twice(), by_hand.unique_values),
    Comparison("transform: pivot",
               _transform({"pivot": {"list": "readings", "key": "item.name", "value": "item.value"}}), measured(),
               by_hand.pivot),
    Comparison("transform: unpivot", _transform({"unpivot": {"object": "sensors", "key": "sensor"}}), measured(),
               by_hand.unpivot),
    Comparison("transform: nest", _transform({"nest": {"address": ["street", "city"]}}), measured(), by_hand.nest),
    Comparison("transform: nest by a prefix", _transform({"nest": {"ship": {"prefix": "ship_"}}}), measured(),
               by_hand.nest_prefix),
    Comparison("transform: unnest", _transform({"unnest": "user"}), orders(4), by_hand.unnest),
    Comparison("transform: when", _transform(RESHAPE[3]), orders(4), by_hand.when),
    Comparison("transform: template", _transform(RESHAPE[4]), orders(4), by_hand.template),
    Comparison("transform: filter, map, sort, when, template", _transform(*RESHAPE), orders(10), by_hand.reshape),
    Comparison("transform: the same with rollback", _transform(*RESHAPE, on_failure="rollback"), orders(10),
               by_hand.reshape),
    Comparison("transform: coerce, rename", _transform({"coerce": {"amount": "int"}}, {"rename": {"id": "user.id"}}),
               orders(4), by_hand.coerce_rename, "by hand, int()"),
    Comparison("transform: coerce, rename", _transform({"coerce": {"amount": "int"}}, {"rename": {"id": "user.id"}}),
               orders(4), by_hand.coerce_strictly, "by hand, digits only"),
    Comparison("transform: merge", _transform({"merge": {"with": "{'country': 'FR', 'seen': true}", "into": "user"}}),
               orders(4), by_hand.merge),
    Comparison("transform: merge of a field", _transform({"merge": {"with": "changes", "into": "user"}}),
               [{**order, "changes": {"country": "FR", "seen": True}} for order in orders(4)], by_hand.merge_field),
    Comparison("transform: patch of 4 operations", _transform({"patch": PATCH}), orders(10), by_hand.patch),
    Comparison("transform: patch of 4 operations", _transform({"patch": PATCH}), orders(10), _patch_library,
               "jsonpatch"),
]  # fmt: skip


def compiled(row: Comparison) -> Callable[[Sequence[SourceRecord]], list[Any]]:
    """The pipeline from a log to a log with these stages, as a function from a batch to the values that it gives."""
    last = row.stages[-1].get("id")
    sinks = {name: {"from": f"{last}.{name}", "log": {"topic": name}} for name in row.sinks}
    text = yaml.safe_dump(
        {"name": "p", "source": {"log": {"topic": "in"}, **row.source}, "stages": list(row.stages),
         "sinks": sinks or {"out": {"log": {"topic": "out"}}}}, sort_keys=False)  # fmt: skip
    config = load_pipeline_text(text, FOLDER / "p.yaml", Registry.default(), {}, ServiceConfig())
    part = build_plan(config).parts[0]
    context = PipelineContext("bench", "p", FOLDER, FOLDER)
    stages = {c.id: c.spec.factory(c.settings, context) for c in part.stages}
    for stage in stages.values():
        finish(stage.prepare())
    chains = compile_chains(part, stages)
    first = chains[0, "source"].function
    keyed = next((c.id for c in part.stages if c.spec.keyed), None)
    [source] = part.sources
    drift = None
    if source.schema_drift is not None:
        drift = SourceDrift("p", source, format_of(source.settings).codec(), FOLDER, SYSTEM_CLOCK)

    def run(records: Sequence[SourceRecord]) -> list[Any]:
        outputs: list[list[Any]] = [[] for _ in row.sinks or ("out",)]
        failed: list[Any] = []
        if drift is not None:
            records, strays = finish(drift.passed(records, lambda *_: None, lambda: None))
            assert not strays
        first(records, 0, failed, *outputs)
        assert not failed, failed[0]
        if not row.sinks:
            return outputs[0]
        return [(name, *one) for name, rows in zip(row.sinks, outputs, strict=True) for one in rows]

    def run_keyed(records: Sequence[SourceRecord]) -> list[Any]:
        assert keyed is not None
        stage = stages[keyed]
        finish(stage.open(Task(TableStore())))
        stage.restored()
        lifted: list[Any] = []
        failed: list[Any] = []
        given: list[Any] = []
        rows: list[Any] = []
        times = [BEGINNING, BEGINNING, sys.maxsize]
        first(records, 0, failed, times, lifted)
        stage.process(lifted, given, failed)
        stage.advance(times[1], given)
        chains[0, keyed].function(given, 0, failed, times, rows)
        assert not failed, failed[0]
        return rows

    return run if keyed is None else run_keyed


@dataclass
class Task:
    """What a stage wants of its task."""

    store: TableStore


def finish(coroutine: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


def compare(row: Comparison) -> tuple[float, float]:
    """µs per record: the chain's, and the other's."""
    chain = compiled(row)
    records = [SourceRecord(b"k", json.dumps(document).encode(), 5, at) for at, document in enumerate(row.documents)]

    def other() -> list[Any]:
        rows: list[Any] = []
        by_hand = row.by_hand
        for record in records:
            value = by_hand(record.value)
            if value.__class__ is bytes:
                rows.append((record.key, value, record.timestamp, record.headers))
            elif value.__class__ is tuple:
                rows.append((value[0], record.key, value[1], record.timestamp, record.headers))
            elif value is not None:
                rows += [(record.key, one, record.timestamp, record.headers) for one in value]
        return rows

    def other_batch() -> list[Any]:
        return row.by_hand.batch(records)  # type: ignore[attr-defined]

    beside = other_batch if hasattr(row.by_hand, "batch") else other
    assert _values(chain(records)) == _values(beside()), row.name
    times = [_turn(lambda: chain(records), beside) for _ in range(ROUNDS)]
    return min(own for own, _ in times) / len(records), min(theirs for _, theirs in times) / len(records)


def _values(rows: list[Any]) -> list[Any]:
    """What the rows say, those of several outputs by the output."""
    return sorted(
        ([*row[:-4], loads(row[-3])] for row in rows), key=lambda row: row[:-1]
    )  # a stable order: each output's rows stay as they came


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
    (FOLDER / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in TABLE.values()))
    gc.freeze()  # the documents of all rows, which each collection would go through
    print("| stage | µs/record | beside | µs/record | x |\n|---|---:|---|---:|---:|")
    for row in ROWS:
        if not sys.argv[1:] or row.name.startswith(tuple(sys.argv[1:])):
            own, theirs = compare(row)
            print(f"| {row.name} | {own:.2f} | {row.beside} | {theirs:.2f} | {own / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""What `validate` costs: µs a record in the generated chain, against the plain library call on the same documents.

    python bench/validate.py

Both parse the JSON with orjson; the plain side calls what the stage calls, in one loop over the records. Median of
rounds in turn, so that a machine that is busy is so for both.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import Assembly

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["order_id", "customer", "amount"],
    "properties": {
        "order_id": {"type": "string", "pattern": "^o-[0-9]+$"},
        "amount": {"type": "number"},
        "country": {"type": "string", "minLength": 2, "maxLength": 2},
        "lines": {
            "type": "array",
            "items": {"type": "object", "required": ["sku"], "properties": {"quantity": {"type": "integer"}}},
        },
    },
}
RULES = """
    - {field: amount, range: [-100000, 100000]}
    - {field: country, in: [AT, BR, DE, FR, GB, US, JP, IN, ES, IT, NL, PL, SE, CA, AU]}
    - {field: customer, pattern: "^c-[0-9]{3}$"}
    - {not_null: [order_id, customer]}
"""
HEAD = "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\nstages:\n"
ROUNDS, REPEAT = 15, 10


def records() -> list[SourceRecord]:
    path = Path(__file__).resolve().parents[1] / "config" / "samples" / "orders.ndjson"
    lines = path.read_bytes().splitlines() * REPEAT
    return [SourceRecord(None, line, 1_767_603_600_000, at) for at, line in enumerate(lines)]


def chain(stages: str) -> Callable[[list[SourceRecord]], Any]:
    """The generated function of a pipeline, over a batch."""
    config = load_pipeline_text(HEAD + stages, Path("p.yaml"), Registry.default(), {}, ServiceConfig.model_validate({}))
    assembly = Assembly(build_plan(config), PipelineContext("bench", "p", Path(), Path()))
    asyncio.run(assembly.open())
    function = assembly.chains[0, "source"].function
    return lambda batch: function(batch, 0, [], [])


def plain_schema(batch: list[SourceRecord]) -> None:
    out: list[Any] = []
    for r in batch:
        document = orjson.loads(r.value)
        if not VALIDATOR.is_valid(document):
            raise ValueError
        out.append((r.key, r.value, r.timestamp, r.headers))


def plain_rules(batch: list[SourceRecord]) -> None:
    out: list[Any] = []
    for r in batch:
        d = orjson.loads(r.value)
        amount, country, customer = d["amount"], d["country"], d["customer"]
        if not -100000 <= amount <= 100000 or country not in COUNTRIES or PATTERN(customer) is None:
            raise ValueError
        if d["order_id"] is None or customer is None:
            raise ValueError
        out.append((r.key, r.value, r.timestamp, r.headers))


VALIDATOR = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)
COUNTRIES = frozenset(["AT", "BR", "DE", "FR", "GB", "US", "JP", "IN", "ES", "IT", "NL", "PL", "SE", "CA", "AU"])
PATTERN = re.compile("^c-[0-9]{3}$").search


def main() -> None:
    schema = orjson.dumps(SCHEMA).decode()
    sides = {
        "json_schema": (chain(f"- validate: {{schema: {{json_schema: {schema}}}}}\n"), plain_schema),
        "rules": (chain(f"- validate:\n    rules:{RULES}"), plain_rules),
    }
    batch = records()
    print(f"{'validate':<14}{'stage µs':>10}{'plain µs':>10}{'overhead':>10}")
    for name, pair in sides.items():
        taken: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for side, run in enumerate(pair):
                began = time.process_time()
                run(batch)
                taken[side].append((time.process_time() - began) / len(batch) * 1e6)
        ours, plain = (statistics.median(times) for times in taken)
        print(f"{name:<14}{ours:>10.2f}{plain:>10.2f}{ours / plain - 1:>10.0%}")


if __name__ == "__main__":
    main()

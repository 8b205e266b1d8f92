"""Keeps running aggregates per key, for ever, and gives their new values with each record.

    - aggregate: {by: user, values: {orders: count(), total: sum(amount)}}
    - aggregate: {by: [region, product], values: {last_price: last(price)}}
    - aggregate: {by: {country: user.country}, values: {customers: count()}}

Each record gives one: the key's fields and the values as they are after it. `by` is a field, several, or names with
their expressions; 1 and 1.0 are the same key, "1" and true are others. A key that is null is an error of the record. A
value that is null counts for nothing but in `count()`. A tombstone is passed on.

What is kept is committed together with positions and outputs; it grows with the number of keys. Once something is kept,
`by` and `values` stay as they are: with other settings the pipeline refuses to start, since it would go on from what
means something else.

All records of a key must be in one partition of the source, as they are when they were written with it as their key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import AggregateField, ExpressionField
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.state import Table, key_of
from streamd.errors import TransformError
from streamd.expr import Expression, Scope, compile_expression
from streamd.expr.aggregates import compiled
from streamd.record import Record


def _named(value: object) -> object:
    """{name: expression} of a field's name, of several, or of such a mapping."""
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list):
        for name in names:
            if not (isinstance(name, str) and name.isidentifier()):
                raise ValueError(
                    "expected a field's name, several, or names with their expressions, like {country: user.country}"
                )
        if len(set(names)) < len(names):
            raise ValueError("expected a list with each field once")
        return {name: name for name in names}
    return value


_BY_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "object", "minProperties": 1},
    ]
}


class AggregateConfig(Model):
    """Settings of `aggregate`."""

    by: Annotated[dict[str, ExpressionField], BeforeValidator(_named), WithJsonSchema(_BY_SCHEMA)] = Field(
        description="The key: a field, a list of fields, or names with the expressions of their values.",
        examples=["user", ["region", "product"], {"country": "user.country"}],
        min_length=1,
    )
    values: dict[str, AggregateField] = Field(
        description="Fields of the new document, each with its aggregate.",
        examples=[{"orders": "count()", "total": "sum(amount)"}],
        min_length=1,
    )

    @model_validator(mode="after")
    def _names_once(self) -> AggregateConfig:
        both = sorted(self.by.keys() & self.values.keys())
        if both:
            raise ValueError(f"{both[0]!r} is in `by` and in `values`: expected a name of its own for each")
        return self


def _settings(config: AggregateConfig) -> dict[str, str]:
    by = {f"by.{name}": str(expression) for name, expression in config.by.items()}
    return by | {f"values.{name}": str(aggregate) for name, aggregate in config.values.items()}


@stage("aggregate", config=AggregateConfig, fused=False, state=_settings)
class Aggregate:
    """The stage `aggregate`."""

    spec: Any

    def __init__(self, config: AggregateConfig, context: PipelineContext) -> None:
        # What is kept is in the order of names, whatever the order is that they are written in.
        names = sorted(config.values)
        self._aggregates = compiled([config.values[name] for name in names])
        self._folder = str(context.base_dir.resolve())
        self._by = _evaluators(config.by)
        self._keys = sorted(config.by)
        self._results = [(name, names.index(name)) for name in config.values]
        arguments = {one.text: one for name in names for one in config.values[name].arguments}
        self._arguments = [compile_expression(argument) for argument in arguments.values()]
        used = [*config.by.values(), *arguments.values()]
        self._metadata = frozenset().union(*(expression.metadata for expression in used))
        self._table: Table

    async def prepare(self) -> None:
        """Import what aggregates need."""
        for aggregate in self._aggregates.aggregates:
            aggregate.prepare(self._folder)

    async def open(self, task: TaskContext) -> None:
        """Take the table from the task's store."""
        assert task.store is not None
        self._table = task.store.table("values", self._aggregates.pack, self._aggregates.unpack)

    async def process(self, batch: list[Record]) -> list[Record]:
        """Each record's aggregates after it. What a record fails with leaves the store as it was."""
        # Everything of the records is looked at before the store changes; after that only own code may fail.
        rows = [None if record.value is None else self._row(record) for record in batch]
        table, aggregates = self._table, self._aggregates
        before: dict[Hashable, list[Any] | None] = {}
        out: list[Record] = []
        try:
            for record, row in zip(batch, rows, strict=True):
                if row is None:
                    out.append(record)
                    continue
                key, document, arguments = row
                kept = table[key]
                if key not in before:
                    before[key] = deepcopy(aggregates.pack(kept)) if kept and aggregates.fallible else None
                if kept is None:
                    kept = table[key] = aggregates.start()
                aggregates.step(kept, arguments)
                results = aggregates.results(kept)
                for name, index in self._results:
                    document[name] = results[index]
                out.append(_with_value(record, document))
        except Exception:
            for key, old in before.items():
                if old is None:
                    table.remove(key)
                else:
                    table[key] = aggregates.unpack(old)
            raise
        table.dirty.update(before)
        return out

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def view(self) -> Table:
        """See `Viewed`: the keys and what is kept for them."""
        return self._table

    def shown(self, key: Hashable, value: Any) -> dict[str, Any]:
        """See `Viewed`: the key's fields and its aggregates, as the last record of the key gave them."""
        found: Any = orjson.loads(key) if isinstance(key, bytes) else key
        document = dict(zip(self._keys, found if len(self._keys) > 1 else [found], strict=True))
        results = self._aggregates.results(value)
        return document | {name: results[index] for name, index in self._results}

    def _row(self, record: Record) -> tuple[Hashable, dict[str, Any], Sequence[Any]]:
        """(key, the key's fields, the aggregates' arguments) of a record."""
        scope = self._scope(record)
        fields = {name: value(scope) for name, value in self._by.items()}
        parts = tuple(fields[name] for name in self._keys)
        if None in parts:
            key_of(None)
        key = key_of(parts[0] if len(parts) == 1 else parts)
        return key, fields, self._aggregates.check([argument(scope) for argument in self._arguments])

    def _scope(self, record: Record) -> Scope:
        key: str | None = None
        headers: dict[str, Any] = {}
        if "_key" in self._metadata and record.key is not None:
            try:
                key = record.key.decode()
            except UnicodeDecodeError:
                raise TransformError("the record's key is not UTF-8 text") from None
        if "_headers" in self._metadata:
            headers = {name: value and value.decode(errors="replace") for name, value in record.headers}
        return Scope(record.value, key, record.timestamp, record.topic, record.partition, record.offset, headers)


def _evaluators(expressions: Mapping[str, Expression]) -> dict[str, Callable[[Scope], Any]]:
    return {name: compile_expression(expression) for name, expression in expressions.items()}


def _with_value(record: Record, value: dict[str, Any]) -> Record:
    return Record(value, record.key, record.timestamp, record.headers, record.topic, record.partition, record.offset)

"""Keeps running aggregates per key, for ever or for a while, and gives their new values: a table that changes.

    - aggregate: {by: user, values: {orders: count(), total: sum(amount)}}
    - aggregate: {by: [region, product], values: {last_price: last(price)}}
    - aggregate: {by: {country: user.country}, values: {customers: count_distinct(user.id)}}
    - aggregate: {by: channel, values: {cheap: count(where=price < 100), p95: "quantile(price, 0.95)"}}
    - aggregate: {by: auction, values: {best: "first(_value, order_by=[desc(price), time])"}, emit: {every: 1s}}
    - aggregate: {by: {sets: [[region], [region, product], []]}, values: {sold: sum(amount)}}
    - aggregate: {by: session, values: {clicks: count()}, ttl: 7d}

Each record gives the key's fields and the values as they are after it. With `emit: {every: 1s}` each key that has
changed is given once, at most that long after the change by the wall clock, and at the end of the input: fewer rows,
and the last one of each key is the same. What is given has the key as its key, a text as it is, all else as JSON. Its
time is that of the record, or the watermark where that is later.

`by` is a field, several, or names with their expressions; 1 and 1.0 are the same key, "1" and true are others. A key
that is null is an error of the record. With `sets` a record counts once for each set of fields, with null for the
fields that the set leaves out. A value that is null counts for nothing but in `count()`. A tombstone is passed on.

With `ttl` a key is forgotten when the watermark is that far past its last update, and a record that comes later begins
anew. Nothing is given when a key is forgotten. A late record is an update at the watermark.

What is kept is committed together with positions and outputs; without `ttl` it grows with the number of keys. Once
something is kept, `by` and `values` stay as they are: with other settings the pipeline refuses to start, since it would
go on from what means something else. The same goes for whether there is a `ttl`; how long it is may change.

All records of a key are counted by one task: where the source does not bring them together, they move through an
exchange before this stage, see `key_by`.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.expiry import Expiry, Unexpired
from streamd.component.fields import AggregateField, Duration, duration_text
from streamd.component.grouping import GroupingField, lift_keys, named_key
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.component.state import Table
from streamd.expr.aggregates import Accumulator, Aggregate, compiled, growing, slots_of, write_columns
from streamd.record import BEGINNING, END, RawRecord, Result


class EmitSettings(Model):
    """Changes from time to time."""

    every: Duration = Field(
        ge=0.001, description="Time between two results of a key that changes, by the wall clock.", examples=["1s"]
    )


class AggregateConfig(Model):
    """Settings of `aggregate`."""

    by: GroupingField = Field(
        description="The key: a field, a list, names with the expressions of their values, or `sets` of fields.",
        examples=["user", ["region", "product"], {"country": "user.country"}, {"sets": [["region"], []]}],
    )
    values: dict[str, AggregateField] = Field(
        description="Fields of the new document, each with its aggregate.",
        examples=[{"orders": "count()", "total": "sum(amount)"}],
        min_length=1,
    )
    emit: Literal["on_update"] | EmitSettings = Field(
        "on_update", description="Whether each record gives a result, or each changed key from time to time.",
        examples=["on_update", {"every": "1s"}],
    )  # fmt: skip
    ttl: Duration | None = Field(
        None,
        ge=0.001,
        description="How long a key is kept that is not updated, in event time; without it for ever.",
        examples=["7d"],
    )

    @property
    def remembers(self) -> str:
        """What is kept, for `explain`."""
        key = f"each {' and '.join(self.by.fields) or 'group'}"
        if self.ttl is None:
            return f"{key} for ever; `ttl` would bound that"
        return f"{key} for {duration_text(self.ttl)} after its last update"

    @property
    def grows(self) -> str:
        """What grows without bound besides the number of keys, for `explain`; "" when nothing does."""
        grows = growing(self.values)
        return f"{grows}; `ttl` would forget keys that are not updated" if grows and self.ttl is None else grows

    @model_validator(mode="after")
    def _names_once(self) -> AggregateConfig:
        both = sorted(self.by.fields.keys() & self.values.keys())
        if both:
            raise ValueError(f"{both[0]!r} is in `by` and in `values`: expected a name of its own for each")
        if not self.by.fields and self.by.sets is None:
            raise ValueError("expected at least one field in `by`; `by: {sets: [[]]}` is one group of all records")
        return self


def _settings(config: AggregateConfig) -> dict[str, str]:
    values = {f"values.{name}": str(aggregate) for name, aggregate in config.values.items()}
    # Times are kept or not; how long a key is kept is another matter.
    return config.by.settings() | values | ({} if config.ttl is None else {"ttl": "set"})


@stage("aggregate", config=AggregateConfig, fused=False, keyed=True, state=_settings, own_key=True)
class AggregateStage:
    """The stage `aggregate`. It keeps {key: accumulator}, and {key: time} of what has changed and was not given yet.

    With `ttl`, behind the slots of an accumulator there is the time of its last update.
    """

    spec: Any

    def __init__(self, config: AggregateConfig, context: PipelineContext) -> None:
        self.config, self.context = config, context
        # What is kept is in the order of names, whatever the order is that they are written in.
        self._names = sorted(config.values)
        self._aggregates: list[Aggregate] = [config.values[name] for name in self._names]
        self._keys = len(config.by.sets) if config.by.sets is not None else 1
        self._kernel: Kernel | None = None
        self._changed: dict[Hashable, int] = {}
        self._watermark = BEGINNING
        self._marks: Table
        self._table: Table
        self._expiry: Expiry | None = None
        self.due: int | None = None

    @property
    def kernel(self) -> Kernel:
        """The generated functions."""
        if self._kernel is None:
            self._kernel = Kernel(self.config, self._names, compiled(self._aggregates), self._keys)
        return self._kernel

    @property
    def source(self) -> str:
        """The generated code."""
        return self.kernel.source

    async def prepare(self) -> None:
        """Import the user's own aggregates."""
        for aggregate in self._aggregates:
            aggregate.prepare(str(self.context.base_dir.resolve()))

    def lift(self, body: Body, port: int) -> str:
        """(the record, its time, the watermark, its keys …, the aggregates' arguments …)."""
        keys = lift_keys(body, self.config.by)
        columns = write_columns(self._aggregates, body)
        return f"({', '.join(['r', body.metadata('_timestamp'), body.watermark(), *keys, *columns])})"

    def lift_tombstone(self, body: Body, port: int) -> str:
        """A row with no keys."""
        nothing = ["None"] * (self._keys + len(self.kernel.columns))
        return f"({', '.join(['r', body.metadata('_timestamp'), body.watermark(), *nothing])})"

    async def open(self, task: TaskContext) -> None:
        """Take the tables from the task's store."""
        assert task.store is not None
        many = self.kernel.accumulator
        coders: tuple[Any, ...] = (many.pack, many.unpack) if many.packs else ()
        if self.config.ttl is not None:
            self._expiry = Expiry(task.store.times("expiry"), round(1000 * self.config.ttl))
            if many.packs:
                coders = (lambda a: [*many.pack(a), a[-1]], lambda a: [*many.unpack(a), a[-1]])
        self._table = task.store.table("values", *coders)
        self._marks = task.store.table("changed")

    @property
    def view(self) -> Table | Unexpired:
        """See `Viewed`."""
        if self._expiry is None:
            return self._table
        ttl = self._expiry.ttl
        return Unexpired(self._table, lambda a: a[-1], lambda: self._watermark - ttl)

    def restored(self) -> None:
        """Whatever was to be given before the crash is still to be given."""
        self._changed = dict(self._marks.scan())
        self.due = self.context.clock.now_ms() if self._changed else None

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """See `KeyedStage`. Only the user's own aggregates can fail here."""
        if not rows:
            return
        track = () if self._expiry is None else (self._expiry.add,)
        self.kernel.process(rows, out, failed, self._table, self._changed, self._marks, *track)
        self._watermark = max(self._watermark, rows[-1][2])
        if self._changed and self.due is None and isinstance(self.config.emit, EmitSettings):
            self.due = self.context.clock.now_ms() + round(1000 * self.config.emit.every)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """See `KeyedStage`. At the end of all input nothing is held back."""
        if watermark >= END:
            self._give(out)
        else:
            self._watermark = max(self._watermark, watermark)
            if self._expiry is not None:
                self._forget(self._expiry, out)
        return watermark

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """Give what has changed."""
        self._give(out)

    def shown(self, key: Hashable, value: list[Any]) -> dict[str, Any]:
        """What readers of the view see: a result's document."""
        out: list[Result] = []
        self.kernel.give(key, value, 0, out)
        document: dict[str, Any] = out[0].value
        return document

    async def close(self) -> None:
        """Nothing is held."""

    def _give(self, out: list[Result]) -> None:
        table, marks, give = self._table, self._marks, self.kernel.give
        for key, time in self._changed.items():
            give(key, table[key], max(time, self._watermark), out)
            marks.remove(key)
        self._changed.clear()
        self.due = None

    def _forget(self, expiry: Expiry, out: list[Result]) -> None:
        """Forget keys whose time has come; a change that was not given yet is given."""
        table, changed = self._table, self._changed
        bound = self._watermark - expiry.ttl
        for key in expiry.due(bound):
            accumulator = table[key]
            if accumulator[-1] > bound:
                expiry.add(key, accumulator[-1])
                continue
            if key in changed:
                self.kernel.give(key, accumulator, max(changed.pop(key), self._watermark), out)
                self._marks.remove(key)
            table.remove(key)


class Kernel:
    """`process(rows, out, failed, table, changed, marks)` and `give(key, accumulator, time, out)`, generated.

    With `ttl`, `process` takes `track(key, time)` besides, which is told of new keys.
    """

    process: Callable[..., None]
    give: Callable[[Hashable, list[Any], int, list[Result]], None]

    def __init__(self, config: AggregateConfig, names: Sequence[str], many: Accumulator, keys: int) -> None:
        self.config, self.names, self.accumulator = config, names, many
        self.columns = many.columns.names
        self._namespace: dict[str, Any] = {"Result": Result, "named_key": named_key}
        self._keys = [f"key_{number}" for number in range(keys)] if keys > 1 else ["key"]
        self._periodic = isinstance(config.emit, EmitSettings)
        self._ttl = None if config.ttl is None else round(1000 * config.ttl)
        self._updated = f"a[{sum(aggregate.slots for aggregate in many.aggregates)}]"
        self.source = "\n".join([*self._process(), "", "", *self._give()]) + "\n"
        filename = f"<streamd aggregate {', '.join(names)}>"
        exec(compile(self.source, filename, "exec"), self._namespace)
        linecache.cache[filename] = (len(self.source), None, self.source.splitlines(keepends=True), filename)
        self.process, self.give = self._namespace["process"], self._namespace["give"]

    def _constant(self, hint: str, value: Any) -> str:
        name, number = hint, 2
        while self._namespace.setdefault(name, value) is not value:
            name, number = f"{hint}_{number}", number + 1
        return name

    def _process(self) -> list[str]:
        row = ", ".join(["r", "time", "watermark", *self._keys, *self.columns])
        lines = [
            f"def process(rows, out, failed, table, changed, marks{'' if self._ttl is None else ', track'}):",
            "    dirty, append = table.dirty.add, out.append",
            f"    for {row} in rows:",
            "        if time < watermark: time = watermark",
            f"        if {self._keys[0]} is None:",
            "            append(Result(None, r.key, time, r.headers))",
            "            continue",
        ]
        if self._ttl is not None:
            lines.append(f"        expired = watermark - {self._ttl}")
        lines += [f"        {line}" for line in self._tries()]
        for number, key in enumerate(self._keys):
            lines += [f"        {line}" for line in self._step(number, key)]
        return lines

    def _fetch(self, number: int, key: str) -> list[str]:
        start = ", ".join(aggregate.start_source() for aggregate in self.accumulator.aggregates)
        if self._ttl is None:
            return [f"a = table[{key}]", f"if a is None: a = table[{key}] = [{start}]"]
        # What has expired is replaced, whether its turn to be removed has come or not: no batch decides about that.
        return [
            f"a = table[{key}]",
            "if a is None:",
            f"    a = table[{key}] = [{start}, time]",
            f"    track({key}, time)",
            f"elif {self._updated} <= expired:",
            *([f"    if {key} in changed: give({key}, a, time, out)"] if self._periodic else []),
            f"    a = table[{key}] = [{start}, time]",
            f"elif time > {self._updated}: {self._updated} = time",
        ]

    def _tries(self) -> list[str]:
        """The steps that may raise, on copies of their slots, for all keys before any of them changes."""
        if not self.accumulator.fallible:
            return []
        lines = ["try:"]
        for number, key in enumerate(self._keys):
            found = [f"a = table[{key}] or empty"]
            if self._ttl is not None:
                found = [f"a = table[{key}]", f"if a is None or {self._updated} <= expired: a = empty"]
            lines += [f"    {line}" for line in (*found, *self._fallible(number)[0])]
        starts = ", ".join(aggregate.start_source() for aggregate in self.accumulator.aggregates)
        self._namespace["empty"] = eval(f"[{starts}]")
        return [*lines, "except Exception as error:", "    failed.append((r, error))", "    continue"]

    def _fallible(self, number: int) -> tuple[list[str], list[str]]:
        """(lines that compute the slots of what may raise, as copies; lines that take them)."""
        many = self.accumulator
        compute, take = [], []
        for which, (aggregate, slots) in enumerate(zip(many.aggregates, slots_of(many.aggregates, "a"), strict=True)):
            if aggregate.fallible:
                copies = [f"agg_{number}_{which}_{slot}" for slot in range(aggregate.slots)]
                compute += [f"{copy} = {slot}" for copy, slot in zip(copies, slots, strict=True)]
                compute += aggregate.step_lines(copies, many.columns.arguments(which), self._constant)
                take += [f"{slot} = {copy}" for copy, slot in zip(copies, slots, strict=True)]
        return compute, take

    def _step(self, number: int, key: str) -> list[str]:
        many = self.accumulator
        lines = self._fetch(number, key)
        lines += self._fallible(number)[1]
        for which, (aggregate, slots) in enumerate(zip(many.aggregates, slots_of(many.aggregates, "a"), strict=True)):
            if not aggregate.fallible:
                lines += aggregate.step_lines(slots, many.columns.arguments(which), self._constant)
        lines.append(f"dirty({key})")
        if self._periodic:
            return [
                *lines,
                f"if {key} not in changed:",
                f"    marks[{key}] = time",
                f"    marks.dirty.add({key})",
                f"changed[{key}] = time",
            ]
        return [*lines, *self._result(key, "append")]

    def _result(self, key: str, append: str) -> list[str]:
        many, by = self.accumulator, self.config.by
        slots = dict(zip(self.names, slots_of(many.aggregates, "a"), strict=True))
        if by.sets is None and len(by.fields) == 1:
            lines = [
                f"if {key}.__class__ is str: value, name = {key}, {key}.encode()",
                f"else: value, name = named_key({key})",
            ]
            fields = [f"{name!r}: value" for name in by.fields]
        else:
            lines = [f"value, name = named_key({key})"]
            fields = [f"{name!r}: value[{place}]" for place, name in enumerate(by.fields)]
        for name, aggregate in self.config.values.items():
            fields.append(f"{name!r}: {aggregate.result_source(slots[name], self._constant)}")
        return [*lines, f"{append}(Result({{{', '.join(fields)}}}, name, time))"]

    def _give(self) -> list[str]:
        lines = self._result("key", "out.append")
        return ["def give(key, a, time, out):", *(f"    {line}" for line in lines)]

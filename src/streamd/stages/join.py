"""Joins two inputs: gives each pair of records whose keys are equal, and whose times are near enough.

    - {id: paid, join: {left: orders, right: payments, on: order_id, within: 10m}}

    - id: matched
      join:
        left: orders
        right: payments
        type: left
        on: {left: id, right: order_id}
        within: {before: 1m, after: 10m}
        where: payments.amount >= orders.amount
        fields: {id: orders.id, amount: orders.amount, paid_by: payments.method}

    - join: {left: bids, right: {table: users}, type: left, on: {left: bidder, right: id}, as: user}

`left` and `right` are ids of sources or stages. `on` is a field that both have, several, or the expressions for each
side. A key that is null or missing is an error of the record; 1 and 1.0 are the same key, "1" is another.

`within` says how far apart in event time the two may be: `10m` either way, or right's time from `before` left's to
`after` it. A record that comes behind the watermark by more than `grace` is late, and `late` says what becomes of it.
With `keep` instead, a record meets all others until the watermark is that far past it, and nothing is late. With
neither, everything is kept for ever.

`type` is inner, left, right or full: with the last three, records of that side that found nobody are given as well,
alone, once the watermark says that nobody can come. They need `within` or `keep`.

`where` is a further condition on the two; `fields` are the fields of the result. Their expressions see the two records
under the ids of the inputs, and as `left` and `right`. With `as: user` instead, the right record is the field `user` of
the left one. With neither the result has all fields of both; a field that both have with different values is an error
of the record. Of a record alone, what needs the other side is null; `has(payments)` and `get(payments.amount, 0)` ask.
The result's time is the later one of the two, with a table the stream's; its key is the join's.

`{table: ID}` takes an input as a table: each record is the newest version of its key, and one without a value (a source
with `tombstones: forward`) deletes it. A stream's record meets the version at hand when it comes, or with `as_of:
event_time` the one of its own time, for which it waits until the watermark has passed it. `history` says how late such
a record may come. With `{table: ID, ttl: 30d}` and `as_of: latest` a table's record is forgotten when the watermark is
that far past it and no other of its key came. Two tables give a table: a record for each change, without a value where
a result is gone.

All records of a key must be in one task. Where inputs have several partitions, records go through exchanges first,
unless their sources say that they are `partitioned_by` the key.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import Duration, ExpressionField, LateField, duration_text
from streamd.component.model import Model
from streamd.component.partitioning import SHORT
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.component.state import key_of
from streamd.errors import TransformError
from streamd.expr import Expression, nodes
from streamd.joins.lookup import AsOfJoin, LatestJoin, TableJoin
from streamd.joins.results import Results, storable
from streamd.joins.settings import KeysField, TableInput, WithinField
from streamd.joins.sides import LEFT, RIGHT, check_names, names_of
from streamd.joins.streams import Bounds, Failed, StreamJoin
from streamd.record import Result


class JoinConfig(Model):
    """Settings of `join`."""

    left: str | TableInput = Field(description="The input on the left: its id, or `{table: ID}`.", examples=["orders"])
    right: str | TableInput = Field(
        description="The input on the right: its id, or `{table: ID}`.", examples=["payments", {"table": "users"}]
    )
    on: KeysField = Field(
        description="The key: a field that both have, several, or for each side the expressions of its own.",
        examples=["order_id", ["region", "day"], {"left": "id", "right": "order_id"}],
    )
    type: Literal["inner", "left", "right", "full"] = Field(
        "inner", description="Whose records are given alone when they found nobody.", examples=["left"]
    )
    within: WithinField = Field(
        None,
        description="How far apart two records may be: either way, or right `before` and `after` left.",
        examples=["10m", {"before": "1m", "after": "10m"}],
    )
    keep: Duration | None = Field(
        None, description="Without `within`: how long a record is kept; else for ever.", examples=["7d"]
    )
    grace: Duration = Field(
        0.0, description="With `within`: how far behind the watermark a record may come.", examples=["5s"]
    )
    late: LateField = Field(
        "drop", description="What becomes of a record that comes later still.", examples=["dead_letter"]
    )
    where: ExpressionField | None = Field(
        None,
        description="What must hold besides equal keys, over both records.",
        examples=["payments.amount >= orders.amount"],
    )
    fields: dict[str, ExpressionField] | None = Field(
        None,
        description="Fields of the result, over both records; without it all fields of both.",
        examples=[{"id": "orders.id", "paid_by": "payments.method"}],
        min_length=1,
    )
    into: str | None = Field(
        None,
        alias="as",
        min_length=1,
        description="Instead of `fields`: the left record, with the right one as this field of it.",
        examples=["user"],
    )
    as_of: Literal["latest", "event_time"] = Field(
        "latest", description="Which version of a table a stream's record meets.", examples=["event_time"]
    )
    history: Duration = Field(
        0.0,
        description="With `as_of: event_time`: how far behind the watermark a record may still ask for its version.",
        examples=["1h"],
    )

    @property
    def inputs(self) -> tuple[str, str]:
        """The ids of left and right."""
        left, right = (side if isinstance(side, str) else side.table for side in (self.left, self.right))
        return left, right

    @property
    def tables(self) -> tuple[bool, bool]:
        """Which of left and right are tables."""
        return isinstance(self.left, TableInput), isinstance(self.right, TableInput)

    @property
    def ttl(self) -> float | None:
        """Seconds that the table's records are kept for; None: for ever."""
        sides = [side for side in (self.left, self.right) if isinstance(side, TableInput)]
        return next((side.ttl for side in sides if side.ttl is not None), None)

    @property
    def remembers(self) -> str:
        """What it keeps and for how long, for people."""
        if all(self.tables):
            return "the newest record of each key of both tables"
        if any(self.tables):
            if self.as_of != "latest":
                return "versions of each key, and who waits"
            kept = f" for {duration_text(self.ttl)}" if self.ttl is not None else ""
            return f"the newest record of each key{kept}"
        if self.within is not None:
            return (
                f"records for as long as others may come within {duration_text(self.within.before + self.within.after)}"
            )
        if self.keep is not None:
            return f"records for {duration_text(self.keep)}"
        return "all records of both inputs for ever"

    @property
    def reach(self) -> float:
        """Seconds of event time that two records may be apart, as far as a time bounds that; else 0."""
        if self.within is not None:
            return max(self.within.before, self.within.after) + self.grace
        return self.keep or self.history

    @property
    def grows(self) -> str:
        """What grows without bound, and what would bound it, for `explain`; "" when nothing does."""
        if any(self.tables) or self.within is not None or self.keep is not None:
            return ""
        return "each record of both inputs is kept for ever; `within` or `keep` would bound that"

    @property
    def outer(self) -> tuple[bool, bool]:
        """Whether records of left and right are given alone."""
        return self.type in ("left", "full"), self.type in ("right", "full")

    @model_validator(mode="after")
    def _names_known(self) -> JoinConfig:
        left, right = self.inputs
        if left != right and (left == "right" or right == "left"):
            raise ValueError("an input on one side has the name of the other side; give it another id")
        names = names_of(self.inputs)
        if self.into is not None and self.fields is not None:
            raise ValueError("`as` and `fields` are both given: expected one of them")
        places = {("fields", name): expression for name, expression in (self.fields or {}).items()}
        for place, expression in (places | ({} if self.where is None else {("where",): self.where})).items():
            try:
                check_names(expression, names)
            except ValueError as error:
                raise _at(place, str(error)) from None
        return self

    @model_validator(mode="after")
    def _fits(self) -> JoinConfig:
        timed = [name for name in ("within", "keep") if getattr(self, name) is not None]
        if len(timed) == 2:
            raise ValueError("`within` and `keep` are both given: expected one of them")
        if any(self.tables):
            if timed or self.grace:
                raise ValueError(
                    f"`{[*timed, 'grace'][0]}` is for two streams: a table's records stay until they change"
                )
            if not all(self.tables) and self.outer[self.tables.index(True)]:
                raise ValueError(f"`type: {self.type}` would give rows of a table that nobody asked for")
        elif self.type != "inner" and not timed:
            raise ValueError(
                f"`type: {self.type}` needs `within` or `keep`: else nobody knows that no other record comes"
            )
        if self.grace and self.within is None:
            raise ValueError("`grace` goes with `within`: without it nothing is late")
        versioned = sum(self.tables) == 1
        if self.as_of == "event_time" and not versioned:
            raise ValueError("`as_of: event_time` is for a stream and a table")
        if self.ttl is not None and (not versioned or self.as_of != "latest"):
            raise ValueError("`ttl` is for the table that a stream meets the latest version of")
        if self.history and self.as_of != "event_time":
            raise ValueError("`history` goes with `as_of: event_time`")
        return self


def _at(place: tuple[str, ...], message: str) -> ValidationError:
    """A mistake in one of the settings, found when all of them are known."""
    error = PydanticCustomError("expression", "{message}", {"message": message})
    details = [InitErrorDetails(type=error, loc=place, input=None)]
    return ValidationError.from_exception_data("join", details, hide_input=True)


def _settings(config: JoinConfig) -> dict[str, str]:
    """All that the meaning of what is kept depends on."""
    texts = {f"on.{side}": ", ".join(map(str, getattr(config.on, side))) for side in ("left", "right")}
    texts |= {"left": str(config.left), "right": str(config.right), "type": config.type, "as_of": config.as_of}
    texts |= {"as": str(config.into)} if config.into is not None else {}
    texts |= {"within": str(config.within), "keep": str(config.keep), "where": str(config.where)}
    return texts | {f"fields.{name}": str(expression) for name, expression in (config.fields or {}).items()}


def _inputs(config: JoinConfig) -> tuple[str, ...]:
    return config.inputs


@stage("join", config=JoinConfig, fused=False, keyed=True, state=_settings, inputs=_inputs, own_key=True)
class Join:
    """The stage `join`."""

    spec: Any

    def __init__(self, config: JoinConfig, context: PipelineContext) -> None:
        self.config = config
        outer, tables = config.outer, config.tables
        streams = not any(tables)
        # A row is [time, column, …]; one that may be given alone later knows whether it has met anybody.
        self._flagged = outer if streams else (False, False)
        first = (1 + self._flagged[LEFT], 1 + self._flagged[RIGHT])
        self._results = Results(config.inputs, config.fields, config.where, first, config.into)
        self._join: StreamJoin | LatestJoin | AsOfJoin | TableJoin
        if streams:
            self._join = StreamJoin(self._results, _bounds(config), outer)
        elif all(tables):
            self._join = TableJoin(self._results, outer)
        else:
            table = tables.index(True)
            if config.as_of == "latest":
                ttl = None if config.ttl is None else _ms(config.ttl)
                self._join = LatestJoin(self._results, table, outer[1 - table], ttl)
            else:
                self._join = AsOfJoin(self._results, table, outer[1 - table], _ms(config.history))

    @property
    def source(self) -> str:
        """The code that joins, as `explain --code` shows it."""
        return self._join.source

    async def prepare(self) -> None:
        """Nothing is to be loaded."""

    def lift(self, body: Body, port: int) -> str:
        """`(r, time, watermark, port, key, [time, column, …])`"""
        key = self._key(body, (self.config.on.left, self.config.on.right)[port])
        time = body.metadata("_timestamp")
        columns = ", ".join([time, *(["0"] if self._flagged[port] else []), *self._columns(body, port)])
        return f"(r, {time}, {body.watermark()}, {port}, {key}, [{columns}])"

    def lift_tombstone(self, body: Body, port: int) -> str | None:
        """A record without a value: of a table, that the key is gone."""
        if not self.config.tables[port]:
            return None
        own = body.tombstone_key(list(map(str, (self.config.on.left, self.config.on.right)[port])))
        key = body.constant("tombstone_key", tombstone_key)
        return f"(r, r.timestamp, {body.watermark()}, {port}, {key}({own}), None)"

    def _key(self, body: Body, on: list[Expression]) -> str:
        if len(on) > 1:
            composite = body.constant("composite_key", composite_key)
            return body.local("join_key", f"{composite}([{', '.join(body.value(part) for part in on)}])")
        # In parentheses, so that it is a variable of its own: the field's keeps its value.
        key = body.local("join_key", f"({body.value(on[0])})")
        own = body.constant("key_of", key_of)
        body.line(f"if {key}.__class__ is not str or len({key}) >= {SHORT}: {key} = {own}({key})")
        return key

    def _columns(self, body: Body, port: int) -> list[str]:
        carried = self._results.carried[port]
        store = body.constant("storable", storable)
        if carried.whole:
            return [f"{store}({body.document()})"]
        columns = [_stored(body, store, body.value(_field(name))) for name in carried.sure]
        for name in carried.maybe:
            there = body.value(Expression(f"has({name})", nodes.Has(nodes.Field(name), ())))
            value = body.value(
                Expression(f"get({name}, None)", nodes.Get(nodes.Field(name), (), nodes.Literal(None, "null")))
            )
            columns.append(body.local("column", f"[{store}({value})] if {there} else None"))
        return columns

    async def open(self, task: TaskContext) -> None:
        """Take the tables from the task's store."""
        assert task.store is not None
        self._join.open(task.store)

    def restored(self) -> None:
        """The tables are as at the last checkpoint."""
        self._join.restored()

    def process(self, rows: list[tuple[Any, ...]], out: list[Result], failed: Failed) -> None:
        """Take rows in order."""
        self._join.process(rows, out, failed)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give what is complete; forget what nobody can meet."""
        return self._join.advance(watermark, out)

    @property
    def refused(self) -> Failed:
        """What `advance` could give no result for, until somebody takes it."""
        return getattr(self._join, "refused", [])

    @property
    def due(self) -> int | None:
        """Nothing depends on the wall clock."""
        return None

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """Never asked for."""

    async def close(self) -> None:
        """Nothing is held."""


def _field(name: str) -> Expression:
    return Expression(name, nodes.Field(name))


def _stored(body: Body, store: str, value: str) -> str:
    column = body.local("column", value)
    body.line(f"if {column}.__class__ is not str: {store}({column})")
    return column


def composite_key(parts: list[Any]) -> Any:
    """The key of several values; null is none of them."""
    if None in parts:
        raise TransformError("a part of the join's key is null; leave such records out before this stage")
    return key_of(parts)


def tombstone_key(key: bytes | None) -> bytes:
    """The key of a record without a value."""
    if key is None:
        raise TransformError("a record without a value has no key either: a table cannot tell what it deletes")
    return key


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _bounds(config: JoinConfig) -> Bounds:
    within = None if config.within is None else (_ms(config.within.before), _ms(config.within.after))
    return Bounds(within, None if config.keep is None else _ms(config.keep), _ms(config.grace))

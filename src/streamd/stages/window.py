"""Aggregates records in windows of time, or of so many records, for each key.

    - window: {by: user, tumbling: 10s, aggregate: {orders: count(), total: sum(amount)}}
    - window: {by: user, hopping: {size: 1m, every: 10s}, grace: 5s, aggregate: {orders: count()}}
    - window: {by: user, session: {gap: 30m, max: 8h}, emit: on_update, aggregate: {pages: count()}}
    - window: {by: card, sliding: 10m, aggregate: {spent: sum(amount)}}
    - window: {by: machine, count: {size: 100, every: 10}, aggregate: {mean: mean(celsius)}}
    - window: {by: user, global: true, emit: {every: 1m}, aggregate: {orders: count()}}
    - window: {by: {sets: [[region], [region, product], []]}, tumbling: 1h, aggregate: {sold: sum(amount)}}

A result has the fields of `by`, `window_start`, `window_end` (ms), and the aggregates. Its key is that of `by`: a text
as it is, all else as JSON. Its time is the last ms of its window, so that a following window of the same size holds it.

`tumbling` windows follow each other; `hopping` ones overlap; both begin at multiples of their step since the epoch
(`offset` moves them) and hold `start <= time < end`. `sliding` gives one result for each record, over the records of
its key in the time that ends with it; records of the same time are in each other's. A `session` ends when its key has
no record for longer than `gap`: one exactly `gap` after the last is still in it, and the session ends `gap` after its
last record; with `max` it is cut before it is longer. `count` windows hold so many records in the order they come, and
at the end of the input what is left; with `every` one is given that often, over the last `size`. `global` never ends.
Windows are only there where they hold a record.

A window is given when the watermark says that it is complete, `grace` later: see `event_time` of the source. Its late
records go where `late` says; a record that is late for some of its windows counts in the others. With `emit: on_update`
each record gives the windows that it is in as they are after it, with `{every: 1s}` those that changed are given
whenever the watermark passes a whole second; such results have `window_final: false`, and the last one true. A
session's `window_start` and `window_end` move while it grows.

Without `by` the key is that of the `key_by` before it; where there is none all records are in the same windows, in one
task. With `sets` a record counts once for each set of fields, with null for the fields that the set leaves out. 1 and
1.0 are the same key, "1" and true are others; a key that is null is an error of the record. Where windows overlap, and
in `sliding` ones, the first and the last value go by time, in pieces of the windows, before they go by arrival.

The end of a bounded input gives all windows; what a later run finds behind it begins its windows anew.

What is kept is committed together with positions and outputs. Once something is kept, what windows are and what is
aggregated in them stay as they are: with other settings the pipeline refuses to start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import gcd
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.fields import AggregateField, Duration, LateField, duration_text
from streamd.component.grouping import Grouping, GroupingField, lift_keys
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.errors import FatalError, TransformError
from streamd.expr import Expression
from streamd.expr.aggregates import growing, write_columns
from streamd.record import RawRecord, Result
from streamd.windows.build import kernel_of
from streamd.windows.kernel import LARGEST_TIME, Kernel
from streamd.windows.spec import Kind, WindowSpec

_KINDS = ("tumbling", "hopping", "sliding", "session", "count", "global")
# What one window is made of at most.
_PANES = 10_000


class HoppingSettings(Model):
    """Windows of `size`, one every `every`."""

    size: Duration = Field(ge=0.001, description="How long a window is.", examples=["1m"])
    every: Duration = Field(ge=0.001, description="How much later the next window begins.", examples=["10s"])


class SessionSettings(Model):
    """Windows that last while records come."""

    gap: Duration = Field(ge=0.001, description="A longer time without a record ends the session.", examples=["30m"])
    longest: Duration | None = Field(
        None, alias="max", ge=0.001, description="A session does not get longer than this.", examples=["8h"]
    )

    @model_validator(mode="after")
    def _not_shorter_than_the_gap(self) -> SessionSettings:
        if self.longest is not None and self.longest < self.gap:
            raise ValueError(f"`max` is shorter than the `gap`: it has to be {duration_text(self.gap)} at least")
        return self


class CountSettings(Model):
    """Windows of the last `size` records, one every `every` records."""

    size: int = Field(ge=1, description="How many records a window holds.", examples=[100])
    every: int = Field(ge=1, description="A window is given each time so many have come.", examples=[10])


class EmitSettings(Model):
    """Early results from time to time."""

    every: Duration = Field(
        ge=0.001, description="Event time between early results of a window that changes.", examples=["1s"]
    )


def _counted(value: object) -> object:
    return {"size": value, "every": value} if isinstance(value, int) and not isinstance(value, bool) else value


_COUNT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {
            "type": "object",
            "properties": {"size": {"type": "integer", "minimum": 1}, "every": {"type": "integer", "minimum": 1}},
            "required": ["size", "every"],
            "additionalProperties": False,
        },
    ]
}


class WindowConfig(Model):
    """Settings of `window`: exactly one of `tumbling`, `hopping`, `sliding`, `session`, `count`, `global`."""

    by: GroupingField | None = Field(
        None,
        description="The key: a field, a list, names with the expressions of their values, or `sets` of fields.",
        examples=["user", ["region", "product"], {"country": "user.country"}, {"sets": [["region"], []]}],
    )
    aggregate: dict[str, AggregateField] = Field(
        description="Fields of the result, each with its aggregate.",
        examples=[{"orders": "count()", "total": "sum(amount)"}],
        min_length=1,
    )
    tumbling: Duration | None = Field(
        None, ge=0.001, description="Windows of this length, one after the other.", examples=["10s"]
    )
    hopping: HoppingSettings | None = Field(
        None, description="Windows that overlap.", examples=[{"size": "1m", "every": "10s"}]
    )
    sliding: Duration | None = Field(
        None, ge=0.001, description="For each record the window of this length that ends with it.", examples=["10m"]
    )
    session: SessionSettings | None = Field(
        None, description="Windows that last while records come.", examples=[{"gap": "30m", "max": "8h"}]
    )
    count: Annotated[CountSettings | None, BeforeValidator(_counted), WithJsonSchema(_COUNT_SCHEMA)] = Field(
        None, description="Windows of so many records.", examples=[100, {"size": 100, "every": 10}]
    )
    always: Literal[True] | None = Field(
        None, alias="global", description="One window that never ends.", examples=[True]
    )
    offset: Duration = Field(
        0.0, description="How much later than multiples of their step windows begin.", examples=["6h"]
    )
    grace: Duration = Field(
        0.0, description="How long after the watermark a window still takes records.", examples=["5s"]
    )
    late: LateField = Field(
        "drop",
        description="What becomes of records whose windows are closed; they are counted in any case.",
        examples=["dead_letter"],
    )
    emit: Literal["on_close", "on_update"] | EmitSettings = Field(
        "on_close",
        description="When results are given: complete ones alone, with each record, or from time to time.",
        examples=["on_update", {"every": "1s"}],
    )
    start_as: str | None = Field(
        "window_start", min_length=1, description="Field of the window's start; null: none.", examples=["from"]
    )
    end_as: str | None = Field(
        "window_end", min_length=1, description="Field of the window's end; null: none.", examples=["until"]
    )
    final_as: str | None = Field(
        "window_final",
        min_length=1,
        description="Field that says whether a result is the window's last; null: none. Only with early results.",
        examples=["closed"],
    )

    def with_key(self, fields: Mapping[str, Expression]) -> WindowConfig:
        """The same, by the key of a `key_by`. Raises ValueError where a result would have a field twice."""
        made = self.model_copy(update={"by": Grouping(fields=dict(fields), sets=None)})
        made.check_names()
        return made

    @property
    def kind(self) -> Kind:
        """Which windows they are."""
        return self._given()[0]

    @property
    def remembers(self) -> str:
        """What is kept and for how long, for people."""
        key = "each key" if self.by else "one group"
        spec = spec_of(self)
        kept = {
            "tumbling": f"{key} in windows of {duration_text(spec.size / 1000, ' ')} that are not over",
            "hopping": f"{key} in pieces of windows of {duration_text(spec.size / 1000, ' ')} that are not over",
            "sliding": f"the records of the last {duration_text(spec.size / 1000, ' ')} of {key}",
            "session": f"{key} for {duration_text(spec.gap / 1000, ' ')} after its last record",
            "count": f"the last {spec.size} records of {key} for ever",
            "global": f"{key} for ever",
        }
        late = f", and {duration_text(spec.grace / 1000, ' ')} of grace" if spec.grace else ""
        return kept[spec.kind] + late

    @property
    def reach(self) -> float:
        """Seconds of event time whose records one result is made of, as far as a time bounds that; else 0."""
        if self.session is not None:
            return max(self.session.gap, self.session.longest or 0.0) + self.grace
        return (self.tumbling or self.sliding or (self.hopping.size if self.hopping else 0.0)) + self.grace

    @property
    def grows(self) -> str:
        """What grows without bound, for `explain`; "" when nothing does."""
        found = []
        if self.by is not None and self.kind in ("global", "count"):
            found.append(f"`{self.kind}` windows close by no time: every key that ever came is kept")
        if growth := growing(self.aggregate):
            found.append(growth)
        return "; ".join(found)

    def _given(self) -> list[Kind]:
        values = (self.tumbling, self.hopping, self.sliding, self.session, self.count, self.always)
        return [kind for kind, value in zip(_KINDS, values, strict=True) if value is not None]  # type: ignore[misc]

    @model_validator(mode="after")
    def _one_kind(self) -> WindowConfig:
        given = self._given()
        if len(given) != 1:
            names = ", ".join(f"`{kind}`" for kind in _KINDS)
            found = " and ".join(f"`{kind}`" for kind in given) or "none"
            raise ValueError(f"expected exactly one of {names}, got {found}")
        if given[0] == "hopping":
            _check_hops("hopping", round(self.hopping.size * 1000), round(self.hopping.every * 1000))  # type: ignore[union-attr]
        if given[0] == "count":
            _check_hops("count", self.count.size, self.count.every)  # type: ignore[union-attr]
        return self

    @model_validator(mode="after")
    def _what_applies(self) -> WindowConfig:
        kind = self.kind
        if self.offset and kind not in ("tumbling", "hopping"):
            raise ValueError(f"`offset` is for `tumbling` and `hopping`, and has no meaning for `{kind}`")
        if self.grace and kind in ("count", "global"):
            raise ValueError(f"`grace` has no meaning for `{kind}`, whose windows do not close by time")
        if self.emit != "on_close" and kind == "sliding":
            raise ValueError("`sliding` gives one result for each record; `emit` must be on_close")
        if isinstance(self.emit, EmitSettings) and kind == "count":
            raise ValueError("`count` closes windows by records, not by time; `emit` must be on_close or on_update")
        return self

    @model_validator(mode="after")
    def _names_once(self) -> WindowConfig:
        self.check_names()
        return self

    def check_names(self) -> None:
        """Raise ValueError where a result would have a field twice."""
        names = [*(self.by.fields if self.by else ()), *self.aggregate]
        names += [self.start_as, self.end_as] if self.kind != "global" else []
        names += [self.final_as] if self.emit != "on_close" else []
        twice = [name for name, count in Counter(name for name in names if name).items() if count > 1]
        if twice:
            raise ValueError(f"a result has the field {twice[0]!r} twice: expected a name of its own for each")


def _check_hops(kind: str, size: int, every: int) -> None:
    if every > size:
        raise ValueError(f"`{kind}` has a larger `every` than `size`, and would lose what lies between")
    if size // gcd(size, every) > _PANES:
        raise ValueError(
            f"`{kind}` overlaps too finely: its windows would be made of {size // gcd(size, every):,} pieces, the "
            f"greatest that fit both `size` and `every`; expected at most {_PANES:,}"
        )


def spec_of(config: WindowConfig) -> WindowSpec:
    """What the kernel is generated from."""
    by, kind = config.by, config.kind
    sizes: dict[str, int] = {}
    if config.hopping:
        sizes = {"size": _ms(config.hopping.size), "every": _ms(config.hopping.every)}
    elif config.count:
        sizes = {"size": config.count.size, "every": config.count.every}
    elif config.session:
        sizes = {"gap": _ms(config.session.gap), "longest": _ms(config.session.longest or 0)}
    elif kind != "global":
        size = _ms(config.tumbling or config.sliding or 0)
        sizes = {"size": size, "every": size}
    emit: Any = {"on_close": "close", "on_update": "update"}.get(config.emit) if isinstance(config.emit, str) else None
    return WindowSpec(
        kind,
        config.aggregate,
        **sizes,
        offset=_ms(config.offset),
        grace=_ms(config.grace),
        emit=emit or _ms(config.emit.every),  # type: ignore[union-attr]
        by=tuple(by.fields) if by else (),
        keys=len(by.sets) if by and by.sets else 1,
        one=by is None or (by.sets is None and len(by.fields) == 1),
        start_as=config.start_as,
        end_as=config.end_as,
        final_as=config.final_as,
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _settings(config: WindowConfig) -> dict[str, str]:
    spec = spec_of(config)
    # Early results are kept account of, and make hopping windows other tables.
    found = {
        spec.kind: str([spec.size, spec.every, spec.gap, spec.longest]),
        "offset": str(spec.offset),
        "emit": "every" if spec.periodic else str(spec.emit),
    }
    found |= {f"aggregate.{name}": str(aggregate) for name, aggregate in config.aggregate.items()}
    return found | (config.by.settings() if config.by else {})


@stage("window", config=WindowConfig, fused=False, keyed=True, state=_settings, own_key=True)
class Window:
    """The stage `window`."""

    spec: Any
    due: int | None = None

    def __init__(self, config: WindowConfig, context: PipelineContext) -> None:
        self.config, self._context = config, context
        self._made: Kernel | None = None

    @property
    def _kernel(self) -> Kernel:
        if self._made is None:
            self._made = kernel_of(spec_of(self.config))
        return self._made

    @property
    def source(self) -> str:
        """The generated code that keeps the windows."""
        return self._kernel.source

    async def prepare(self) -> None:
        """Load the user's own aggregates."""
        for aggregate in self.config.aggregate.values():
            aggregate.prepare(str(self._context.base_dir))
            if aggregate.fallible and self.config.kind == "sliding":
                raise FatalError(
                    f"The aggregate {aggregate} cannot be used in `sliding` windows; expected a built-in one."
                )

    def lift(self, body: Body, port: int) -> str:
        """(the record, its time, the watermark, its keys, the aggregates' arguments)."""
        time = body.metadata("_timestamp")
        if self.config.kind in ("count", "global"):
            refuse = body.constant("no_time", _no_time)
            body.line(f"if not {-LARGEST_TIME} < {time} < {LARGEST_TIME}: {refuse}()")
        keys = lift_keys(body, self.config.by)
        arguments = write_columns(list(self.config.aggregate.values()), body)
        return f"({', '.join(['r', time, body.watermark(), *keys, *arguments])})"

    async def open(self, task: TaskContext) -> None:
        """Take the task's tables."""
        assert task.store is not None
        self._kernel.open(task.store)

    def restored(self) -> None:
        """The tables are as at the last checkpoint."""
        self._kernel.restored()

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """See `KeyedStage`."""
        self._kernel.process(rows, out, failed)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """See `KeyedStage`."""
        return self._kernel.advance(watermark, out)

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """Nothing goes by the wall clock."""

    async def close(self) -> None:
        """Nothing is held."""


def _no_time() -> None:
    raise TransformError("the record's time is out of range: expected milliseconds since the epoch")

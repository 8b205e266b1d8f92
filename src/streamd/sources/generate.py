"""Makes records up: for trying pipelines, for tests and for load. The same settings always make the same records.

Record number n (from 0, over all partitions) goes to partition n modulo `partitions`. `fields` are expressions; they
see the fields above them, and the record's number as `_offset`. `random()` and `uuid()` follow from the seed and
the number, and `now()` is the record's time: a record that is made again is the same. `template` is a document in which
texts may hold {_offset}, {_partition} and {_timestamp}; a text that is only one of these becomes the number.

```yaml
source:
  generate:
    count: 1000
    rate: 100
    fields:
      id: _offset
      user: f"user-{_offset % 7}"
      amount: round(random() * 500, 2)
    key: user
```

Delivery: exactly once with sinks that promise it: the position is the number of the next record.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import orjson
from pydantic import BeforeValidator, Field, model_validator

from streamd.clock import Clock
from streamd.codecs import Undecodable
from streamd.component.context import PipelineContext
from streamd.component.event_time import EventTimeField
from streamd.component.fields import Duration, ExpressionField
from streamd.component.model import Model
from streamd.component.source import Reader
from streamd.component.spec import source
from streamd.errors import PositionLostError, RecordError
from streamd.expr import FUNCTIONS, Expression, failure
from streamd.record import Position, SourceRecord

_MASK = (1 << 64) - 1

# Records made without letting others run.
_MOST_AT_ONCE = 2000

# The shortest sleep between records, in seconds: a faster rate makes several at a time.
_SHORTEST_SLEEP = 0.002


def _start_time(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError('expected ms since the epoch, or a time like "2026-01-31T12:00:00Z"') from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


class GenerateConfig(Model):
    """Settings of the generate source."""

    fields: dict[str, ExpressionField] | None = Field(
        None, min_length=1, description="The fields of a record: name → expression.", examples=[{"id": "_offset"}]
    )
    template: dict[str, Any] | None = Field(
        None, description="A whole record, in place of `fields`.", examples=[{"id": "{_offset}", "kind": "test"}]
    )
    key: ExpressionField | None = Field(
        None, description="The record's key; it sees the fields. Without it there is none.", examples=["user"]
    )
    count: int | None = Field(
        None, ge=0, description="How many records, over all partitions; without end if not given.", examples=[1000]
    )
    rate: float | None = Field(
        None,
        gt=0,
        description="Records per second, over all partitions; as fast as possible if not given.",
        examples=[100],
    )
    partitions: int = Field(1, ge=1, le=4096, description="How many partitions.", examples=[4])
    seed: int = Field(0, description="What `random()` and `uuid()` depend on, with the record's number.", examples=[42])
    start_time: Annotated[int, BeforeValidator(_start_time)] | None = Field(
        None,
        ge=0,
        description="The time of record 0, in ms since the epoch or as ISO text; the time of making if not given.",
        examples=["2026-01-31T12:00:00Z"],
    )
    time_step: Duration = Field(
        0.001, description="With start_time: how much later each record is than the one before.", examples=["10ms"]
    )
    event_time: EventTimeField | None = Field(
        None,
        description="The field with the record's time, or {field, out_of_order, idle, max_future}.",
        examples=["ts"],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.fields is None) == (self.template is None):
            raise ValueError("expected either `fields` or `template`")
        known: set[str] = set()
        for name, expression in (self.fields or {}).items():
            _check(f"fields.{name}", expression, known)
            known.add(name)
        if self.key is not None:
            _check("key", self.key, known | set(self.template or {}))
        return self


def _check(where: str, expression: Expression, known: set[str]) -> None:
    unknown = sorted(expression.required - known)
    if unknown:
        raise ValueError(
            f"{where}: there is no field {unknown[0]!r} above it; there are {', '.join(sorted(known)) or 'none'}"
        )


@source(
    "generate",
    config=GenerateConfig,
    decoded=True,
    bounded=lambda config: config.count is not None,
    single=lambda config: config.partitions == 1,
)
class GenerateSource:
    """Records from a recipe."""

    position_type = int

    def __init__(self, config: GenerateConfig, context: PipelineContext) -> None:
        self._config = config
        self._context = context

    async def prepare(self) -> None:
        """Nothing to check."""

    async def partitions(self) -> int:
        """As configured."""
        return self._config.partitions

    async def open(self, partition: int, position: Position | None, task: Any = None) -> Reader:
        """Go on with the record of a number."""
        number = partition if position is None else position
        if not isinstance(number, int) or number % self._config.partitions != partition:
            raise PositionLostError(
                f"the generate source cannot go on at record {number} in partition {partition}: the number of "
                f"partitions has changed, it is {self._config.partitions} now"
            )
        return _GenerateReader(self._config, partition, number, self._context.clock)

    async def close(self) -> None:
        """Nothing is held."""


class _GenerateReader:
    def __init__(self, config: GenerateConfig, partition: int, number: int, clock: Clock) -> None:
        self._partition = partition
        self._step = config.partitions
        self._next = number
        self._count = config.count
        self._rate = None if config.rate is None else config.rate / config.partitions
        self._clock = clock
        self._started = clock.monotonic()
        self._first = number
        self._start_time = config.start_time
        self._time_step = config.time_step * 1000
        self._make = maker(config)

    async def read(self, max_records: int, timeout: float) -> Sequence[SourceRecord]:
        """See `Reader.read`. Those that are due by the rate."""
        wanted = min(max_records, _MOST_AT_ONCE)
        due = self._due()
        if due is not None and due <= 0 and not self.ended:
            await asyncio.sleep(min(timeout, self._until_due()))
            due = self._due()
        else:
            # Without a rate this never waits: the others must have their turn.
            await asyncio.sleep(0)
        wanted = wanted if due is None else min(wanted, max(due, 0))
        left = self._left()
        wanted = wanted if left is None else min(wanted, left)
        now = self._clock.now_ms()
        records = []
        for number in range(self._next, self._next + wanted * self._step, self._step):
            at = now if self._start_time is None else self._start_time + int(number * self._time_step)
            value, key = self._make(number, self._partition, at)
            records.append(SourceRecord(key, value, at, number))
        self._next += wanted * self._step
        return records

    def position(self) -> int:
        """The number of the next record."""
        return self._next

    def lag(self) -> int | None:
        """Records due and not made; None when there is neither a rate nor an end."""
        due, left = self._due(), self._left()
        if due is None:
            return left
        return max(0, due if left is None else min(due, left))

    @property
    def ended(self) -> bool:
        """True when all are made."""
        return self._left() == 0

    async def close(self) -> None:
        """Nothing is held."""

    def _left(self) -> int | None:
        if self._count is None:
            return None
        return max(0, -((self._next - self._count) // self._step))

    def _due(self) -> int | None:
        """How many should have been made by now and were not."""
        if self._rate is None:
            return None
        made = (self._next - self._first) // self._step
        return math.floor((self._clock.monotonic() - self._started) * self._rate) - made

    def _until_due(self) -> float:
        assert self._rate is not None
        made = (self._next - self._first) // self._step
        return max(_SHORTEST_SLEEP, self._started + (made + 1) / self._rate - self._clock.monotonic())


class _Chance:
    """Random numbers of one record: splitmix64 over the seed and the record's number."""

    __slots__ = ("_seed", "now_ms", "state")

    def __init__(self, seed: int) -> None:
        self._seed = (seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _MASK
        self.state = 0
        self.now_ms = 0

    def begin(self, number: int, now_ms: int) -> None:
        """From here on the numbers are those of this record."""
        self.state = (self._seed ^ (number * 0xBF58476D1CE4E5B9)) & _MASK
        self.now_ms = now_ms

    def bits(self) -> int:
        """The next 64."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def random(self) -> float:
        """From 0 to below 1."""
        return (self.bits() >> 11) * 2.0**-53

    def uuid(self) -> str:
        """A UUID of version 4."""
        bits = (self.bits() << 64 | self.bits()) & ~(0xF << 76) & ~(0x3 << 62) | 4 << 76 | 2 << 62
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def now(self) -> int:
        """The record's time."""
        return self.now_ms


Maker = Callable[[int, int, int], tuple[Any, bytes | None]]


def maker(config: GenerateConfig) -> Maker:
    """A function (number, partition, time in ms) → document and key. A field that has no value makes it Undecodable."""
    chance = _Chance(config.seed)
    resolver = _Resolver({FUNCTIONS[name].callable: getattr(chance, name) for name in ("random", "uuid", "now")})
    lines = ["def make(number, partition, now_ms):", " begin(number, now_ms)"]
    if config.fields is not None:
        lines.append(" d = {}")
        lines += [f" d[{name!r}] = {expression.source(resolver)}" for name, expression in config.fields.items()]
    else:
        lines.append(f" d = {_template_source(config.template)}")
    lines.append(f" return d, {'None' if config.key is None else f'to_key({config.key.source(resolver)})'}")
    resolver.namespace |= {"begin": chance.begin, "to_key": _to_key}
    exec("\n".join(lines), resolver.namespace)  # the source is our own, expressions are allow-listed
    run: Maker = resolver.namespace["make"]
    names = frozenset[str]().union(*(e.names for e in (*(config.fields or {}).values(), config.key) if e is not None))

    def make(number: int, partition: int, now_ms: int) -> tuple[Any, bytes | None]:
        try:
            return run(number, partition, now_ms)
        except Exception as error:
            known = error if isinstance(error, RecordError) else failure(error, names)
            return Undecodable(str(known)), None

    return make


@dataclass(slots=True)
class _Resolver:
    """Where a field's expression finds what it reads: fields above it, and the record's number, partition and time."""

    instead: Mapping[Any, Any]
    namespace: dict[str, Any]

    def __init__(self, instead: Mapping[Any, Any]) -> None:
        self.instead = instead
        self.namespace = {}

    def field(self, name: str) -> str:
        return f"d[{name!r}]"

    def field_or(self, name: str, default: str) -> str:
        return f"d.get({name!r}, {default})"

    def has_field(self, name: str) -> str:
        return f"({name!r} in d)"

    def metadata(self, name: str) -> str:
        known = {
            "_offset": "number",
            "_partition": "partition",
            "_timestamp": "now_ms",
            "_key": "None",
            "_headers": "{}",
        }
        return known.get(name, "''")

    def document(self) -> str:
        return "d"

    def constant(self, hint: str, value: object) -> str:
        value = self.instead.get(value, value) if callable(value) else value
        number, name = 1, f"{hint}_"
        while self.namespace.setdefault(name, value) is not value:
            number += 1
            name = f"{hint}_{number}"
        return name


_PLACES = {"_offset": "number", "_partition": "partition", "_timestamp": "now_ms"}
_PLACE = re.compile("{(" + "|".join(_PLACES) + ")}")


def _template_source(node: Any) -> str:
    """Python source that makes the template's value."""
    if isinstance(node, dict):
        return "{" + ", ".join(f"{str(name)!r}: {_template_source(value)}" for name, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(_template_source(value) for value in node) + "]"
    if not isinstance(node, str):
        return repr(node)
    whole = _PLACE.fullmatch(node)
    if whole:
        return _PLACES[whole[1]]
    parts = _PLACE.split(node)
    texts = [repr(part) if i % 2 == 0 else f"str({_PLACES[part]})" for i, part in enumerate(parts) if part]
    return " + ".join(texts) or "''"


def _to_key(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

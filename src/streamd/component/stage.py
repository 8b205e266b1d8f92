"""The contracts of a stage: one that compiles into the fused chain, one that takes batches of records, and one that
keeps state by key and time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from streamd.component.context import TaskContext
from streamd.component.state import Table
from streamd.expr import Expression
from streamd.record import RawRecord, Record, Result


class Body(Protocol):
    """The body of the generated function, seen by one stage while it writes its own lines there.

    The document is symbolic: fields that stages set are local variables, and the document is built only where someone
    needs it whole. All `str` arguments and results are Python expressions in the generated function's scope.
    """

    stage_id: str

    def value(self, expression: Expression, names: Mapping[str, str] | None = None) -> str:
        """Python source of the expression's value for the record at hand, with fields resolved.

        `names`: what the expression reads as fields by these names are sources of its own, which cannot fail.
        """

    def field_or(self, name: str, default: str, *, usual: bool = False) -> str:
        """Python source of a top-level field's value, or of `default`, which cannot fail, where it is absent.

        `usual`: most records have it.
        """

    def local(self, name_hint: str, source: str) -> str:
        """Assign to a new local variable and return its name."""

    def collect(self, name_hint: str, expression: Expression, names: Mapping[str, str] | None = None) -> str:
        """Assign the list that a comprehension makes to a new local variable, and return its name."""

    def constant(self, name_hint: str, value: Any) -> str:
        """Make a Python object known to the generated function and return the name it has there."""

    def line(self, source: str) -> None:
        """Write one line as it is."""

    def count(self, what: str) -> str:
        """A counter of this stage: a variable that lines add to, an int from 0 in each batch."""

    def keep_if(self, condition: str) -> None:
        """Go on with this record only where the condition holds; the others count as filtered."""

    def set_field(self, path: Sequence[str], source: str) -> None:
        """Set a field of the document (a path of several names sets inside nested objects, made where missing)."""

    def drop_field(self, path: Sequence[str]) -> None:
        """Remove a field; a field that is not there is not an error."""

    def replace(self, fields: Mapping[str, str]) -> None:
        """From here on the document is a new one with just these fields."""

    def replace_document(self, source: str) -> None:
        """From here on the document is this value (a dict that nobody else changes)."""

    def metadata(self, name: str) -> str:
        """Python source of `_key`, `_timestamp`, `_topic`, `_partition`, `_offset` or `_headers` of the record."""

    def key(self) -> str:
        """The record's key as it is: bytes or None."""

    def tombstone_key(self, names_of: Sequence[str]) -> str:
        """The key of a record without a value, bytes or None, as `key_by` these expressions makes it of others."""

    def headers(self) -> str:
        """The record's headers: a sequence of (str, bytes or None) pairs."""

    def watermark(self) -> str:
        """The watermark as it is after this record, before which nothing more is expected: an int in ms. For `lift`."""

    def document(self) -> str:
        """The whole document as a dict expression. Costs a full parse of each record: only where really needed."""

    def json(self) -> str:
        """The whole document as JSON, bytes: the record's own wherever they still say the same. For `lift`."""

    def as_read(self) -> str:
        """The document for a stage that gives records on as they came, and whose spec says so: the JSON that it was
        read as where every record that reaches the stage has it, unchanged; a dict otherwise. For `lift`.
        """

    def set_key(self, source: str) -> None:
        """From here on the record's key is this expression (bytes or None)."""

    def add_headers(self, source: str) -> None:
        """Append headers: an expression that gives a tuple of (str, bytes) pairs."""

    def each(self, name_hint: str, iterable: str) -> AbstractContextManager[str]:
        """`with body.each("item", source) as item:` the rest of the chain runs once for each element.

        Stays in force until the end of the chain: enter it, write lines, and let the engine close it.
        """

    def choose(self, branches: Sequence[tuple[str, Callable[[], None]]]) -> None:
        """Write alternatives: lines such as `if x:`, `else:`, each with what writes its block.

        What comes after them sees the document that the branch taken has made.
        """

    def output(self, name: str, condition: str | None, *, exclusive: bool = True) -> None:
        """For stages with named outputs: records go on at output `name` where the condition holds (None: always).

        Exclusive outputs are tried in the order given, and the first whose condition holds takes the record; the others
        each take every record that they match. A record that no output takes counts as filtered.
        """


class FusedStage(Protocol):
    """Without await, and without memory between records. Made as `Stage(config, context)`; `prepare` may load files."""

    async def prepare(self) -> None: ...

    def fuse(self, body: Body) -> None:
        """Write this stage's lines. Called once per path through the graph, before any record flows; must be pure."""


class BatchStage(Protocol):
    """A stage that takes batches, and may await (own code, rate limits). Runs between two fused functions.

    `process` gets the records in order and returns those that go on, in order; it may change, drop and add records.
    An exception fails the whole batch: the engine then gives the records one by one, so that only the guilty one fails.
    A stateful stage leaves its store as it was when it raises.
    """

    async def prepare(self) -> None: ...

    async def open(self, task: TaskContext) -> None: ...

    async def process(self, batch: list[Record]) -> list[Record]: ...

    async def close(self) -> None: ...


class Viewed(Protocol):
    """What a stage has besides that keeps a view: a table whose keys others may read, as `shown` makes them."""

    @property
    def view(self) -> Table:
        """The table, once the stage is open."""

    def shown(self, key: Hashable, value: Any) -> Any:
        """What readers of the view get for a key and its value in the table: a JSON value. Changes nothing."""


class KeyedStage(Protocol):
    """A stage that keeps state by key and time, in its task's store: windows, joins, aggregates.

    The chain before it computes its rows: keys, times and arguments, checked there, so that what is wrong with a record
    fails before any state is touched. `process` then works on whole batches of them. Made as `Stage(config, context)`
    once for the chains (`lift` alone is called) and once for each task.

    A row is a tuple: the record that it comes from, its event time and the watermark (ms), then whatever `lift` wrote.

    Results are `Result`, or `Passed` where `gives` in its spec says so.
    """

    async def prepare(self) -> None:
        """Load what is needed, before anything else is called."""

    def lift(self, body: Body, port: int) -> str:
        """Write the lines that make this stage's row of the record at hand, and return the row: `(r, time, watermark,
        …)` as source of a tuple. `port`: which of the stage's inputs it comes from. Pure.
        """

    async def open(self, task: TaskContext) -> None:
        """Take the tables from the task's store; they are still empty."""

    def restored(self) -> None:
        """The tables are as at the last checkpoint. Rebuild what is kept beside them."""

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """Take rows in order. One that fails, or is late, leaves the state as it was: (its record, error) in `failed`.

        An exception is a fault of the stage itself: the task starts anew from its last checkpoint.
        """

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Nothing before `watermark` is to come any more (END: nothing at all): give what is complete by that.

        Returns the watermark of this stage's results: none of a later call has an earlier time.
        """

    @property
    def due(self) -> int | None:
        """When `tick` is to be called, by the wall clock in ms since the epoch; None: not at all."""

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """The wall clock says `now_ms`, at or after `due`. What is given here must not depend on how often it is."""

    async def close(self) -> None: ...


@runtime_checkable
class Refusing(Protocol):
    """What a keyed stage has besides whose `advance` may find rows, taken before, that it can give no result for."""

    @property
    def refused(self) -> list[tuple[RawRecord, Exception]]:
        """(what was kept of a row, as its record, the error) of each, until somebody takes them."""


@runtime_checkable
class Judging(Protocol):
    """What a keyed stage has besides that checks records."""

    def take_judged(self) -> tuple[int, dict[str, int]]:
        """How many records were checked since the last call, and {rule: how many of them broke it}."""

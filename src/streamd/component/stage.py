"""The contracts of a stage: one that compiles into the fused chain, or one that takes batches of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from streamd.component.context import TaskContext
from streamd.expr import Expression
from streamd.record import Record


class Body(Protocol):
    """The body of the generated function, seen by one stage while it writes its own lines there.

    The document is symbolic: fields that stages set are local variables, and the document is built only where someone
    needs it whole. All `str` arguments and results are Python expressions in the generated function's scope.
    """

    stage_id: str

    def value(self, expression: Expression) -> str:
        """Python source of the expression's value for the record at hand, with fields resolved."""

    def local(self, name_hint: str, source: str) -> str:
        """Assign to a new local variable and return its name."""

    def constant(self, name_hint: str, value: Any) -> str:
        """Make a Python object known to the generated function and return the name it has there."""

    def line(self, source: str) -> None:
        """Write one line as it is."""

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

    def document(self) -> str:
        """The whole document as a dict expression. Costs a full parse of each record: only where really needed."""

    def set_key(self, source: str) -> None:
        """From here on the record's key is this expression (bytes or None)."""

    def add_headers(self, source: str) -> None:
        """Append headers: an expression that gives a tuple of (str, bytes) pairs."""

    def each(self, name_hint: str, iterable: str) -> AbstractContextManager[str]:
        """`with body.each("item", source) as item:` the rest of the chain runs once for each element.

        Stays in force until the end of the chain: enter it, write lines, and let the engine close it.
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

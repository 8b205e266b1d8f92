"""A test file after reading: cases of steps, each with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from streamd.component.fields import Duration, parse_duration
from streamd.component.model import Model
from streamd.config.yaml_nodes import Document, Node

# Where the wall clock of a test stands: later than the times of most records, which are then never "from the future".
START = "2030-01-01T00:00:00Z"

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME_HINT = 'a time: ms since the epoch, or text like "2030-01-01T00:00:00Z"'
_MOVE_HINT = 'a duration such as "30s", or a time such as "2030-01-01T00:10:00Z"'


def parse_time(value: object) -> int:
    """ms since the epoch, of such a number or ISO 8601 text (UTC where it does not say). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"expected {_TIME_HINT}") from None
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    raise ValueError(f"expected {_TIME_HINT}")


@dataclass(frozen=True, slots=True)
class Move:
    """Where a time is to go: `to` ms since the epoch, or on `by` ms."""

    to: int | None = None
    by: int = 0


def parse_move(value: object) -> Move:
    """A move of a clock. Raises ValueError; for a plain number as well, which could be meant as both."""
    if isinstance(value, str) and _DATE.match(value):
        return Move(to=parse_time(value))
    if isinstance(value, str):
        try:
            return Move(by=round(parse_duration(value) * 1000))
        except ValueError:
            pass
    raise ValueError(f"expected {_MOVE_HINT}")


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Time: TypeAlias = Annotated[
    int, BeforeValidator(parse_time), WithJsonSchema({"type": ["integer", "string"], "description": _TIME_HINT})
]
MoveField: TypeAlias = Annotated[
    Any, BeforeValidator(parse_move), WithJsonSchema({"type": "string", "description": _MOVE_HINT})
]
Variables: TypeAlias = dict[
    str, Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]
]


class FileSettings(Model):
    """What a test file says besides its cases."""

    pipeline: str | None = Field(
        None,
        description="The pipeline's file, from this one's folder on; without it the one beside it, NAME.yaml for "
        "NAME.test.yaml.",
        examples=["orders.yaml"],
    )
    env: Variables = Field(
        default_factory=dict,
        description="Variables for ${NAME} in the pipeline, for all cases. The environment's own are not seen.",
        examples=[{"TOPIC": "orders"}],
    )
    clock: Time = Field(
        parse_time(START), description=f"Where the wall clock stands at the start of a case; {START} without it."
    )


class CaseSettings(Model):
    """What a case says besides its steps."""

    description: str = Field("", description="What it is about, for people.", examples=["Late orders are kept"])
    env: Variables = Field(
        default_factory=dict, description="Variables, over those of the file.", examples=[{"LIMIT": 10}]
    )
    clock: Time | None = Field(None, description="Where the wall clock stands at its start, in place of the file's.")
    with_crash: bool = Field(
        True,
        description="Whether `--crash` may kill its tasks; false where memory matters that a crash takes away, such as "
        "the window of error_threshold.",
        examples=[False],
    )


class AdvanceSettings(Model):
    """`advance`, where it is more than one word."""

    to: Time | None = Field(None, description="Event time: nothing before this time is to come any more.")
    by: Duration | None = Field(
        None, description="Event time: so much later than the watermark is now.", examples=["30s"]
    )
    clock: MoveField | None = Field(
        None, description="The wall clock: on by a duration, or to a time.", examples=["1m"]
    )


class RecordsSettings(Model):
    """What is expected of one output, where it is more than a list."""

    records: list[Any] | None = Field(None, description="All records since the last look, in order.")
    contains: list[Any] | None = Field(None, description="Records that are among them, in any order.")
    unordered: bool = Field(False, description="The records may come in any order.", examples=[True])
    fields: list[str] | None = Field(
        None,
        description="Compare only these fields; a dotted name is inside an object.",
        examples=[["user", "total"]],
        min_length=1,
    )
    count: int | None = Field(None, ge=0, description="How many records there are.", examples=[12])


@dataclass(slots=True)
class Given:
    """One record of an `input`. `value` is a document, text that is taken as it is, or None for a tombstone.

    `key` and `headers` are JSON, or bytes as they are.
    """

    node: Node
    value: Any
    partition: int = 0
    key: Any = None
    timestamp: int | None = None
    headers: tuple[tuple[str, Any], ...] = ()


@dataclass(slots=True)
class Wanted:
    """One record of an `expect`. `parts`: what of it is compared: {"value": …} for a plain document."""

    node: Node
    parts: Mapping[str, Any]
    whole: bool


@dataclass(slots=True)
class Expected:
    """What is expected of one output. `at` is the key's node, `node` that of the list; None where `count` is all.

    `output` is a sink's id, or "" for the only one. `to_record`: nothing is written there yet.
    """

    output: str
    at: Node
    node: Node | None
    wanted: tuple[Wanted, ...] = ()
    kind: Literal["sink", "dead_letters"] = "sink"
    contains: bool = False
    unordered: bool = False
    fields: tuple[str, ...] = ()
    count: int | None = None
    count_node: Node | None = None
    to_record: bool = False


@dataclass(slots=True)
class Counted:
    """A number that is expected, since the last look: of `skipped` or `late` records."""

    what: Literal["skipped", "late"]
    at: Node
    node: Node
    count: int
    stage: str = ""


@dataclass(slots=True)
class InputStep:
    """Records come. `files`: (source, path, node) of those in files."""

    at: Node
    records: tuple[tuple[str, Node, Given], ...]
    files: tuple[tuple[str, Node, str], ...] = ()


@dataclass(slots=True)
class AdvanceStep:
    """Times move: the event time, the wall clock, or both."""

    at: Node
    event: Move | None = None
    clock: Move | None = None


@dataclass(slots=True)
class IdleStep:
    """Nothing comes for `ms`; None: for as long as the sources' `idle` says."""

    at: Node
    ms: int | None = None


@dataclass(slots=True)
class StopStep:
    """The tasks end and start anew: `crash` now, `crash` before the next commit, or in order."""

    at: Node
    how: Literal["crash", "before_commit", "restart"]


@dataclass(slots=True)
class EndStep:
    """The input of some sources, all where none is named, is over."""

    at: Node
    sources: tuple[tuple[str, Node], ...] = ()


@dataclass(slots=True)
class ExpectStep:
    """A look at what has come out. `error` is part of the message with which the pipeline has stopped."""

    at: Node
    outputs: tuple[Expected, ...] = ()
    counts: tuple[Counted, ...] = ()
    views: tuple[ViewWanted, ...] = ()
    error: tuple[str, Node] | None = None
    everything: bool = False


@dataclass(slots=True)
class ViewWanted:
    """What a stage's view holds: {key: value}."""

    stage: str
    at: Node
    node: Node
    values: Mapping[str, Any]


Step: TypeAlias = InputStep | AdvanceStep | IdleStep | StopStep | EndStep | ExpectStep


@dataclass(slots=True)
class Case:
    """One named case."""

    name: str
    at: Node
    env: Mapping[str, str]
    clock_ms: int
    steps: tuple[Step, ...]
    description: str = ""
    with_crash: bool = True


@dataclass(slots=True)
class CaseFile:
    """A test file. `document` has its text and its nodes."""

    path: Path
    pipeline: Path
    document: Document
    cases: tuple[Case, ...] = field(default=())

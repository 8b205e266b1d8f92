"""The control channel between the supervisor and a worker: typed messages over a socket pair.

Each message is a msgspec struct with a tag, written as four bytes of length (little endian) and msgpack. Orders go down
(`Order`), news come up (`News`). Neither side ever waits for the other to read: `send` buffers, and each side looks at
`buffered` to see that the other one has stopped reading. The worker then leaves out periodic progress; the supervisor
gives the worker up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

import msgspec

from streamd.observability.metrics import Snapshot
from streamd.record import TaskId

FRAME_LIMIT = 64 * 1024 * 1024  # no pipeline text or metrics snapshot comes near; more is a broken stream
LENGTH = struct.Struct("<I")


class Member(msgspec.Struct, frozen=True):
    """Which member of which group a task works for: what fences its commits."""

    group: str
    member_id: str
    generation: int


class Fault(msgspec.Struct, frozen=True):
    """An error as it crosses a process boundary. `kind` decides policy, `error` is the class's name, for people."""

    kind: Literal["transient", "fenced", "fatal", "unexpected"]
    error: str
    message: str


# --- supervisor → worker ------------------------------------------------------------------------------------------


class Start(msgspec.Struct, frozen=True, tag="start"):
    """The first message. `service` is the pickled ServiceConfig, `environment` what `${NAME}` may name.

    `run`: see `PipelineContext`.
    """

    service: bytes
    environment: dict[str, str]
    run: str = ""


class Seat(msgspec.Struct, frozen=True, tag="seat"):
    """The process is worker number `worker` from now on. A spare process gets no number before it has to work."""

    worker: int


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Make a pipeline known. Another `version` of one that is already loaded replaces it for later assignments.

    `imports`: the texts of files that it imports, by path.

    The same version again only brings new `partitions`: {source id: how many it has}.
    """

    pipeline: str
    version: int
    file: str | None
    text: str
    partitions: dict[str, int]
    imports: dict[str, str] = {}


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """Forget a pipeline; its tasks have ended before."""

    pipeline: str


class Assign(msgspec.Struct, frozen=True, tag="assign"):
    """Run a task. `incarnation` is different for each assignment a supervisor ever makes."""

    task: TaskId
    incarnation: int
    version: int
    member: Member | None = None


class Revoke(msgspec.Struct, frozen=True, tag="revoke"):
    """Drain a task: stop reading, commit, close. It is cancelled, with nothing committed, after `deadline` seconds."""

    task: TaskId
    incarnation: int
    deadline: float


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """Keep a standby copy of the state of a task that another node runs. `incarnation`: as in `Assign`."""

    task: TaskId
    incarnation: int
    version: int


class Unfollow(msgspec.Struct, frozen=True, tag="unfollow"):
    """Let go of a standby copy. Answered with `FollowEnded`."""

    task: TaskId
    incarnation: int


class Generation(msgspec.Struct, frozen=True, tag="generation"):
    """All tasks of the pipeline that stay here belong to a new generation of their group from now on."""

    pipeline: str
    member: Member


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Tell what a stage's view holds in one task: of a key, or of the keys that begin with `prefix`, behind `after`.

    Keys are meant as `state.entries.keys_meant` says, and are in the order of `key_text`. Answered with `Seen`.
    """

    number: int
    task: TaskId
    stage: str
    key: str | None = None
    prefix: str = ""
    after: str | None = None
    limit: int = 1


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Drain all tasks within `deadline` seconds, then exit."""

    deadline: float


Order: TypeAlias = Start | Seat | Load | Unload | Assign | Revoke | Follow | Unfollow | Generation | Look | Stop


# --- worker → supervisor ------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The worker's loop runs and takes orders. `seconds`: of CPU that its start took."""

    pid: int
    seconds: float


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The pipeline is ready to be assigned, or why it can not be."""

    pipeline: str
    version: int
    fault: Fault | None = None


class TaskReport(msgspec.Struct, frozen=True):
    """How one task does.

    `last_progress` and `attempt_at`, when the current attempt began, are on the machine's monotonic clock, which all
    processes share. `last_progress` is over all attempts of the assignment, and a new attempt alone is none. `fault`:
    the newest, at `fault_at` in ms since the epoch.
    """

    task: TaskId
    incarnation: int
    state: str
    idle: bool = False
    lag: int | None = None
    records_in: int = 0
    positions: dict[str, Any] = {}
    last_progress: float = 0.0
    attempt_at: float = 0.0
    restarts: int = 0
    fault: Fault | None = None
    fault_at: int = 0


class StandbyReport(msgspec.Struct, frozen=True):
    """How a standby copy does.

    `copying`: it is not all there yet; `following`: it is, and `ready` to be used; `backing_off`: `fault` says why.
    `lag`: committed records that it does not have.
    """

    task: TaskId
    incarnation: int
    state: Literal["copying", "following", "backing_off"]
    lag: int | None = None
    ready: bool = False
    fault: Fault | None = None


class SchemaChange(msgspec.Struct, frozen=True):
    """A change of what a source gives, seen `at` (ms since the epoch); see `quality.schema_drift.Change`."""

    pipeline: str
    source: str
    kind: Literal["appeared", "vanished", "type_changed"]
    path: str
    was: str
    now: str
    at: int


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Sent once a second, and at once when a task changes its state. Only the periodic ones carry metrics.

    `sent_at`: monotonic seconds. `schema_changes`: those since the last one.
    """

    sent_at: float
    tasks: list[TaskReport]
    metrics: Snapshot | None = None
    standbys: list[StandbyReport] = []
    schema_changes: list[SchemaChange] = []


class FollowEnded(msgspec.Struct, frozen=True, tag="follow_ended"):
    """A standby copy is let go of: the task may be opened here."""

    task: TaskId
    incarnation: int


class TaskEnded(msgspec.Struct, frozen=True, tag="ended"):
    """A task is over and has released everything.

    `drained`: everything there was is read and committed; `stopped`: as ordered, all that was read is committed, unless
    it was waiting to be tried again; `killed`: it missed the deadline of its order, what was open is not committed;
    `failed`: `fault` says why, and trying again is of no use.
    """

    task: TaskId
    incarnation: int
    outcome: Literal["drained", "stopped", "killed", "failed"]
    report: TaskReport
    fault: Fault | None = None


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The answer to a `Look`.

    `entries`: (key, value) as JSON, committed with that `checkpoint`; `more`: there are more than were asked for, or
    fit. `not_ready`: the task does not run, or has not restored its state yet; `no_view`: the stage has none;
    `too_large`: it has so many `keys` that it is not searched; `failed`: `message` says why.
    """

    number: int
    outcome: Literal["ok", "not_ready", "no_view", "too_large", "failed"]
    entries: list[tuple[bytes, bytes]] = []
    more: bool = False
    checkpoint: int = 0
    keys: int = 0
    message: str = ""


News: TypeAlias = Hello | Loaded | Progress | TaskEnded | FollowEnded | Seen

M = TypeVar("M")


class Channel(asyncio.Protocol, Generic[M]):
    """One end of the control channel, on the running loop.

    `on_message` is called for each message, in order; `on_closed` once, when the other side is gone or sent nonsense.
    """

    def __init__(self, kinds: Any, on_message: Callable[[M], None], on_closed: Callable[[], None]) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kinds)
        self._encoder = msgspec.msgpack.Encoder()
        self._on_message = on_message
        self._on_closed = on_closed
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._closed = False

    async def connect(self, end: socket.socket) -> None:
        """Take over a connected stream socket."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=end)

    def send(self, message: Order | News) -> None:
        """Queue a message; a channel that is closed swallows it. Raises ValueError for one above 64 MiB."""
        if self._transport is None or self._closed:
            return
        frame = self._encoder.encode(message)
        if len(frame) > FRAME_LIMIT:
            raise ValueError(f"A control message of {len(frame)} bytes is too large; at most {FRAME_LIMIT} are right.")
        self._transport.write(LENGTH.pack(len(frame)) + frame)

    @property
    def buffered(self) -> int:
        """Bytes sent that the other side has not taken yet, beyond what the kernel holds."""
        return 0 if self._transport is None or self._closed else self._transport.get_write_buffer_size()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close after what was sent has been written. The other side's `on_closed` is called, ours as well."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, not a subclass

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at = 0
        while len(received) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(received, at)
            end = at + LENGTH.size + length
            if length > FRAME_LIMIT:
                self._abort()
                return
            if len(received) < end:
                break
            try:
                message = self._decoder.decode(received[at + LENGTH.size : end])
            except msgspec.MsgspecError:
                self._abort()
                return
            at = end
            self._on_message(message)
        del received[:at]

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._closed = True
            self._on_closed()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def order_channel(on_message: Callable[[Order], None], on_closed: Callable[[], None]) -> Channel[Order]:
    """The worker's end: it receives orders and sends news."""
    return Channel(Order, on_message, on_closed)


def news_channel(on_message: Callable[[News], None], on_closed: Callable[[], None]) -> Channel[News]:
    """The supervisor's end: it receives news and sends orders."""
    return Channel(News, on_message, on_closed)

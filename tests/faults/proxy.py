"""A proxy between clients and one broker that loses, changes, delays and cuts what passes, and counts what it did."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from faults.answers import API_KEYS, Asked, with_error

LOSE_REQUEST: Final = "lose_request"  # the connection breaks before the broker got it
LOSE_ANSWER: Final = "lose_answer"  # … after the broker got it
HOLD: Final = "hold"  # the connection breaks, and the broker gets the request later, by `deliver_held`
DEAFEN: Final = "deafen"  # neither this request nor any other on its connection is ever answered; it stays open

Rule = str | int | Callable[[bytes], bytes]
"""One of the words above, an error code to put into the answer, or what makes another answer of an answer."""

_NAMES: Final = {key: name for name, key in API_KEYS.items()}


@dataclass(frozen=True, slots=True)
class Storm:
    """Faults by chance: each request named in `errors` is met with `chance`. What is lost is lost by the words above;
    `errors` are the codes that a broker might answer to that request."""

    chance: float
    errors: Mapping[str, Sequence[int]]
    words: Sequence[str] = (LOSE_REQUEST, LOSE_ANSWER)

    def rule(self, name: str, dice: random.Random) -> Rule | None:
        """What is to happen to this request."""
        if name not in self.errors or dice.random() >= self.chance:
            return None
        return dice.choice((*self.words, *self.errors[name]))


class Proxy:
    """Listens, and goes on to `host:port`. `rules` by api key are used once each, in order; `storm` where none is left.

    `injected` counts what was really done, by `request what`.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self._target = (host, port)
        self.dice = random.Random(seed)
        self.rules: dict[int, deque[Rule]] = {}
        self.storm: Storm | None = None
        self.delay = 0.0
        """Seconds that each request and each answer takes longer."""
        self.trickle = 0
        """Bytes that pass at once, a hundred times a second; 0 for no limit."""
        self.injected: Counter[str] = Counter()
        self.held: list[bytes] = []
        self.port = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spoil(self, request: str, *rules: Rule) -> None:
        """Have the next requests of a kind (a name in `API_KEYS`) met with these rules."""
        self.rules.setdefault(API_KEYS[request], deque()).extend(rules)

    @property
    def done(self) -> bool:
        """Every rule was used."""
        return not any(self.rules.values())

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    async def start(self, port: int = 0) -> None:
        """Listen on a port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        await self.refuse()
        await asyncio.sleep(0)  # connections that were aborted are closed in the loop's next turn

    async def refuse(self) -> None:
        """Nobody listens any more, and every connection is cut; until `start` with the same port."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self, share: float = 1.0) -> int:
        """Break open connections, each with the chance `share`; how many it were."""
        chosen = [one for one in sorted(self._connections, key=id) if self.dice.random() < share]
        for connection in chosen:
            connection.abort()
        self.injected["connection cut"] += len(chosen)
        return len(chosen)

    def deafen(self, share: float = 1.0) -> int:
        """Make connections half open: the broker's side is gone, the client's stays and is never answered."""
        chosen = [one for one in sorted(self._connections, key=id) if self.dice.random() < share]
        for connection in chosen:
            connection.deaf = True
            connection.broker.transport.abort()
        self.injected["connection half open"] += len(chosen)
        return len(chosen)

    def freeze(self) -> None:
        """A black hole: connections are accepted, and nothing passes until `thaw`; then everything does."""
        self._flowing.clear()
        self.injected["all black hole"] += 1

    def thaw(self) -> None:
        """Let pass again."""
        self._flowing.set()

    async def deliver_held(self) -> list[bytes]:
        """Give the broker now what was held back, each over a connection of its own; its answers."""
        answers = []
        held, self.held = self.held, []
        for frame in held:
            reader, writer = await asyncio.open_connection(*self._target)
            try:
                writer.write(_framed(frame))
                answers.append(await read_frame(reader))
            finally:
                writer.transport.abort()
        return answers

    def met(self, key: int) -> Rule | None:
        """The rule for a request that has just come."""
        name = _NAMES.get(key, str(key))
        rules = self.rules.get(key)
        rule = rules.popleft() if rules else self.storm.rule(name, self.dice) if self.storm else None
        if rule is not None:
            word = {int: "error", str: rule}.get(type(rule), "other answer")
            self.injected[f"{name} {word}"] += 1
        return rule

    async def let_pass(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        """Write a frame on as slowly as it has to be."""
        await self._flowing.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        data = _framed(frame)
        while self.trickle and data:
            writer.write(data[: self.trickle])
            data = data[self.trickle :]
            await asyncio.sleep(0.01)
        writer.write(data)
        await writer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            broker = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, (reader, writer), broker)
        if self._server is None or not self._server.is_serving():
            connection.abort()
            return
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    """One client's connection and the one to the broker that belongs to it."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client_reader, self.client = client
        self._broker_reader, self.broker = broker
        self.deaf = False
        self._over = asyncio.Event()
        self._asked: deque[tuple[Asked, Rule | None]] = deque()

    def abort(self) -> None:
        self._over.set()
        for side in (self.client, self.broker):
            side.transport.abort()

    async def run(self) -> None:
        work = self._requests(), self._answers(), self._over.wait()
        pumps = [asyncio.ensure_future(one) for one in work]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await read_frame(self._client_reader)
                asked = Asked.of(frame)
                rule = self._proxy.met(asked.key)
                if rule == HOLD:
                    self._proxy.held.append(frame)
                if rule in (HOLD, LOSE_REQUEST):
                    return
                if rule == DEAFEN:
                    self.deaf = True
                if self.deaf:
                    continue
                self._asked.append((asked, rule))
                await self._proxy.let_pass(frame, self.broker)

    async def _answers(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await read_frame(self._broker_reader)
                asked, rule = self._asked.popleft()
                if rule == LOSE_ANSWER:
                    return
                if isinstance(rule, int):
                    frame = with_error(frame, asked, rule)
                elif callable(rule):
                    frame = rule(frame)
                if not self.deaf:
                    await self._proxy.let_pass(frame, self.client)
        if self.deaf:
            await asyncio.Event().wait()


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One request or answer, without its length."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


def _framed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame

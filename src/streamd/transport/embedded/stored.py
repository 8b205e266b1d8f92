"""The embedded log's side of looking at state, and of forgetting it, over a connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from streamd.component.stored import Forgotten, StoredChange, StoreId
from streamd.transport.embedded.database import connect, translated, write_transaction
from streamd.transport.embedded.jobs import DeleteTopic, drop_staged

_AT_ONCE: Final = 10_000
_EXCHANGES: Final = "SELECT topic, sum(next - start) FROM stream WHERE topic >= ? AND topic < ? AND topic LIKE ?"


async def partitions_of_topics(path: Path) -> dict[str, int]:
    """{topic: its partitions} of the log in that file, which may not be there yet.

    Raises UnavailableError, FatalError.
    """
    return await asyncio.to_thread(_partitions_of_topics, path)


def _partitions_of_topics(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    with closing(_open(path)) as connection:
        return {str(name): int(count) for name, count in _ask(connection, path, "SELECT name, partitions FROM topic")}


class EmbeddedStored:
    """`StoredState` (component/stored.py) of one pipeline in the file at `path`, which may not be there yet."""

    def __init__(self, path: Path, app: str, pipeline: str) -> None:
        self._path = path
        self._prefix = f"{app}.{pipeline}."

    async def stores(self) -> Sequence[StoreId]:
        """See `StoredState.stores`."""
        rows = await self._read("SELECT DISTINCT task, store FROM changelog WHERE task >= ? AND task < ?", self._span)
        found = [StoreId(store, *self._numbers(task)) for task, store in rows]
        return sorted(found)

    async def changes(self, store: StoreId) -> AsyncIterator[Sequence[StoredChange]]:
        """See `StoredState.changes`; all of one snapshot, at most some 10,000 at once."""
        query = "SELECT key, value FROM changelog WHERE task=? AND store=? AND key>? ORDER BY key LIMIT ?"
        if not self._path.exists():
            return
        connection = await asyncio.to_thread(_open, self._path)
        try:
            connection.execute("BEGIN")
            after = b""
            while rows := await asyncio.to_thread(
                _ask, connection, self._path, query, (*self._of(store), after, _AT_ONCE)
            ):
                yield [StoredChange(key, value, None) for key, value in rows]
                after = rows[-1][0]
        finally:
            connection.close()

    def where(self, stage: str) -> str:
        """See `StoredState.where`."""
        return f"table changelog of {self._path}"

    async def positions(self) -> list[Forgotten]:
        """What is committed of the pipeline's positions, by task."""
        rows = await self._read(
            "SELECT task, group_concat(source || '[' || partition || '] ' || substr(position, 1, 60), ', ') "
            "FROM position WHERE task >= ? AND task < ? GROUP BY task",
            self._span,
        )
        return [Forgotten("positions", str(self._path), f"of task {task}: {text}") for task, text in rows]

    async def changelogs(self, stage: str | None) -> list[Forgotten]:
        """The pipeline's changelogs, those of one stage, and how much is in them."""
        rows = await self._read(
            "SELECT store, task, count(*) FROM changelog WHERE task >= ? AND task < ? AND (?3 IS NULL OR store = ?3) "
            "GROUP BY store, task",
            (*self._span, stage),
        )
        found = [
            Forgotten("changelog", str(self._path), f"of stage {store}, task {task}: {count} record{'s'[: count != 1]}")
            for store, task, count in rows
        ]
        if stage is None:
            rows = await self._read(f"{_EXCHANGES} GROUP BY topic", self._exchanges)
            found += [Forgotten("exchange", str(self._path), f"topic {topic}: {n} records") for topic, n in rows]
        return found

    async def forget(self, stage: str | None) -> None:
        """Delete changelogs, positions and cursors; of one stage what it remembers, while positions stay.

        Whoever calls it holds the pipeline's lock.
        """
        await asyncio.to_thread(self._forget, stage)

    def _forget(self, stage: str | None) -> None:
        if not self._path.exists():
            return
        tasks = "SELECT id FROM task WHERE id >= ? AND id < ?"
        with (
            translated(self._path, "write to"),
            closing(connect(self._path)) as connection,
            write_transaction(connection),
        ):
            for (task,) in connection.execute(tasks, self._span).fetchall():
                drop_staged(connection, task)
                if stage is None:
                    connection.execute("DELETE FROM changelog WHERE task=?", (task,))
                    connection.execute("DELETE FROM position WHERE task=?", (task,))
                    connection.execute("DELETE FROM cursor WHERE task=?", (task,))
                else:
                    connection.execute("DELETE FROM changelog WHERE task=? AND store=?", (task, stage))
                    connection.execute("DELETE FROM cursor WHERE task=? AND sink=?", (task, stage))
            if stage is None:
                for topic, _ in connection.execute(f"{_EXCHANGES} GROUP BY topic", self._exchanges).fetchall():
                    DeleteTopic(topic).apply(connection, {})

    @property
    def _span(self) -> tuple[str, str]:
        """Between which names the pipeline's tasks are; `/` comes behind the dot."""
        return self._prefix, self._prefix[:-1] + "/"

    @property
    def _exchanges(self) -> tuple[str, str, str]:
        """Between which names the topics of its exchanges are, and how they end."""
        return f"streamd.{self._prefix}", f"streamd.{self._prefix[:-1]}/", "%.exchange"

    def _numbers(self, task: str) -> tuple[int, int]:
        part, _, partition = task.removeprefix(self._prefix).partition(".")
        return int(part), int(partition)

    def _of(self, store: StoreId) -> tuple[str, str]:
        return f"{self._prefix}{store.part}.{store.partition}", store.stage

    async def _read(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        return await asyncio.to_thread(self._read_once, query, parameters)

    def _read_once(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        if not self._path.exists():
            return []
        with closing(_open(self._path)) as connection:
            return _ask(connection, self._path, query, parameters)


def _open(path: Path) -> sqlite3.Connection:
    with translated(path, "open"):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)


def _ask(connection: sqlite3.Connection, path: Path, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
    with translated(path, "read"):
        return connection.execute(query, parameters).fetchall()

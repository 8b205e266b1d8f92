"""The scratch in Kafka for the time of a verification: topics are made, Kafka is watched, everything is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from streamd.errors import StreamdError, TransientError, UnavailableError
from streamd.transport.kafka.connection import connect, disconnect
from streamd.transport.kafka.settings import KafkaSettings
from streamd.verify import kafka
from streamd.verify.scratch import Scratch

_ASK_EVERY = 5.0  # seconds
_ANSWER_WITHIN = 10.0  # seconds
_SILENCES = 4  # in a row: then it is gone; a broker that is only started anew is back before


class GoneError(UnavailableError):
    """Kafka was there at the beginning, and is not any more."""


@asynccontextmanager
async def scratch_topics(
    scratch: Scratch, runs: Sequence[str], groups: Sequence[str], on_progress: Callable[[str], None], left: list[str]
) -> AsyncIterator[None]:
    """The scratch topics, for the time of the block. `left`: gets what could not be deleted, in words.

    Raises GoneError in the block when Kafka goes away, UnavailableError when it is not there.
    """
    settings = scratch.config.kafka
    assert settings is not None
    wanted = await _wanted(scratch, runs, settings)
    try:
        on_progress(f"making {len(wanted)} topics")
        async with _watched(settings):
            await kafka.make_topics(settings, wanted)
            yield
    finally:
        on_progress("deleting the scratch topics and groups")
        left += await asyncio.shield(kafka.delete_all(settings, scratch.prefix, wanted, groups))


async def _wanted(scratch: Scratch, runs: Sequence[str], settings: KafkaSettings) -> dict[str, int | None]:
    """{topic: partitions}, of all runs."""
    config = scratch.config
    wanted: dict[str, int | None] = {
        s.topic: s.partitions for s in (*scratch.inputs, *scratch.tables) if s.kind == "kafka"
    }
    sinks: dict[str, Any] = {
        str(s.settings.topic): s.settings  # type: ignore[attr-defined]
        for s in (*config.sinks, *config.dead_letters)
        if s.name == "kafka"
    }
    counts = await kafka.partitions(settings, sinks) if sinks else {}
    for run in runs:
        for output in scratch.outputs(run):
            if output.kind == "kafka":
                wanted[output.place] = None
        for topic, sink in sinks.items():
            created = sink.create.partitions if sink.create is not None else None
            wanted[scratch.output_topic(run, topic)] = counts.get(topic) or created
    return wanted


async def refuse_gone(settings: KafkaSettings) -> None:
    """Raises GoneError when Kafka does not answer."""
    silence = await _silence(settings)
    if silence:
        raise _gone(silence)


def where_left(settings: KafkaSettings, prefix: str, left: Iterable[str]) -> list[str]:
    """What could not be deleted, and how to find it, for a person."""
    found = [f"Could not be deleted: {what}." for what in left]
    if found:
        found.append(
            f"The next streamd verify with Kafka at {settings.address} deletes it; or find it with: "
            f"kafka-topics.sh --bootstrap-server {settings.address} --list | grep {prefix} "
            "(groups: kafka-consumer-groups.sh)"
        )
    return found


@asynccontextmanager
async def _watched(settings: KafkaSettings) -> AsyncIterator[None]:
    """Ends the block with GoneError once Kafka is gone: its clients would wait for it for ever."""
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(settings))
            yield
            watching.cancel()
    except BaseExceptionGroup as errors:
        found = next((error for error in errors.exceptions if isinstance(error, GoneError)), errors.exceptions[0])
        if isinstance(found, StreamdError) and not isinstance(found, GoneError):
            # What fails first says little when the reason is that Kafka is gone.
            await refuse_gone(settings)
        raise found from None


async def _watch(settings: KafkaSettings) -> None:
    silences = 0
    while True:
        silence = await _silence(settings)
        silences = silences + 1 if silence else 0
        if silences >= _SILENCES:
            raise _gone(silence)
        await asyncio.sleep(_ASK_EVERY)


async def _silence(settings: KafkaSettings) -> str:
    """Why Kafka does not answer, "" when it does."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            await disconnect(await connect(settings, "look after it"))
    except TransientError as error:
        return str(error)
    except TimeoutError:
        return f"Kafka at {settings.address} does not answer within {_ANSWER_WITHIN:g} s"
    except StreamdError:  # it answers
        return ""
    return ""


def _gone(silence: str) -> GoneError:
    return GoneError(f"Kafka went away in the middle, there is no result: {silence}")

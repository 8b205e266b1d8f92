"""Reads a sample of a source: no group, no commit, no topic made, nothing written but in a scratch folder."""

from __future__ import annotations

import importlib
import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamd.codecs import Codec, Undecodable
from streamd.codecs.beside import key_of
from streamd.component.source import Reader
from streamd.errors import ExtractError, NotFoundError
from streamd.inspect.target import Target
from streamd.profile import Bounds, Values
from streamd.record import RawRecord
from streamd.runtime.assembly import codecs_of, registry_of
from streamd.transport.embedded.log import log_path

_AT_ONCE = 500
_WAIT = 0.5  # seconds for one read


@dataclass(frozen=True, slots=True)
class Wish:
    """How much to read: so many records, from the beginning or (`latest`) the newest, within so many seconds."""

    records: int = 10_000
    latest: bool = False
    seconds: float = 30.0


@dataclass(slots=True)
class Sample:
    """What was seen. `undecodable`: {reason: records}; `timed_out`: time was up before the records were read."""

    values: Values = field(default_factory=Values)
    keys: Values = field(default_factory=lambda: Values(timed=False))
    bounds: Bounds = field(default_factory=Bounds)
    records: int = 0
    tombstones: int = 0
    bytes: int = 0
    partitions: int = 0
    undecodable: Counter[str] = field(default_factory=Counter)
    timed_out: bool = False


async def sampled(target: Target, wish: Wish) -> tuple[Target, Sample]:
    """A sample of the target. Columns of CSV that hold numbers are read as such: the target given back says so."""
    found = await _sample(target, wish)
    settings: Any = target.source.settings
    if target.source.name == "file" and settings.format == "csv" and not settings.types:
        types = {name: v.numeric_text for name, v in found.values.fields.items() if v.numeric_text}
        if types:
            target = target.with_settings(types=types)
            found = await _sample(target, wish)
    return target, found


async def _sample(target: Target, wish: Wish) -> Sample:
    sample = Sample()
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamd-inspect-")))
        context = target.context(scratch)
        if target.source.name == "log" and not (path := log_path(context.state_dir, context.app)).exists():
            raise NotFoundError(f"there is no embedded log {path}")
        registry = registry_of(context)
        if registry is not None:
            stack.push_async_callback(registry.close)
        codecs = codecs_of((target.source,), context.base_dir, registry)
        for one in codecs.values():
            stack.push_async_callback(one.close)
            await one.prepare()
        codec, key_codec = codecs.get(target.source.id), codecs.get(key_of(target.source.id))
        source = _made(target, context, "earliest")
        stack.push_async_callback(source.close)
        sample.partitions = await source.partitions()
        readers = await _opened(target, context, source, sample.partitions, wish, stack)
        async for partition, records in _read(readers, wish, sample):
            await _add(sample, partition, records, codec, key_codec)
    return sample


def _made(target: Target, context: Any, start: str) -> Any:
    """The source, so that it begins at the `start` of its input, and ends where that ends now."""
    component = target.source
    changed: dict[str, Any] = {}
    if component.name == "kafka":
        client = importlib.import_module("streamd.transport.kafka.client")
        changed = {"start": client.EARLIEST if start == "earliest" else client.LATEST, "end": "latest"}
    elif component.name == "log":
        changed = {"start": start}
    elif component.name == "file":
        changed = {"tail": False}
    return component.spec.factory(target.with_settings(**changed).source.settings, context)


async def _opened(
    target: Target, context: Any, source: Any, partitions: int, wish: Wish, stack: AsyncExitStack
) -> list[tuple[int, Reader]]:
    readers = []
    share = -(-wish.records // max(1, partitions))
    ends = None
    if wish.latest and target.source.name in ("kafka", "log"):
        ends = _made(target, context, "latest")
        stack.push_async_callback(ends.close)
    for partition in range(partitions):
        reader: Reader = await source.open(partition, None)
        if ends is not None:
            last: Reader = await ends.open(partition, None)
            first, end = reader.position(), last.position()
            await last.close()
            await reader.close()
            reader = await source.open(partition, max(first, end - share))
        stack.push_async_callback(reader.close)
        readers.append((partition, reader))
    return readers


async def _read(
    readers: Sequence[tuple[int, Reader]], wish: Wish, sample: Sample
) -> AsyncIterator[tuple[int, Sequence[RawRecord]]]:
    """Batches of all partitions in turn, until there are enough, or no more."""
    deadline, left = time.monotonic() + wish.seconds, wish.records
    # What cannot be gone back in from its end is read whole, and the newest are kept.
    positions = all(isinstance(reader.position(), int) for _, reader in readers)
    kept: deque[tuple[int, RawRecord]] | None = deque(maxlen=left) if wish.latest and not positions else None
    open_ = list(readers)
    while open_ and left > 0:
        for partition, reader in list(open_):
            if time.monotonic() >= deadline:
                sample.timed_out, open_ = True, []
                break
            records = await reader.read(_AT_ONCE if kept is not None else min(_AT_ONCE, left), _WAIT)
            if reader.ended or (not records and reader.lag() == 0):
                open_.remove((partition, reader))
            if kept is not None:
                kept.extend((partition, record) for record in records)
            elif records:
                yield partition, records[:left]
                left -= len(records)
            if left <= 0:
                break
    for partition, record in kept or ():
        yield partition, (record,)


async def _add(
    sample: Sample, partition: int, records: Sequence[RawRecord], codec: Codec | None, key_codec: Codec | None
) -> None:
    documents = [_document(record, codec) for record in records]
    keys = [_key(record.key, key_codec) for record in records]
    if key_codec is not None and await key_codec.learn():
        keys = [_key(record.key, key_codec) for record in records]
    while codec is not None and any(type(one) is str for one in documents) and await codec.learn():
        documents = [_document(record, codec) for record in records]
    sample.bounds.partition = partition
    for record, key, document in zip(records, keys, documents, strict=True):
        sample.records += 1
        sample.bytes += len(record.value) if isinstance(record.value, bytes) else 0
        sample.keys.add(key, sample.bounds)
        if document is None:
            sample.tombstones += 1
        elif isinstance(document, str):
            sample.undecodable[document] += 1
        else:
            sample.values.add(document, sample.bounds)


def _document(record: RawRecord, codec: Codec | None) -> dict[str, Any] | str | None:
    """The document of a record; why it has none; None for a tombstone."""
    value = record.value
    if value is None:
        return None
    try:
        document = value if codec is None else codec.decode(value)
    except ExtractError as error:
        return _reason(str(error))
    return _reason(document.reason) if isinstance(document, Undecodable) else document


def _reason(message: str) -> str:
    """The same words for records that fail alike at other places. Digits of a name, as of UTF-8, stay."""
    return re.sub(r"(?<![\w-])\d+", "N", message)


def _key(key: bytes | None, codec: Codec | None) -> Any:
    """The value of a key; its bytes where they cannot be read."""
    if key is None:
        return None
    try:
        return key.decode() if codec is None else codec.decode(key)
    except (UnicodeDecodeError, ExtractError):
        return key

"""How a task's positions and cursors lie in Kafka: as offsets of its group, and as JSON in their metadata.

A position of a Kafka source is the group's offset of that partition, where every Kafka tool looks for it. What is no
such offset (cursors of sinks, positions of other sources, two sources that read the same topic) is in the metadata text
of each of the task's offsets, all written by the same request. There is also who has committed, for another deployment
that runs the same task to read, and how many partitions the topics had when the task began: one that was added later is
told by that from one that nobody has read yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from streamd.component.transaction import Committed
from streamd.errors import FatalError
from streamd.observability.identity import Identity, identity
from streamd.record import Position, TaskId

METADATA_LIMIT: Final = 4096
"""Bytes of metadata that a broker takes with an offset (`offset.metadata.max.bytes`)."""

FENCED: Final = 0
"""The number in the signature of one that was fenced; commits are counted from 1."""

SourcePartition = tuple[str, int]  # source id, partition
TopicPartition = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class Offsets:
    """What is committed to the group: {(topic, partition): offset}, and the text beside each."""

    offsets: Mapping[TopicPartition, int]
    metadata: str


@dataclass(frozen=True, slots=True)
class Signature:
    """Who made a commit: the pipeline as `APP.PIPELINE`, the node, and how many commits the task had."""

    pipeline: str
    who: Identity
    number: int


def signature_of(task: TaskId) -> list[Any]:
    """What this process leaves in the commits of a task."""
    who = identity()
    return [f"{task.app}.{task.pipeline}", who.host, who.pid, who.since]


def fenced_document(task: TaskId) -> bytes:
    """What this process leaves beside the positions of a task that was fenced, for its rival to read."""
    return _text(FENCED, [], {}, signature_of(task))


def signature_in(text: str | bytes) -> Signature | None:
    """Who made the commit that a metadata text or document is of; None when it does not say."""
    entry = _parse(text)
    match entry.get("by"):
        case [str(pipeline), str(host), int(pid), int(since)]:
            return Signature(pipeline, Identity(host, pid, since), entry["n"])
    return None


def without_cursor(text: str, name: str) -> str:
    """A metadata text or document as it is without one of the cursors, that of a stage or a sink."""
    entry = _parse(text)
    if name not in entry.get("c", ()):
        return text
    del entry["c"][name]
    return orjson.dumps({key: value for key, value in entry.items() if value != {}}).decode()


class PositionBook:
    """What a task has committed, and how the next commit is written.

    `topics`: {(source id, partition): topic} of the Kafka sources that the task reads on this cluster. `by`: the
    `signature_of` the task, None to leave none. `began`: {topic: how many partitions it had when the task began}, as
    far as that is known.
    """

    def __init__(self, topics: Mapping[SourcePartition, str], by: list[Any] | None = None) -> None:
        self._topics = dict(topics)
        self._by = by
        self.began: dict[str, int] = {}
        self._number = 0
        self._positions: dict[SourcePartition, Position] = {}

    @property
    def partitions(self) -> dict[str, list[int]]:
        """{topic: [partition…]} of the group's offsets that the task owns."""
        found: dict[str, list[int]] = {}
        for (_, partition), topic in self._topics.items():
            partitions = found.setdefault(topic, [])
            if partition not in partitions:
                partitions.append(partition)
        return found

    def load(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Committed:
        """Take what the group has: {(topic, partition): (offset or -1, metadata)}."""
        newest: dict[str, Any] = {}
        for offset, metadata in offsets.values():
            if offset >= 0 and metadata:
                entry = _parse(metadata)
                if entry.get("n", 0) >= newest.get("n", 0):
                    newest = entry
        positions: dict[SourcePartition, Position] = {}
        for (source, partition), topic in self._topics.items():
            offset = offsets.get((topic, partition), (-1, ""))[0]
            if offset >= 0:
                positions[source, partition] = offset
        return self._loaded(newest, positions)

    def load_document(self, document: bytes | None) -> Committed:
        """Take what `document` gave for the last commit, None when there was none."""
        return self._loaded(_parse(document) if document else {}, {})

    def _loaded(self, entry: Mapping[str, Any], positions: dict[SourcePartition, Position]) -> Committed:
        for source, partition, position in entry.get("p", ()):
            positions[source, partition] = position
        self._number = entry.get("n", 0)
        self.began = self._began_of(entry)
        self._positions = positions
        return Committed(dict(positions), entry.get("c", {}))

    def began_in(self, metadata: str) -> dict[str, int]:
        """`began` as another task of the same part has left it beside its offsets."""
        return self._began_of(_parse(metadata))

    def _began_of(self, entry: Mapping[str, Any]) -> dict[str, int]:
        topics, counts = sorted(self.partitions), entry.get("t", ())
        return dict(zip(topics, counts, strict=True)) if len(counts) == len(topics) else {}

    def offsets(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any]) -> Offsets:
        """The next commit as offsets. Always all positions known, so that the texts beside them agree.

        Raises FatalError when what has to go into the text is too long for it.
        """
        self._positions.update(positions)
        offsets: dict[TopicPartition, int] = {}
        other = []
        for (source, partition), position in self._positions.items():
            topic = self._topics.get((source, partition))
            if topic is None:
                other.append([source, partition, position])
                continue
            if type(position) is not int or position < 0:
                raise FatalError(f"the position of {topic}[{partition}] must be an offset ≥ 0, got {position!r}")
            known = offsets.get((topic, partition), position)
            offsets[topic, partition] = min(known, position)
        shared = len(offsets) + len(other) < len(self._positions)
        if shared:
            other = [[source, partition, position] for (source, partition), position in self._positions.items()]
        self._number += 1
        began = [self.began[topic] for topic in sorted(self.began)]
        text = _text(self._number, other, cursors, self._by, began)
        if len(text) > METADATA_LIMIT:
            raise FatalError(
                f"positions and cursors of the task take {len(text)} bytes as JSON, an offset's metadata holds "
                f"{METADATA_LIMIT}: use fewer sinks that keep cursors, or split the pipeline"
            )
        return Offsets(offsets, text.decode())

    def document(self, positions: Mapping[SourcePartition, Position], cursors: Mapping[str, Any]) -> bytes:
        """The next commit as one JSON text, for tasks that have no offsets in Kafka."""
        self._positions.update(positions)
        self._number += 1
        entries = [[source, partition, position] for (source, partition), position in self._positions.items()]
        return _text(self._number, entries, cursors, self._by)


def _text(
    number: int,
    positions: list[list[Any]],
    cursors: Mapping[str, Any],
    by: list[Any] | None,
    began: Sequence[int] = (),
) -> bytes:
    document: dict[str, Any] = {"n": number}
    if positions:
        document["p"] = positions
    if cursors:
        document["c"] = dict(cursors)
    if by is not None:
        document["by"] = by
    if began:
        document["t"] = began
    return orjson.dumps(document)


def _parse(text: str | bytes) -> dict[str, Any]:
    """Metadata that others wrote (a console tool) is not ours and says nothing."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("n"), int) else {}

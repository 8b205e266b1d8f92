"""Where a replay begins and ends in a topic of Kafka, and the topics that it writes."""

from __future__ import annotations

from streamd.replay.span import Point, Span, check_partitions, offset_in, spans
from streamd.transport.kafka.admin import KafkaAdmin


async def span_of(admin: KafkaAdmin, topic: str, start: Point, until: Point | None) -> Span:
    """The offsets of a topic between two points, as it is now; only what is committed. Raises NotFoundError."""
    count = await admin.partitions(topic)
    check_partitions(start, count, topic, "--from")
    numbers = range(count)
    firsts = await admin.offsets(topic, numbers, "earliest")
    ends = await admin.offsets(topic, numbers, "latest", committed=True)
    known = {number: (firsts[number], max(firsts[number], ends[number])) for number in numbers}
    begins = await _offsets(admin, topic, start, known, "--from")
    limits = dict.fromkeys(numbers) if until is None else await _offsets(admin, topic, until, known, "--until")
    return spans(begins, limits, known)


async def _offsets(admin: KafkaAdmin, topic: str, point: Point, known: Span, option: str) -> dict[int, int | None]:
    if point.ms is None:
        return {number: offset_in(point, number, *known[number], topic, option) for number in known}
    found = await admin.offsets(topic, list(known), point.ms)
    return {number: min(max(found[number], first), end) for number, (first, end) in known.items()}


async def make_like(admin: KafkaAdmin, topic: str, original: str, partitions: int | None) -> None:
    """Have a topic with as many partitions as another one; `partitions` where that one does not exist yet."""
    found = await admin.topics([topic, original])
    if topic not in found:
        count = found[original].partitions if original in found else partitions
        await admin.create_topic(topic, count)


async def holds_records(admin: KafkaAdmin, topic: str) -> bool:
    """Whether anything is in a topic. Raises NotFoundError."""
    numbers = range(await admin.partitions(topic))
    firsts = await admin.offsets(topic, numbers, "earliest")
    ends = await admin.offsets(topic, numbers, "latest", committed=False)
    return any(firsts[number] < ends[number] for number in numbers)

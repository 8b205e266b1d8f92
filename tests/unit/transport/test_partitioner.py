"""Records go to the partitions that Kafka would choose."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as kafka_murmur2

from streamd.transport.partitioner import CACHE_KEYS, STICKY_RECORDS, Partitioner, murmur2


@pytest.mark.parametrize("size", range(70))
def test_the_hash_is_kafkas(size):
    chance = random.Random(size)
    for _ in range(20):
        key = chance.randbytes(size)
        assert murmur2(key) == kafka_murmur2(key)


@pytest.mark.parametrize(
    ("key", "expected"),
    # From the test of org.apache.kafka.common.utils.Utils.murmur2, as unsigned numbers.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_the_java_client(key, expected):
    assert murmur2(key) == expected & 0xFFFFFFFF


@pytest.mark.parametrize("count", [1, 2, 3, 12, 4096])
def test_keys_go_where_kafkas_default_partitioner_puts_them(count):
    partitioner, kafka = Partitioner(count), DefaultPartitioner()
    all_partitions = list(range(count))
    for n in range(300):
        key = f"user-{n}".encode()
        assert partitioner.partition(key) == kafka(key, all_partitions, all_partitions)
        assert partitioner.by_key[key] == partitioner.partition(key)


def test_records_without_key_stay_for_a_while_and_then_move_on():
    partitioner = Partitioner(3, seed=4)
    chosen = [partitioner.partition(None) for _ in range(STICKY_RECORDS * 3)]
    assert chosen == [1] * STICKY_RECORDS + [2] * STICKY_RECORDS + [0] * STICKY_RECORDS


def test_the_cache_is_bounded():
    partitioner = Partitioner(7)
    for n in range(CACHE_KEYS + 10):
        partitioner.partition(n.to_bytes(4, "big"))
    assert len(partitioner.by_key) == 10


def test_a_topic_without_partitions_is_refused():
    with pytest.raises(ValueError, match="at least 1 partition, got 0"):
        Partitioner(0)

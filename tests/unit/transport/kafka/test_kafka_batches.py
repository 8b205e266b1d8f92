"""Batches as they are sent: the same bytes that aiokafka's own builder would give."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamd.transport.kafka.batches import CODECS, encode, new_builder

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**41),
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=200),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
    ),
    min_size=1,
    max_size=30,
)


def built(builder, rows):
    for number, row in enumerate(rows):
        assert builder.append(number, *row) is not None
    return builder


@given(rows=ROWS, transactional=st.booleans(), sequence=st.integers(0, 2**31 - 1))
def test_an_uncompressed_batch_is_the_same_as_aiokafkas(rows, transactional, sequence):
    theirs = built(DefaultRecordBatchBuilder(2, 0, transactional, 5, 6, sequence, 1 << 20), rows).build()
    ours = b"".join(encode(built(new_builder(1 << 20), rows), 0, 5, 6, sequence, transactional))
    assert ours == theirs


@pytest.mark.parametrize("codec", CODECS)
@given(rows=ROWS)
def test_every_codec_is_read_back(codec, rows):
    data = b"".join(encode(built(new_builder(1 << 20), rows), CODECS[codec], 5, 6, 7, True))
    batch = DefaultRecordBatch(data)
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence, batch.is_transactional) == (5, 6, 7, True)
    assert [(r.timestamp, r.key, r.value, r.headers) for r in batch] == rows


def test_what_does_not_get_smaller_is_sent_as_it_is():
    data = b"".join(encode(built(new_builder(1000), [(1, None, b"x", [])]), CODECS["gzip"], 1, 1, 0, False))
    assert DefaultRecordBatch(data).compression_type == 0
    large = b"".join(encode(built(new_builder(1000), [(1, None, b"x" * 500, [])]), CODECS["gzip"], 1, 1, 0, False))
    assert DefaultRecordBatch(large).compression_type == 1
    assert len(large) < 150


def test_aiokafkas_own_compression_is_left_as_it_was():
    encode(built(new_builder(1000), [(1, None, b"x" * 500, [])]), 0, 1, 1, 0, False)
    theirs = built(DefaultRecordBatchBuilder(2, CODECS["gzip"], 0, -1, -1, -1, 1000), [(1, None, b"x" * 500, [])])
    assert [r.value for r in DefaultRecordBatch(bytes(theirs.build()))] == [b"x" * 500]

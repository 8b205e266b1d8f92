"""Records one behind the other come back as they were, wherever the bytes are cut and whatever may be dropped."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from streamd.codecs import Format, Undecodable
from streamd.codecs.format import framing_of
from streamd.transport.files.frames import FrameCutter

FORMS = st.sampled_from(["msgpack", "protobuf"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=40))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20)
)
# Each one a record of either format: a frame of Protobuf is any bytes behind their length.
RECORDS = st.lists(VALUES.map(msgpack.packb), max_size=8)


def cut(
    form: str, data: bytes, places: list[int], offset: int = 0, max_bytes: int = 10**6
) -> tuple[list[Any], list[int]]:
    """The values from a byte on, and where they begin, of bytes that come in pieces which end in those places."""
    cutter = FrameCutter(framing_of(Format(form)), Path("in"), offset, max_bytes)
    values: list[Any] = []
    starts: list[int] = []
    edges = sorted({offset, len(data), *(place for place in places if offset < place < len(data))})
    for lines in [*(cutter.feed(data[a:b]) for a, b in pairwise(edges)), cutter.finish()]:
        values += lines.values
        starts += lines.starts
    assert cutter.spot == (max(offset, len(data)), 0, 0)
    return values, starts


@given(FORMS, RECORDS, st.lists(st.integers(0, 3000)))
def test_records_come_back_wherever_the_bytes_are_cut_and_from_every_one_of_them_on(form, records, places):
    data = framing_of(Format(form)).pack(records)
    values, starts = cut(form, data, places)
    assert values == records
    for number, start in enumerate(starts):
        assert cut(form, data, places, offset=start) == (records[number:], starts[number:])


@given(FORMS, RECORDS, st.lists(st.integers(0, 3000)), st.integers(1, 400))
def test_what_is_too_long_is_an_error_of_its_own_and_walked_through_as_the_library_would(
    form, records, places, max_bytes
):
    data = framing_of(Format(form)).pack(records)
    values, _ = cut(form, data, places, max_bytes=max_bytes)
    assert len(values) == len(records)
    for value, record in zip(values, records, strict=True):
        if len(record) <= max_bytes:
            assert value == record
        else:
            assert isinstance(value, Undecodable)
            assert (value.raw, value.cut) == (record[:max_bytes], True)
            assert f"it has {len(record)}" in value.reason


@given(FORMS, RECORDS.filter(bool), st.lists(st.integers(0, 3000)), st.data())
def test_a_file_that_is_cut_off_anywhere_has_all_records_before_and_one_error(form, records, places, data):
    whole = framing_of(Format(form)).pack(records)
    _, starts = cut(form, whole, [])
    size = data.draw(st.integers(0, len(whole)))
    values, _ = cut(form, whole[:size], places)
    count = sum(end <= size for end in [*starts[1:], len(whole)])
    assert values[:count] == records[:count]
    assert [type(value) for value in values[count:]] == [Undecodable] * (size not in [*starts, len(whole)])

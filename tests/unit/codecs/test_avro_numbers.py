"""Avro: numbers are written as they are or not at all; bytes that are no Avro are told without words of Python."""

from __future__ import annotations

import pytest

from streamd.codecs import codec
from streamd.codecs.avro.settings import AvroSettings
from streamd.errors import ExtractError, LoadError

DATE = {"type": "int", "logicalType": "date"}


def one(of):
    """A codec of records with one field `v`."""
    return codec("avro", AvroSettings(schema={"type": "record", "name": "R", "fields": [{"name": "v", "type": of}]}))


@pytest.mark.parametrize(
    ("of", "value", "read"),
    [
        ("long", 4711.0, 4711),
        ("int", -1.0, -1),
        ("long", -(2.0**53), -(2**53)),
        (["null", "long"], 5.0, 5),
        (["long", "double"], 5.0, 5.0),
        (["long", "double"], 5.5, 5.5),
        (["long", "string"], 0.0, 0),
        ("double", 2**60, 2.0**60),
        ("float", 2**24, 2.0**24),
    ],
)
def test_a_number_that_is_whole_is_one_however_it_is_written(of, value, read):
    made = one(of)
    found = made.decode(made.encode({"v": value}))["v"]
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("of", "value", "message"),
    [
        ("double", 2**53 + 1, "expected a double, got a whole number that it would round"),
        ("double", -(2**64) + 1, "expected a double, got a whole number that it would round"),
        ("double", 10**400, "expected a double, got a number beyond its range"),
        ("float", 2**24 + 1, "expected a float, got a whole number that it would round"),
        ("float", 10**40, "expected a float, got a number beyond its range"),
    ],
)
def test_no_whole_number_is_rounded(of, value, message):
    with pytest.raises(LoadError, match=message):
        one(of).encode({"v": value})


@pytest.mark.parametrize(
    ("of", "data", "message"),
    [
        ("boolean", b"", "it ends too early"),
        (DATE, b"\xfe\xff\xff\xff\x0f", "a number in it is out of range"),
    ],
)
def test_what_is_no_avro_is_told_without_words_of_python(of, data, message):
    with pytest.raises(ExtractError, match=f"not Avro of its schema: {message}"):
        one(of).decode(data)

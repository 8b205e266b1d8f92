"""Whole numbers as Protobuf and Avro write them, seven bits in a byte, the lowest first."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """The bytes of a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number, and where it ends. Raises IndexError where the bytes end first, ValueError for more than five bytes."""
    value = 0
    for shift in range(0, 35, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("more than five bytes")

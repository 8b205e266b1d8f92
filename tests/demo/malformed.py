"""Records that are not what they should be: valid ones, changed as wires, disks and wrong programs change them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

# What lengths, counts and tags look like where something is wrong with them.
_STRANGE = (
    *(b"\x00", b"\xff", b"\x80", b"\x7f", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 12, b"\x00" * 9),
    *(b"\x80" * 9 + b"\x01", b"\xfe" + b"\xff" * 8 + b"\x01", b"\xdd\x7f\xff\xff\xff", b"\xdf\xff\xff\xff\xff"),
    *(b"\xc6\x7f\xff\xff\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b'"', b"{", b"["),
    *(b"\n", b"\r", b",", b"\\u", b"\\ud800", b"NaN", b"-Infinity", b"9" * 400, b"1e999"),
    *(struct.pack("<d", float("nan")), struct.pack(">d", float("inf"))),
    *(b"\x91" * 3000, b"[" * 3000, b'{"a":' * 1000, b"\x0b" * 300),
)


def mutated(rng: random.Random, valid: Sequence[bytes]) -> bytes:
    """One of the records, changed once or several times."""
    data = bytearray(rng.choice(valid))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _CHANGES[rng.randrange(len(_CHANGES))](rng, data, valid)
    return bytes(data)


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _flip_bits(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut_off(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _cut_out(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + rng.randrange(1, 8)]


def _insert(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.randrange(1, 12))


def _overwrite(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    strange, at = rng.choice(_STRANGE), _place(rng, data)
    data[at : at + len(strange)] = strange


def _insert_strange(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = rng.choice(_STRANGE)


def _splice(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    other = rng.choice(valid)
    data[_place(rng, data) :] = other[rng.randrange(len(other) + 1) :]


def _repeat(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = data[at : at + 16] * rng.choice((1, 2, 200))


def _replace(rng: random.Random, data: bytearray, valid: Sequence[bytes]) -> None:
    data[:] = rng.randbytes(rng.randrange(64))


_CHANGES = (
    *(_flip_bits, _flip_bits, _cut_off, _cut_out, _insert, _overwrite, _insert_strange, _splice, _repeat, _replace),
)

"""MessagePack values one behind the other: each says itself where it ends."""

from __future__ import annotations

import msgpack

_NEVER_USED = "a byte of 0xc1, which begins no value"

# {first byte of a value: the bytes of its length, those between the length and what is as long, the values within for
# each that the length counts (0: it counts bytes)}
_WITH_LENGTH = {
    **{0xC4 + n: (1 << n, 0, 0) for n in range(3)},  # bin
    **{0xC7 + n: (1 << n, 1, 0) for n in range(3)},  # ext
    **{0xD9 + n: (1 << n, 0, 0) for n in range(3)},  # str
    **{0xDC + n: (2 << n, 0, 1) for n in range(2)},  # array
    **{0xDE + n: (2 << n, 0, 2) for n in range(2)},  # map
}


def _size(first: int) -> int:
    """How many bytes a value takes without those within it; 0 where that is not in its first byte."""
    if first in _WITH_LENGTH or first == 0xC1:
        return 0
    if 0xA0 <= first <= 0xBF:
        return 1 + (first & 0x1F)
    if 0xCA <= first <= 0xCB:
        return 1 + (4 << (first - 0xCA))
    if 0xCC <= first <= 0xD3:
        return 1 + (1 << (first & 3))
    if 0xD4 <= first <= 0xD8:
        return 2 + (1 << (first - 0xD4))
    return 1


def _within(first: int) -> int:
    """How many values are within one, where its first byte says so."""
    if 0x80 <= first <= 0x8F:
        return 2 * (first & 0x0F)
    return first & 0x0F if 0x90 <= first <= 0x9F else 0


_SIZES = tuple(map(_size, range(256)))
_WITHIN = tuple(map(_within, range(256)))


class MsgpackFrames:
    """See `Frames`. The library finds where values end; it would hold one of any size in memory and takes only some
    levels of nesting, so that those which are dropped or deeper are walked through here, value by value.
    """

    def __init__(self) -> None:
        self.damage = ""
        self._unpacker = _unpacker()
        # The library's count of bytes at the beginning of the value that it is in.
        self._begun = 0
        # Of the value that is walked through: where it begins and how far it is walked, in the data and beyond its end;
        # how many values are still to come, itself among them.
        self._walking = False
        self._body = self._at = self._left = 0

    def find(self, data: bytearray, new: int) -> list[tuple[int, int]]:
        """See `Frames.find`."""
        found: list[tuple[int, int]] = []
        at = 0
        while not self.damage:
            if self._walking:
                if not self._walk(data):
                    break
                found.append((self._body, self._at))
                at = new = self._at
                self._walking, self._unpacker, self._begun = False, _unpacker(), 0
            self._unpacker.feed(memoryview(data)[new:])
            ends = [at + end - self._begun for end in self._ends()]
            if ends:
                found += zip((at, *ends), ends, strict=False)
                self._begun += ends[-1] - at
                at = ends[-1]
            if not self._walking:
                break
            self._body, self._at, self._left = at, at, 1
        self._body -= at
        self._at -= at
        return found

    def drop(self, data: bytearray) -> int:
        """See `Frames.drop`."""
        if not self._walking:
            self._walking, self._body, self._at, self._left = True, 0, 0, 1
            self._walk(data)
        count = min(self._at, len(data))
        self._body -= count
        self._at -= count
        return count

    def _ends(self) -> list[int]:
        """Where values end that the library has all bytes of, as it counts."""
        skip, tell = self._unpacker.skip, self._unpacker.tell
        ends: list[int] = []
        try:
            while True:
                skip()
                ends.append(tell())
        except msgpack.OutOfData:
            pass
        except msgpack.StackError:
            self._walking = True
        except msgpack.FormatError:
            self.damage = _NEVER_USED
        return ends

    def _walk(self, data: bytearray) -> bool:
        """Whether the value that is walked through ends in the data."""
        at, left, size = self._at, self._left, len(data)
        while left and at < size:
            first = data[at]
            if step := _SIZES[first]:
                at += step
                left += _WITHIN[first] - 1
                continue
            if first not in _WITH_LENGTH:
                self.damage = _NEVER_USED
                break
            width, between, values = _WITH_LENGTH[first]
            if at + 1 + width > size:
                break
            length = int.from_bytes(data[at + 1 : at + 1 + width])
            at += 1 + width + between + (0 if values else length)
            left += length * values - 1
        self._at, self._left = at, left
        return not left and at <= size


def _unpacker() -> msgpack.Unpacker:
    # Without a bound of its own: who holds the bytes drops them where there are too many.
    return msgpack.Unpacker(max_buffer_size=0)

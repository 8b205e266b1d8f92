"""Protobuf messages each behind its length, as `writeDelimitedTo` and `serialize_length_prefixed` write them.

The library reads such messages only whole and from a stream that has them all; here they stay bytes, and may be
unfinished.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamd.codecs.varint import read_varint, varint

# No message is longer, says Protobuf.
MOST_MESSAGE_BYTES = 2**31 - 1


class DelimitedFrames:
    """See `Frames`."""

    def __init__(self) -> None:
        self.damage = ""
        # Of the message whose length is known and whose end is not there yet: where it begins and ends.
        self._open: tuple[int, int] | None = None

    def find(self, data: bytearray, new: int) -> list[tuple[int, int]]:
        """See `Frames.find`."""
        found: list[tuple[int, int]] = []
        at, size = 0, len(data)
        message, self._open = self._open, None
        while message is not None or (message := self._next(data, at)) is not None:
            if message[1] > size:
                self._open = message[0] - at, message[1] - at
                break
            found.append(message)
            at, message = message[1], None
        return found

    def drop(self, data: bytearray) -> int:
        """See `Frames.drop`."""
        if self._open is None:
            return 0
        begin, end = self._open
        self._open = begin - len(data), end - len(data)
        return len(data)

    def _next(self, data: bytearray, at: int) -> tuple[int, int] | None:
        """Where the message begins and ends whose length is there; None when it is not there yet, or none."""
        try:
            length, begin = read_varint(data, at)
        except IndexError:
            return None
        except ValueError:
            length, begin = MOST_MESSAGE_BYTES + 1, at
        if length > MOST_MESSAGE_BYTES:
            self.damage = f"a length of more than {MOST_MESSAGE_BYTES} bytes, which no message has"
            return None
        return begin, begin + length


def delimited(messages: Sequence[bytes]) -> bytes:
    """The messages, each behind its length."""
    return b"".join([part for message in messages for part in (varint(len(message)), message)])

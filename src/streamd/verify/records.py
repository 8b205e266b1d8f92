"""The input: for each source, record after record, the same for every run of a seed."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from streamd.codecs import Undecodable
from streamd.codecs.csv import format_row
from streamd.sources.generate import GenerateConfig, maker
from streamd.verify.encodings import Encoding
from streamd.verify.shapes import Shape, document, spoil

WRONG_EACH = 50


class Made(NamedTuple):
    """One input record. `value` as its bytes lie in the topic, or as the line of a file without its end."""

    partition: int
    key: bytes | None
    value: bytes | None


class Records(Protocol):
    """Record after record of one source."""

    header: bytes | None
    """The first line of its files, where they have one."""

    def record(self, number: int) -> Made:
        """Record `number` of the source, from 0; there is no last one."""


class Sampled:
    """Records of the user's, each as often as needed, in their order. `sample`, `count` of them, must not be empty."""

    def __init__(self, sample: Sequence[Made], header: bytes | None = None) -> None:
        self._sample = sample
        self.header = header
        self.count = len(sample)

    def record(self, number: int) -> Made:
        """See `Records.record`."""
        return self._sample[number % len(self._sample)]


class Generated:
    """Records of a `generate` source; without a key of their own they stay in the partition that they had there."""

    header: bytes | None = None

    def __init__(self, config: GenerateConfig, base_ms: int) -> None:
        self._config = config
        self._make = maker(config)
        self._base_ms = base_ms

    def record(self, number: int) -> Made:
        """See `Records.record`."""
        partition = number % self._config.partitions
        value, key = self._make(number, partition, self._base_ms + number)
        if isinstance(value, Undecodable):
            return Made(partition, key, value.raw or b"")
        return Made(partition, key, orjson.dumps(value, default=str))


class Rows(Sampled):
    """The rows of a made-up table: one for each of `keys`, in the record's key, and in the field `key`, if that is one.

    `columns`: of a CSV file, whose rows they become.
    """

    def __init__(
        self, shape: Shape, keys: Sequence[str], key: str | None, partitions: int, seed: str, form: str,
        columns: Sequence[str] | None = None, *, header: bool = False, encoding: Encoding | None = None,
    ) -> None:  # fmt: skip
        if key is not None:
            shape.at(key)
        shaped = Shaped(shape, partitions, seed, form, columns, header=header, encoding=encoding)
        rows = []
        for number, name in enumerate(keys):
            chance = random.Random(f"{seed} {number}")
            made = shaped.document(chance) | ({} if key is None else {key: name})
            rows.append(Made(number % partitions, name.encode(), shaped.encoded(made, chance)))
        super().__init__(rows, shaped.header)


class Shaped:
    """Made-up records. `columns`: of a CSV file, whose rows they become. `key`: a field by which to partition them.

    `wrong`: one in `WRONG_EACH` lacks a field, or has it of another type; of a binary format it lacks its last byte.
    `encoding`: of a binary format.
    """

    def __init__(
        self,
        shape: Shape,
        partitions: int,
        seed: str,
        form: str,
        columns: Sequence[str] | None = None,
        *,
        header: bool = False,
        key: str | None = None,
        wrong: bool = False,
        encoding: Encoding | None = None,
    ) -> None:
        self._shape = shape
        self._encoding = encoding
        self._wrong = wrong
        self._key = key
        self._partitions = partitions
        self._seed = seed
        self._form = form
        self._columns = tuple(columns or ("id", *(name for name in shape.fields if name != "id")))
        self.header = format_row(self._columns) if header else None

    def record(self, number: int) -> Made:
        """See `Records.record`."""
        chance = random.Random(f"{self._seed} {number}")
        made = self.document(chance)
        wrong = self._wrong and chance.randrange(WRONG_EACH) == 0
        if wrong and self._encoding is None:
            spoil(made, self._key, chance)
        value = self.encoded(made, chance)
        if wrong and self._encoding is not None:
            value = value[:-1]
        if self._key is None:
            return Made(number % self._partitions, None, value)
        key = str(made.get(self._key)).encode()
        return Made(zlib.crc32(key) % self._partitions, key, value)

    def document(self, chance: random.Random) -> dict[str, Any]:
        """A document as the pipeline's expressions, and what writes it, want it."""
        return document(self._shape, chance) if self._encoding is None else self._encoding.document(self._shape, chance)

    def encoded(self, made: dict[str, Any], chance: random.Random) -> bytes:
        """A document as it lies in the topic or the file. Raises LoadError for one that its format has no place for."""
        if self._encoding is not None:
            return self._encoding.encode(made)
        if self._form == "json":
            return orjson.dumps(made)
        if self._form == "csv":
            return format_row([made.get(name) for name in self._columns])
        return f"line {chance.getrandbits(64):016x}".encode()

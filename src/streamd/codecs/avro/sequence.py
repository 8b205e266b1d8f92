"""Avro values one behind the other, as blocks of container files hold them: many at once, or one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

from streamd.codecs.avro.limits import SHALLOW_BYTES, recursive
from streamd.codecs.avro.reading import FAILURES, TOP, failure, prepared, schemaless_readers
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.values import Forms
from streamd.codecs.avro.writing import zigzag
from streamd.errors import ExtractError

# Of a buffer and None the next value; of a buffer and a number the list of so many, to the buffer's end.
ReadNext = Callable[[BytesIO, int | None], Any]


def sequence_reader(writer: Schema, target: Schema | None, forms: Forms) -> ReadNext:
    """What reads what `writer` wrote as values of `target`, or of the same. Raises MismatchError as `reader` does.

    What it gives raises ExtractError, and leaves the buffer anywhere then.
    """
    schema, types = prepared(writer, target, forms)
    schemaless, deep = schemaless_readers()
    shallow = SHALLOW_BYTES if recursive(types) else sys.maxsize
    many = schema | {"fields": [{"name": TOP, "type": {"type": "array", "items": schema["fields"][0]["type"]}}]}

    def read(buffer: BytesIO, count: int | None) -> Any:
        of, source, size = schema, buffer, len(buffer.getbuffer())
        if count is not None:
            # An array's own block: its number of items, the items, and no further block.
            of, source = many, BytesIO(b"".join((zigzag(count), buffer.getbuffer()[buffer.tell() :], b"\0")))
        try:
            found = (schemaless if size < shallow else deep)(source, of, None)[TOP]
        except FAILURES as error:
            raise failure(error) from None
        if count is not None:
            if source.read(1):
                raise ExtractError("not Avro of its schema: bytes are left over behind the last value")
            buffer.seek(size)
        return found

    return read


def skip(buffer: BytesIO, writer: Schema) -> None:
    """Go behind the next value, whatever it means. Raises ExtractError where the bytes are none of the schema."""
    from fastavro import _read_py

    # Of fastavro's two readers only this one can, and it has no types.
    untyped: Any = _read_py
    decoder = untyped.BinaryDecoder(buffer)
    decoder.read_utf8 = decoder.read_bytes  # what nobody reads need be no text
    try:
        untyped.skip_data(decoder, writer.type, {"writer": writer.named})
    except FAILURES as error:
        raise failure(error) from None

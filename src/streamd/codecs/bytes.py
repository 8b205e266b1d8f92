"""Bytes: a record is taken as it is, and its document is {"bytes": value}."""

from __future__ import annotations

from typing import Any

from streamd.codecs.codec import Codec, CodecContext, FormatSpec, NoSettings, PlainCodec
from streamd.codecs.undecodable import refuse
from streamd.component.event_time import json_name
from streamd.errors import LoadError


def decode(value: Any) -> dict[str, Any]:
    """{"bytes": the value}. Raises ExtractError for a record without one."""
    if not isinstance(value, bytes):
        refuse(value, "anything")
    return {"bytes": value}


def encode(document: Any) -> bytes:
    """The field `bytes`; text there is written as UTF-8. Raises LoadError when there is none, or it is neither."""
    value = document.get("bytes")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise LoadError(f"the field 'bytes' has no UTF-8 form at character {error.start}: {error.reason}") from None
    found = "is missing" if "bytes" not in document else f"is {json_name(value)}"
    raise LoadError(f"format bytes writes the field 'bytes', which {found}; expected bytes or text")


def decode_any(value: bytes) -> bytes:
    """The bytes themselves."""
    return value


def encode_any(value: Any) -> bytes:
    """Bytes as they are, a text as UTF-8. Raises LoadError."""
    if value.__class__ is not bytes and value.__class__ is not str:
        raise LoadError(f"the document is {json_name(value)}, expected bytes or text")
    return encode({"bytes": value})


def _codec(settings: NoSettings, context: CodecContext) -> Codec:
    return PlainCodec(decode, encode) if context.whole else PlainCodec(decode_any, encode_any)


FORMAT = FormatSpec("bytes", _codec)

"""JSON over several lines, for people."""

from __future__ import annotations

from typing import Any

import orjson

from streamd.codecs.codec import Codec, CodecContext, FormatSpec, NoSettings, PlainCodec
from streamd.codecs.json import decode
from streamd.errors import LoadError

__all__ = ["FORMAT", "decode", "encode"]


def encode(document: Any) -> bytes:
    """Indented JSON. Raises LoadError when the document holds something that JSON has no word for."""
    try:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)
    except (TypeError, ValueError) as error:
        raise LoadError(f"the document cannot be written as JSON: {error}") from None


def _codec(settings: NoSettings, context: CodecContext) -> Codec:
    return PlainCodec(decode, encode)


FORMAT = FormatSpec("pretty", _codec, topics=False)

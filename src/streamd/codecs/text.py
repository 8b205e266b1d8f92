"""Text: a record is one line, and its document is {"text": line}."""

from __future__ import annotations

from typing import Any

from streamd.codecs.codec import Codec, CodecContext, FormatSpec, NoSettings, PlainCodec
from streamd.codecs.undecodable import refuse
from streamd.errors import ExtractError, LoadError


def decode(value: Any) -> dict[str, Any]:
    """{"text": the bytes as UTF-8}. Raises ExtractError when they are not UTF-8."""
    if not isinstance(value, bytes):
        refuse(value, "a line of text")
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError as error:
        raise ExtractError(f"not valid UTF-8 at byte {error.start}: {error.reason}") from None


def encode(document: Any) -> bytes:
    """The field `text` as UTF-8. Raises LoadError when there is none, or it is no text."""
    text = document.get("text")
    if not isinstance(text, str):
        found = "is missing" if "text" not in document else f"is a {type(text).__name__}"
        raise LoadError(f"format text writes the field 'text', which {found}; expected text")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LoadError(f"the field 'text' has no UTF-8 form at character {error.start}: {error.reason}") from None


def _codec(settings: NoSettings, context: CodecContext) -> Codec:
    return PlainCodec(decode, encode)


FORMAT = FormatSpec("text", _codec, lines=True)

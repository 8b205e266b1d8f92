"""Text: a record is one line, and its document is {"text": line}.

```yaml
source:
  kafka:
    topic: host-messages
    format: {text: {encoding: latin-1}}
```

Without `encoding` it is UTF-8; files and stdin always are.
"""

from __future__ import annotations

import codecs
from typing import Any

import orjson
from pydantic import Field, field_validator

from streamd.codecs.codec import Codec, CodecContext, FormatSpec, PlainCodec
from streamd.codecs.undecodable import refuse
from streamd.component.event_time import json_name
from streamd.component.model import Model
from streamd.errors import ExtractError, LoadError


class TextSettings(Model):
    """Settings of the format text."""

    encoding: str = Field(
        "utf-8",
        min_length=1,
        description="How the text is written as bytes, by the name that Python has for it: latin-1, cp1252, utf-16, …",
        examples=["latin-1"],
    )

    @field_validator("encoding", mode="after")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            "".encode(value)  # also refuses what is no encoding of text, such as base64
        except (LookupError, ValueError):
            raise ValueError("expected an encoding of text, such as latin-1, cp1252 or utf-16") from None
        return value


def decode(value: Any) -> dict[str, Any]:
    """{"text": the bytes as UTF-8}. Raises ExtractError when they are not UTF-8."""
    return {"text": _read(value, "utf-8", "UTF-8")}


def encode(document: Any) -> bytes:
    """The field `text` as UTF-8. Raises LoadError when there is none, or it is no text."""
    return _written(document, "utf-8", "UTF-8")


def _read(value: Any, encoding: str, name: str) -> str:
    if not isinstance(value, bytes):
        refuse(value, "a line of text")
    try:
        return value.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExtractError(f"not valid {name} at byte {error.start}: {error.reason}") from None
    except UnicodeError:
        raise ExtractError(f"not valid {name}") from None


def _written(document: Any, encoding: str, name: str) -> bytes:
    text = document.get("text")
    if not isinstance(text, str):
        found = "is missing" if "text" not in document else f"is {json_name(text)}"
        raise LoadError(f"format text writes the field 'text', which {found}; expected text")
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise LoadError(f"the field 'text' has no {name} form at character {error.start}: {error.reason}") from None
    except UnicodeError:
        raise LoadError(f"the field 'text' has no {name} form") from None


class _TextCodec(Codec):
    """Text in an encoding of the user's. `whole`: in the field `text` of a document."""

    binary = True

    def __init__(self, encoding: str, *, whole: bool) -> None:
        self._encoding, self._whole = encoding, whole

    def decode(self, value: Any) -> Any:
        """{"text": the bytes in the encoding}, of a key the text itself. Raises ExtractError."""
        text = _read(value, self._encoding, self._encoding)
        return {"text": text} if self._whole else text

    def encode(self, document: Any) -> bytes:
        """The field `text`, or a key's text, in the encoding. Raises LoadError."""
        if not self._whole:
            return _encoded_any(document, self._encoding, self._encoding)
        return _written(document, self._encoding, self._encoding)

    def passes(self, read: Codec) -> bool:
        """Whether it is the same encoding."""
        return isinstance(read, _TextCodec) and read._encoding == self._encoding


def decode_any(value: bytes) -> str:
    """The bytes as UTF-8. Raises ExtractError."""
    return _read(value, "utf-8", "UTF-8")


def encode_any(value: Any) -> bytes:
    """A text as UTF-8, bytes as they are, anything else as JSON. Raises LoadError."""
    return _encoded_any(value, "utf-8", "UTF-8")


def _encoded_any(value: Any, encoding: str, name: str) -> bytes:
    if value.__class__ is bytes:
        return bytes(value)
    try:
        text = value if value.__class__ is str else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        return str(text).encode(encoding)
    except UnicodeEncodeError as error:
        raise LoadError(f"the document has no {name} form at character {error.start}: {error.reason}") from None
    except (TypeError, ValueError) as error:
        raise LoadError(f"the document cannot be written as text: {error}") from None


def _codec(settings: TextSettings, context: CodecContext) -> Codec:
    if codecs.lookup(settings.encoding).name == "utf-8":
        return PlainCodec(decode, encode) if context.whole else PlainCodec(decode_any, encode_any)
    return _TextCodec(settings.encoding, whole=context.whole)


FORMAT = FormatSpec("text", _codec, settings=TextSettings, lines=True)

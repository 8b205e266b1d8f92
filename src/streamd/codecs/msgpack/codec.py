"""The codec of the format msgpack: maps, or the values of keys and headers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec
from pydantic import Field

from streamd.codecs.codec import Codec, CodecContext
from streamd.codecs.timestamps import as_iso, as_milliseconds, microseconds
from streamd.codecs.undecodable import refuse
from streamd.component.model import Model
from streamd.errors import ExtractError, LoadError

_PLAIN = frozenset({str, int, float, bool, type(None)})


class MsgpackSettings(Model):
    """Settings of the format msgpack."""

    timestamps: Literal["ms", "iso"] = Field(
        "ms",
        description="What a timestamp is in a document: ms since the epoch, or ISO 8601 text in UTC.",
        examples=["iso"],
    )


class MsgpackCodec(Codec):
    """Maps, with values as JSON has them. `whole`: False for what need be no map."""

    binary = gives_nan = True

    def __init__(self, settings: MsgpackSettings, *, whole: bool = True) -> None:
        self._whole = whole
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(dict[str, Any] if whole else Any).decode
        # Equal keys have equal bytes.
        self._encode = msgspec.msgpack.Encoder(order=None if whole else "deterministic").encode
        self._moment: Callable[[int], Any] = as_iso if settings.timestamps == "iso" else as_milliseconds

    def decode(self, value: Any) -> Any:
        """The map in the bytes, or the value of a key. Raises ExtractError."""
        if value.__class__ is not bytes:
            refuse(value, "MessagePack")
        try:
            document = self._decode(value)
            if not self._whole:
                return document if document.__class__ in _PLAIN else self._json(document)
            for key, part in document.items():
                if part.__class__ not in _PLAIN:
                    document[key] = self._json(part)
        except msgspec.ValidationError as error:
            raise ExtractError(_reason(error)) from None
        except msgspec.DecodeError as error:
            # It says what is wrong and at which byte, and quotes nothing.
            raise ExtractError(f"not valid MessagePack: {error}") from None
        except UnicodeDecodeError:
            raise ExtractError("not valid MessagePack: a text in it is not UTF-8") from None
        except RecursionError:
            raise ExtractError("not MessagePack that can be read: it is nested too deeply") from None
        return document

    def encode(self, document: Any) -> bytes:
        """The document as a map. Raises LoadError."""
        try:
            return self._encode(document)
        except UnicodeEncodeError:
            raise LoadError("the document cannot be written as MessagePack: a text in it has no UTF-8 form") from None
        except RecursionError:
            raise LoadError("the document cannot be written as MessagePack: it is nested too deeply") from None
        except (TypeError, ValueError, OverflowError) as error:
            # msgspec names the type, or the range of numbers, not the value.
            raise LoadError(f"the document cannot be written as MessagePack: {error}") from None

    def _json(self, value: Any) -> Any:
        """The value as JSON has it; maps and lists are changed in place."""
        of = value.__class__
        if of is dict:
            for key, part in value.items():
                if key.__class__ is not str:
                    raise ExtractError("a map within the record has a key that is no text")
                if part.__class__ not in _PLAIN:
                    value[key] = self._json(part)
        elif of is list:
            for index, part in enumerate(value):
                if part.__class__ not in _PLAIN:
                    value[index] = self._json(part)
        elif of is bytes:
            return b64encode(value).decode()
        elif of is datetime:
            return self._moment(microseconds(value))
        else:
            return {"type": value.code, "data": b64encode(value.data).decode()}
        return value


def _reason(error: msgspec.ValidationError) -> str:
    """What is wrong with bytes that are MessagePack, but no record."""
    told = str(error)
    if "timestamp" in told:
        return "not valid MessagePack: a timestamp in it is out of range"
    if "`key`" in told:
        return "a record must be a MessagePack map with texts as keys, this one has another key"
    return "a record must be a MessagePack map"


def codec(settings: MsgpackSettings, context: CodecContext) -> Codec:
    """The codec that the settings ask for."""
    return MsgpackCodec(settings, whole=context.whole)

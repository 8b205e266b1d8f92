"""The codec of the format protobuf: bare messages, all of one type."""

from __future__ import annotations

from typing import Any

from streamd.codecs.codec import Codec, CodecContext, Decode, Document
from streamd.codecs.protobuf.reading import reader
from streamd.codecs.protobuf.schema import message_class
from streamd.codecs.protobuf.settings import MessageSettings, ProtobufSettings
from streamd.codecs.protobuf.writing import Writing
from streamd.codecs.undecodable import refuse
from streamd.errors import ConfigError, ExtractError


def codec(settings: MessageSettings, context: CodecContext) -> Codec:
    """The codec that the settings ask for. Raises ConfigError."""
    if isinstance(settings, ProtobufSettings) and settings.registry:
        from streamd.codecs.protobuf.registered import RegisteredProtobufCodec

        return RegisteredProtobufCodec(settings, context)
    return ProtobufCodec(settings, message_class(settings, context.base_dir))


class ProtobufCodec(Codec):
    """Messages without anything around them."""

    binary = True

    def __init__(self, settings: MessageSettings, message: Any) -> None:
        """`message`: the class of the messages. Raises ConfigError."""
        self.name: str = message.DESCRIPTOR.full_name
        self.decode = decoder(message, settings)
        self._writing = Writing(message, ignores=settings.on_schema_change == "ignore")

    def encode(self, document: Any) -> bytes:
        """The bytes of a message. Raises LoadError."""
        return self._writing.encode(document)

    def passes(self, read: Codec) -> bool:
        """Whether what is read are messages of the same type; two with one name are of one schema."""
        return isinstance(read, ProtobufCodec) and read.name == self.name

    def left_out(self) -> int:
        """Fields that the message lacks."""
        return self._writing.taken()


def decoder(message: Any, settings: MessageSettings) -> Decode:
    """What makes the document of the bytes of a message. Raises ConfigError; what it gives raises ExtractError."""
    from google.protobuf.message import DecodeError

    descriptor = message.DESCRIPTOR
    name = descriptor.full_name
    if name.startswith("google.protobuf."):
        raise ConfigError(f"message: a record is a message with fields of its own, not a {name}")
    parse, required, read = message.FromString, _has_required(descriptor, set()), reader(descriptor, settings)

    def decode(value: Any) -> Document:
        if value.__class__ is not bytes:
            refuse(value, "Protobuf")
        try:
            made = parse(value)
            if required and not made.IsInitialized():
                raise ExtractError(f"not a message {name}: a required field is missing")
            return read(made)
        except DecodeError as error:
            told = "a text in it is not UTF-8" if "UTF-8" in str(error) else "its bytes make no message"
            raise ExtractError(f"not a message {name}: {told}") from None
        except (ValueError, TypeError, OverflowError, KeyError, RecursionError) as error:
            # Of types of Google's own: a Timestamp in the year 20000, an Any of an unknown type.
            raise ExtractError(f"a message {name} that has no JSON form ({type(error).__name__})") from None

    return decode


def _has_required(descriptor: Any, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    return any(
        field.is_required or (field.message_type is not None and _has_required(field.message_type, seen))
        for field in descriptor.fields
    )

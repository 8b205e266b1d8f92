"""The codec of the format avro: bare values, or values behind the id of their schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamd.codecs.avro.evolution import untold
from streamd.codecs.avro.reading import MismatchError, Read, reader
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.settings import AvroFileSettings, AvroSettings
from streamd.codecs.avro.values import UnfitError
from streamd.codecs.avro.writing import Writing
from streamd.codecs.codec import Codec, CodecContext
from streamd.codecs.undecodable import refuse
from streamd.errors import ConfigError, LoadError


def codec(settings: AvroSettings | AvroFileSettings, context: CodecContext) -> Codec:
    """The codec that the settings ask for. Raises ConfigError."""
    own = own_schema(settings, context)
    if not settings.registry:
        if own is None:
            raise ConfigError("format avro: expected a schema to write by: `schema` or `schema_file`")
        return AvroCodec(settings, own, read_schema(settings.writer_schema_file, context), records=context.whole)
    assert isinstance(settings, AvroSettings)
    from streamd.codecs.avro.registered import RegisteredAvroCodec

    return RegisteredAvroCodec(settings, context, own)


def own_schema(settings: AvroSettings | AvroFileSettings, context: CodecContext) -> Schema | None:
    """The schema that the settings give; None when they give none. Raises ConfigError."""
    if settings.schema_ is not None:
        return Schema(settings.schema_)
    return read_schema(settings.schema_file, context)


def read_schema(file: str | None, context: CodecContext) -> Schema | None:
    """The schema of a file; None without a file. Raises ConfigError."""
    if file is None:
        return None
    path = context.base_dir / Path(file).expanduser()
    try:
        return Schema(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the schema {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read the schema {path}: it is not UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


class AvroCodec(Codec):
    """Values without anything around them, all of one schema."""

    binary = gives_nan = True

    def __init__(
        self, settings: AvroSettings | AvroFileSettings, schema: Schema, written: Schema | None, *, records: bool = True
    ) -> None:
        """`written`: what sources' records were written with, where it is not `schema`. Raises ConfigError."""
        self._schema, self._written = schema, written or schema
        try:
            self._read: Read = reader(self._written, schema, settings.forms, records=records)
        except MismatchError as error:
            raise ConfigError(f"what was written with the writer's schema cannot be read: {error}") from None
        self._writing = writing(schema, settings)

    def decode(self, value: Any) -> Any:
        """The document of a value. Raises ExtractError."""
        if value.__class__ is not bytes:
            refuse(value, "Avro")
        return self._read(value, 0)

    def encode(self, document: Any) -> bytes:
        """A value of the schema. Raises LoadError."""
        try:
            return self._writing.encode(document)
        except UnfitError as error:
            raise unfit(error) from None

    def passes(self, read: Codec) -> bool:
        """Whether what is read was written with this very schema."""
        return isinstance(read, AvroCodec) and read._written.data == read._schema.data == self._schema.data

    def left_out(self) -> int:
        """Fields that the schema lacks."""
        return self._writing.taken()


def writing(schema: Schema, settings: AvroSettings | AvroFileSettings) -> Writing:
    """What writes documents of a schema, with what the settings say of fields that it lacks. Raises ConfigError."""
    ignores = {"ignore": lambda value: True, "evolve": untold, "fail": lambda value: False}
    try:
        return Writing(schema, settings.forms, ignores[settings.on_schema_change])
    except MismatchError as error:
        raise ConfigError(f"not a valid Avro schema: {error}") from None


def unfit(error: UnfitError) -> LoadError:
    """What is wrong with a document, without what it holds."""
    where = f"field `{'.'.join(error.path)}`: " if error.path else ""
    return LoadError(f"the document does not fit the Avro schema: {where}{error.reason}")

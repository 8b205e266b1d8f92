"""Protobuf behind the id of its schema, and the numbers of its message there."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from streamd.codecs.codec import CodecContext, Decode
from streamd.codecs.protobuf.codec import decoder
from streamd.codecs.protobuf.schema import compiled, compiler, files_of, message_class, pool_of, proto_file
from streamd.codecs.protobuf.settings import ProtobufSettings
from streamd.codecs.protobuf.writing import Writing
from streamd.codecs.registered import Import, OwnSchema, Read, RegisteredCodec
from streamd.codecs.schema_registry import RegisteredSchema
from streamd.codecs.varint import read_varint, varint
from streamd.errors import ConfigError, ExtractError

log = structlog.get_logger(__name__)

# Compilers bring them, and registries know them: they are registered nowhere.
_WELL_KNOWN = "google/protobuf/"
# A message is in so many others at most.
_DEEPEST = 100


class RegisteredProtobufCodec(RegisteredCodec):
    """Behind the id comes which message of the schema's file a record is: the number of one at the top, and of each
    that is within, as Confluent's serializers write them.
    """

    kind, title, setting = "PROTOBUF", "Protobuf", "`proto` and `message`"

    def __init__(self, settings: ProtobufSettings, context: CodecContext) -> None:
        """Raises ConfigError, also where schemas have to be compiled and nothing is there that could."""
        if context.kind == "sink" and settings.descriptor is not None:
            raise ConfigError(
                "format protobuf: a registry keeps .proto text, which a descriptor set does not have; give the sink "
                "`proto` in place of `descriptor`"
            )
        own = settings.descriptor is not None or settings.proto is not None
        self._message: Any = message_class(settings, context.base_dir) if own else None
        if self._message is None and compiler() is None:
            raise ConfigError(
                "format protobuf: schemas of the registry have to be compiled, and there is no `protoc`: install it, "
                "or streamd[protoc], or give a source `descriptor` and `message`"
            )
        schema = own_schema(self._message, settings, context.base_dir) if settings.proto is not None else None
        super().__init__(settings, context, schema)
        self._settings = settings
        self._writing = Writing(self._message, ignores=self._ignores) if own else None
        if self._message is not None:
            decoder(self._message, settings)
            self._start += _written_numbers(self._message.DESCRIPTOR)

    @property
    def _ignores(self) -> bool:
        return self._settings.on_schema_change == "ignore"

    @property
    def writable(self) -> bool:
        """Whether there is a message to write by: a source may have none."""
        return self._writing is not None

    async def reader(self, found: RegisteredSchema) -> Read:
        """By the writer's schema; where `descriptor` or `proto` is given, documents are of that message."""
        file = await asyncio.to_thread(_file, found)
        if file is None:
            log.warning(
                "A schema of the registry is not compiled: there is no protoc, nor streamd[protoc]. Records are read "
                "as the configured message, whatever they say to be",
                component=self._context.component,
                schema=found.id,
            )
        return _reading(file, self._settings, self._message)

    def own_reader(self) -> Read:
        """By the message that is written."""
        return _reading(self._message.DESCRIPTOR.file, self._settings, self._message)

    async def take(self, found: RegisteredSchema) -> None:
        """Write messages of it: the one of the settings, else the first."""
        if self._own is None:
            from google.protobuf import message_factory

            file = await asyncio.to_thread(_file, found)
            assert file is not None
            chosen = _named(file, self._settings.message)
            self._message = message_factory.GetMessageClass(chosen)
            decoder(self._message, self._settings)
        self._start += _written_numbers(self._message.DESCRIPTOR)
        self._writing = Writing(self._message, ignores=self._ignores)

    def encode(self, document: Any) -> bytes:
        """A message behind the id of its schema and its numbers. Raises LoadError."""
        assert self._writing is not None
        return self._start + self._writing.encode(document)

    def left_out(self) -> int:
        """Fields that the message lacks."""
        return self._writing.taken() if self._writing is not None else 0


def own_schema(message: Any, settings: ProtobufSettings, base_dir: Path) -> OwnSchema:
    """The text of the message's .proto file and of those that it imports, to be registered. Raises ConfigError."""
    _, folders = proto_file(settings, base_dir)
    imports: dict[str, Import] = {}

    def text(name: str) -> str:
        for folder in folders:
            try:
                return (folder / name).read_text("utf-8")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read {folder / name}, which is to be registered: {error}") from None
        raise ConfigError(f"cannot find {name}, which is to be registered, in {', '.join(map(str, folders))}")

    def named(file: Any) -> tuple[str, ...]:
        direct = [one for one in file.dependencies if not one.name.startswith(_WELL_KNOWN)]
        for one in direct:
            if one.name not in imports:
                further = named(one)
                imports[one.name] = Import(one.name, text(one.name), further)
        return tuple(one.name for one in direct)

    file = message.DESCRIPTOR.file
    direct = named(file)
    return OwnSchema(text(file.name), message.DESCRIPTOR.full_name, tuple(imports.values()), direct)


def _file(found: RegisteredSchema) -> Any:
    """The .proto file of a registered schema; None when it has to be compiled and cannot. Raises ConfigError.

    Some registries keep files as descriptors in base64, where that is how they were registered.
    """
    texts = {reference.name: reference.schema for reference in found.references}
    root = next(name for name in ("schema.proto", "schema-of-record.proto") if name not in texts)
    texts[root] = found.schema
    files = _descriptors(texts)
    if files is None:
        command = compiler()
        if command is None:
            return None
        with TemporaryDirectory() as folder:
            for name, text in texts.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or not path.parts:
                    raise ConfigError("it imports a file by a name that is no path below a folder")
                there = Path(folder) / path
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_text(text, "utf-8")
            files = files_of(compiled(Path(folder) / root, [Path(folder)]), Path(root))
    return pool_of(files, "it").FindFileByName(root)


def _descriptors(texts: Mapping[str, str]) -> dict[str, Any] | None:
    """{name: the file} of files that are descriptors in base64; None when one of them is text."""
    from google.protobuf import descriptor_pb2
    from google.protobuf.message import DecodeError

    files = {}
    for name, text in texts.items():
        try:
            files[name] = descriptor_pb2.FileDescriptorProto.FromString(b64decode(text, validate=True))
        except (ValueError, DecodeError):
            return None
        files[name].name = name
    return files


def _named(file: Any, name: str | None) -> Any:
    """A message of a file, by its full name; the first without one. Raises ConfigError."""
    try:
        return (
            next(iter(file.message_types_by_name.values())) if name is None else file.pool.FindMessageTypeByName(name)
        )
    except (KeyError, StopIteration):
        raise ConfigError(f"the subject's latest schema has no message {name or ''}".rstrip()) from None


def _reading(file: Any, settings: ProtobufSettings, own: Any) -> Read:
    """How to read messages of a file. `own`: the class that they are read as, whatever else is in the file."""
    decoders: dict[tuple[int, ...], Decode] = {}

    def read(data: bytes, start: int) -> Any:
        numbers, at = _numbers(data, start)
        decode = decoders.get(numbers)
        if decode is None:
            decode = decoders[numbers] = _decoder(file, numbers, settings, own)
        return decode(data[at:])

    return read


def _decoder(file: Any, numbers: tuple[int, ...], settings: ProtobufSettings, own: Any) -> Decode:
    from google.protobuf import message_factory

    if file is not None:
        written = _at(file, numbers)
        wanted = settings.message
        if wanted is not None and written.full_name != wanted:
            raise ExtractError(f"a message {written.full_name} was written, expected {wanted}")
        own = message_factory.GetMessageClass(written) if own is None else own
    try:
        return decoder(own, settings)
    except ConfigError as error:
        raise ExtractError(str(error)) from None


def _at(file: Any, numbers: tuple[int, ...]) -> Any:
    """The message of those numbers. Raises ExtractError."""
    there, found = _messages(file.message_types_by_name), None
    for number in numbers:
        if number >= len(there):
            raise ExtractError("not Protobuf of its schema: the numbers in front name no message of it")
        found = there[number]
        there = _messages(found.nested_types_by_name)
    return found


def _messages(types: Mapping[str, Any]) -> list[Any]:
    """As they are counted: without those that stand for the entries of a map, as Confluent's Java serializer does."""
    return [one for one in types.values() if not one.GetOptions().map_entry]


def _numbers(data: bytes, start: int) -> tuple[tuple[int, ...], int]:
    """The numbers of the message, and where it begins. Raises ExtractError."""
    try:
        count, at = _zigzag(data, start)
        if not count:
            return (0,), at
        if not 0 < count <= _DEEPEST:
            raise IndexError
        numbers = []
        for _ in range(count):
            number, at = _zigzag(data, at)
            if number < 0:
                raise IndexError
            numbers.append(number)
    except (IndexError, ValueError):
        raise ExtractError("not Protobuf behind the id of its schema: expected the numbers of its message") from None
    return tuple(numbers), at


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends. Raises as `read_varint`."""
    value, at = read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _written_numbers(message: Any) -> bytes:
    """The numbers of a message as they are written; a lone zero for the first of its file."""
    numbers: list[int] = []
    while message is not None:
        within = message.containing_type
        types = message.file.message_types_by_name if within is None else within.nested_types_by_name
        numbers.insert(0, [one.full_name for one in _messages(types)].index(message.full_name))
        message = within
    if numbers == [0]:
        return b"\x00"
    return b"".join(varint(number << 1) for number in (len(numbers), *numbers))

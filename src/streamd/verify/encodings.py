"""Made-up records of binary formats: documents that fit what they are written by, and their bytes."""

from __future__ import annotations

import random
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Any, Protocol

import orjson

from streamd.codecs import TEXT, CodecContext
from streamd.codecs.avro.codec import own_schema, read_schema, unfit, writing
from streamd.codecs.avro.schema import Schema, branch_name, kind, logical
from streamd.codecs.avro.settings import AvroSettings
from streamd.codecs.avro.values import UnfitError
from streamd.codecs.beside import key_format
from streamd.codecs.format import format_of
from streamd.codecs.schema_registry import SchemaRegistry
from streamd.config.pipeline import ComponentConfig
from streamd.errors import ConfigError, FatalError, LoadError, UnavailableError
from streamd.verify.shapes import A_TIME, Shape, document, number_of, text_of

_DEEP = 5  # levels below which lists and maps are empty
_INT, _LONG = 2**31 - 1, 2**63 - 1
_WORDS = ("json", "csv", "text", "bytes")


class Encoding(Protocol):
    """How made-up records of one source become bytes."""

    def document(self, shape: Shape, chance: random.Random) -> dict[str, Any]:
        """A document of the shape that can be written."""

    def encode(self, document: dict[str, Any]) -> bytes:
        """Its bytes. Raises LoadError."""


def takes_lines(source: ComponentConfig) -> bool:
    """Whether a line of a file can be a record of it as it is."""
    form = format_of(source.settings)
    return str(form) in _WORDS and not getattr(form.settings, "registry", False)


async def encoding_of(source: ComponentConfig, folder: Path, registry: SchemaRegistry | None) -> Encoding | None:
    """Of a source's format; None for JSON and lines, which need none. Raises ConfigError, FatalError."""
    form, keys = format_of(source.settings), key_format(source.settings)
    if keys != TEXT:
        raise ConfigError(
            f"{source.place}: the keys of source `{source.id}` have the format {keys}, in which none are made up; "
            "--sample N takes records of its own"
        )
    if form in _WORDS:
        return None
    topic = str(getattr(source.settings, "topic", source.id))
    context = CodecContext(source.id, "sink", topic, base_dir=folder)
    if str(form) == "msgpack":
        return _Plain(form.codec(context).encode)
    if not isinstance(form.settings, AvroSettings):
        further = " with settings" if str(form) in _WORDS else ""
        raise ConfigError(
            f"{source.place}: source `{source.id}` has the format {form}{further}, of which no records are made up; "
            "--sample N takes records of its own"
        )
    settings = form.settings
    if not settings.registry:
        schema = read_schema(settings.writer_schema_file, context) or own_schema(settings, context)
        assert schema is not None
        return AvroEncoding(schema, settings)
    if registry is None:
        raise ConfigError(f"{source.place}: source `{source.id}` needs `schema_registry:`")
    subject = f"{topic}-value"
    try:
        found = await registry.latest(subject)
    except UnavailableError as error:
        raise FatalError(f"{error}: by its schema the records of source `{source.id}` are made up") from None
    if found is None or found.type != "AVRO":
        raise ConfigError(
            f"{source.place}: records of source `{source.id}` cannot be made up: subject {subject} of the schema "
            "registry has no Avro schema; --sample N takes records of its own"
        )
    references = [reference.schema for reference in found.references]
    return AvroEncoding(Schema(found.schema, references), settings, b"\x00" + found.id.to_bytes(4))


class _Plain:
    """A format without a schema."""

    def __init__(self, encode: Any) -> None:
        self.encode = encode

    def document(self, shape: Shape, chance: random.Random) -> dict[str, Any]:
        """As its expressions want it."""
        return document(shape, chance)


class AvroEncoding:
    """Values of a schema: fields that the pipeline works with as its shape has them, as far as they fit their type."""

    def __init__(self, schema: Schema, settings: AvroSettings, start: bytes = b"") -> None:
        """`start`: what stands before each value."""
        if kind(schema.type) != "record":
            raise ConfigError(f"the Avro schema {schema.name} is of no record, which a document is")
        self._schema, self._start = schema, start
        self._writing, self._tagged = writing(schema, settings), settings.unions == "tagged"

    def document(self, shape: Shape, chance: random.Random) -> dict[str, Any]:
        """See `Encoding.document`."""
        made: dict[str, Any] = self._value(self._schema.type, "", shape, chance, 0)
        return made

    def encode(self, document: dict[str, Any]) -> bytes:
        """See `Encoding.encode`."""
        try:
            return self._writing.encode(document, self._start)
        except UnfitError as error:
            raise unfit(error) from None

    def _value(self, node: Any, name: str, shape: Shape, chance: random.Random, depth: int) -> Any:
        node = self._schema.found(node)
        match kind(node):
            case "union":
                return self._of_union(node, name, shape, chance, depth)
            case "record" | "error":
                fields = ((one["name"], one["type"]) for one in node["fields"])
                return {n: self._value(t, n, shape.fields.get(n, _UNKNOWN), chance, depth + 1) for n, t in fields}
            case "array":
                count = chance.randrange(4) if depth < _DEEP else 0
                inner = shape.element or _UNKNOWN
                return [self._value(node["items"], name, inner, chance, depth + 1) for _ in range(count)]
            case "map":
                names = {*shape.fields, f"{name}-{chance.randrange(5)}"} if depth < _DEEP else ()
                return {
                    n: self._value(node["values"], n, shape.fields.get(n, _UNKNOWN), chance, depth + 1)
                    for n in sorted(names)
                }
            case "enum":
                known = [one for one in shape.constants if one in node["symbols"]]
                return chance.choice(known if known and chance.random() < 0.7 else node["symbols"])
        return _primitive(node, name, shape, chance)

    def _of_union(self, node: list[Any], name: str, shape: Shape, chance: random.Random, depth: int) -> Any:
        """Null where the pipeline does without, or where it would never end."""
        branches = [branch for branch in node if branch != "null"]
        rather_null = depth > _DEEP or (shape.optional and chance.random() < 0.2)
        if not branches or ("null" in node and rather_null):
            return None
        branch = chance.choice(branches)
        made = self._value(branch, name, shape, chance, depth)
        return {branch_name(self._schema, branch): made} if self._tagged else made


_UNKNOWN = Shape()


def _primitive(node: Any, name: str, shape: Shape, chance: random.Random) -> Any:
    match logical(node):
        case "date":
            return 20_000 + chance.randrange(600)
        case "time-millis" | "time-micros":
            return f"{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}.000"
        case "decimal":
            whole = chance.randrange(10 ** min(node["precision"], 6))
            scale = node.get("scale", 0)
            return f"{whole // 10**scale}.{whole % 10**scale:0{scale}}" if scale else str(whole)
        case "duration":
            return {"months": chance.randrange(9), "days": chance.randrange(9), "milliseconds": chance.randrange(9)}
        case "uuid":
            return str(uuid.UUID(int=chance.getrandbits(128), version=4))
        case "":
            return _plain(node, name, shape, chance)
    return A_TIME + chance.randrange(86_400_000)


def _plain(node: Any, name: str, shape: Shape, chance: random.Random) -> Any:
    match kind(node):
        case "null":
            return None
        case "boolean":
            return chance.random() < 0.5
        case "int" | "long" as size:
            most = _INT if size == "int" else _LONG
            number = A_TIME + chance.randrange(86_400_000) if shape.guess == "time" else number_of(name, shape, chance)
            return max(-most, min(most, round(number)))
        case "float" | "double":
            return float(number_of(name, shape, chance))
        case "string":
            return str(text_of(name, shape, chance))
        case "fixed":
            return b64encode(chance.randbytes(node["size"])).decode()
    return b64encode(chance.randbytes(chance.randrange(9))).decode()


def encoded_line(line: bytes, encoding: Encoding, where: str) -> bytes:
    """A document in JSON as a record. Raises ConfigError."""
    try:
        return encoding.encode(orjson.loads(line))
    except orjson.JSONDecodeError:
        raise ConfigError(f"{where} is no JSON: of a source in a binary format each line is a document") from None
    except LoadError as error:
        raise ConfigError(f"{where}: {error}") from None

"""JSON behind the id of its JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson

from streamd.codecs.codec import CodecContext, Decode, Encode
from streamd.codecs.json.codec import decode, decode_any, encode, encode_any
from streamd.codecs.json.settings import JsonSettings
from streamd.codecs.json_schema import JsonSchema
from streamd.codecs.registered import OwnSchema, Read, RegisteredCodec
from streamd.codecs.schema_registry import Reference, RegisteredSchema
from streamd.errors import ConfigError, ExtractError, LoadError

# Where names of references begin that are no whole URIs.
_BASE = "file:///"


class RegisteredJsonCodec(RegisteredCodec):
    """A sink writes what fits its schema; a source checks with `validate: true`."""

    kind, title, setting = "JSON", "JSON", "`schema` or `schema_file`"

    def __init__(self, settings: JsonSettings, context: CodecContext) -> None:
        """Raises ConfigError."""
        text = _text(settings, context.base_dir)
        self._schema = None if text is None else _compiled(text, (), "the schema")
        super().__init__(settings, context, None if text is None else OwnSchema(text, _title(text)))
        self._validates = settings.validate_
        self._read: Decode = decode if context.whole else decode_any
        self._written: Encode = encode if context.whole else encode_any
        if context.kind == "sink" and text is not None and not self._named:
            raise ConfigError("subject_strategy: the JSON Schema has no `title`, which is its name")

    @property
    def _named(self) -> bool:
        settings = self._of_registry
        return settings.subject is not None or settings.subject_strategy == "topic_name" or bool(self._own_name)

    @property
    def _own_name(self) -> str:
        return "" if self._own is None else self._own.name

    @property
    def writable(self) -> bool:
        """Whether there is a schema to write by: a source may have none."""
        return self._schema is not None

    async def reader(self, found: RegisteredSchema) -> Read:
        """What takes off the header, and checks where that is asked for."""
        if not self._validates:
            return self.own_reader()
        if self._schema is not None:
            return _checking(self._schema, "the source's schema", self._read)
        return _checking(_compiled(found.schema, found.references, "it"), f"schema {found.id}", self._read)

    def own_reader(self) -> Read:
        """What was written fits."""
        read = self._read
        return lambda data, start: read(data[start:])

    async def take(self, found: RegisteredSchema) -> None:
        """Check by it what is written."""
        self._schema = _compiled(found.schema, found.references, f"the schema {found.id}")

    def encode(self, document: Any) -> bytes:
        """Compact JSON behind the id of the sink's schema. Raises LoadError."""
        assert self._schema is not None
        data = self._written(document)
        try:
            fits = self._schema.fits(document)
        except (ValueError, TypeError):
            # What orjson writes and a JSON Schema knows nothing of: a date of a `python` stage.
            raise LoadError("the document does not fit the JSON Schema: it holds values that are not JSON's") from None
        if not fits:
            raise LoadError(f"the document does not fit the JSON Schema: {self._schema.wrong(document)}")
        return self._start + data


def _checking(schema: JsonSchema, name: str, decoded: Decode) -> Read:
    fits, wrong = schema.fits, schema.wrong

    def read(data: bytes, start: int) -> Any:
        document = decoded(data[start:])
        if not fits(document):
            raise ExtractError(f"the record does not fit {name}: {wrong(document)}")
        return document

    return read


def _text(settings: JsonSettings, base_dir: Path) -> str | None:
    if settings.schema_file is None:
        text: str | None = settings.schema_
        return text
    path = base_dir / Path(settings.schema_file).expanduser()
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the schema {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read the schema {path}: it is not UTF-8 text") from None


def _title(text: str) -> str:
    parsed = orjson.loads(text)
    return str(parsed.get("title", "")) if isinstance(parsed, dict) else ""


def _compiled(text: str, references: Sequence[Reference], name: str) -> JsonSchema:
    """Raises ConfigError."""
    try:
        schema = orjson.loads(text)
        named = {reference.name: orjson.loads(reference.schema) for reference in references}
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{name} is no JSON Schema: not JSON: {error.msg}") from None
    own = [one["$id"] for one in (schema, *named.values()) if isinstance(one, dict) and "$id" in one]
    bases = [_BASE, *filter(lambda base: isinstance(base, str), own)]

    def retrieved(uri: str) -> Any:
        for other, found in named.items():
            if any(urljoin(base, other) == uri for base in bases):
                return found
        raise ValueError(f"{uri} is none of the schemas that it refers to in the registry")

    return JsonSchema(schema, name, _BASE, retrieved)

"""Schemas that documents must fit, as settings name them: here, or in files. `codecs/json_schema.py` compiles them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from streamd.codecs.json_schema import JsonSchema, schema_library
from streamd.errors import ConfigError, FatalError, NotFoundError
from streamd.quality.avro import json_schema_of
from streamd.quality.rules import Schema


class DocumentSchema(JsonSchema):
    """`fits(document)` says whether a document fits. Made once for a pipeline in each process."""

    def __init__(self, settings: Schema, folder: Path, schema: Any = None) -> None:
        """`schema`: what to check in its place, as `schema_of` gives it and somebody changed it.

        Raises ConfigError, FatalError, NotFoundError for a schema that is none.
        """
        path = _path(settings, folder)
        self.name = _name(path)
        schema = schema_of(settings, folder) if schema is None else schema
        base = (folder / "schema").resolve().as_uri() if path is None else path.resolve().as_uri()
        super().__init__(schema, self.name, base, _retrieved, formats=settings.formats)


def schema_of(settings: Schema, folder: Path) -> Any:
    """The JSON Schema that settings mean, read. Raises ConfigError, FatalError, NotFoundError."""
    path = _path(settings, folder)
    written = settings.json_schema if settings.json_schema is not None else settings.avro
    schema = written if path is None else _parsed(path)
    return schema if settings.avro is None else json_schema_of(schema, _name(path), schema_library("fastavro"))


def _retrieved(uri: str) -> Any:
    """Another schema that `$ref` names: a file."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError(f"{uri} is no local file")
    return _parsed(Path(unquote(parts.path)))


def _path(settings: Schema, folder: Path) -> Path | None:
    written = settings.json_schema if settings.json_schema is not None else settings.avro
    return None if isinstance(written, dict) else folder / str(written)


def _name(path: Path | None) -> str:
    return "the schema" if path is None else f"the schema {path}"


def _parsed(path: Path) -> Any:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"The schema {path} does not exist.") from None
    except OSError as error:
        raise FatalError(f"The schema {path} cannot be read: {error.strerror}.") from None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None

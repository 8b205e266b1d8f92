"""Schemas that documents must fit: loaded, checked themselves, compiled by `jsonschema_rs`.

What is said of a document that does not fit holds nothing of it: the places in it with the names that stand in the
schema alone, and the keywords of the schema.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from streamd.errors import ConfigError, FatalError, NotFoundError
from streamd.quality.avro import json_schema_of
from streamd.quality.rules import Schema

# So much of what is wrong with a document is looked for, and so much is told.
LOOKED_AT, TOLD = 20, 3


class DocumentSchema:
    """`fits(document)` says whether a document fits. Made once for a pipeline in each process."""

    fits: Callable[[Any], bool]

    def __init__(self, settings: Schema, folder: Path, schema: Any = None) -> None:
        """`schema`: what to check in its place, as `schema_of` gives it and somebody changed it.

        Raises ConfigError, FatalError, NotFoundError for a schema that is none.
        """
        library = _library("jsonschema_rs")
        path = _path(settings, folder)
        self.name = _name(path)
        schema = schema_of(settings, folder) if schema is None else schema
        self._names = frozenset(_texts(schema))
        base = (folder / "schema").resolve().as_uri() if path is None else path.resolve().as_uri()
        try:
            validator = library.validator_for(
                schema, validate_formats=settings.formats, retriever=self._retrieved, base_uri=base
            )
        except (ValueError, library.ReferencingError) as error:
            raise ConfigError(f"{self.name} is no JSON Schema{_where(error)}") from None
        self._errors, self._fits = validator.iter_errors, validator.is_valid
        # A document that JSON has no words for (bytes, out of another format) is an error of the library's.
        self.fits = self._fits

    def _retrieved(self, uri: str) -> Any:
        """Another schema that `$ref` names: a file."""
        parts = urlsplit(uri)
        if parts.scheme != "file":
            raise ValueError(f"{uri} is no local file")
        found = _parsed(Path(unquote(parts.path)))
        self._names |= frozenset(_texts(found))
        return found

    def wrong(self, document: Any) -> str:
        """What does not fit, as `/items/0: required`; nothing of the document's contents."""
        errors = islice(self._errors(document), LOOKED_AT)
        found = sorted({f"{self._place(error.instance_path)}: {error.kind.name}" for error in errors})
        return ", ".join([*found[:TOLD], *(["…"] if len(found) > TOLD else [])])

    def _place(self, path: list[str | int]) -> str:
        """A JSON pointer, with `*` for a name that only the document has."""
        return "".join(f"/{step if isinstance(step, int) or step in self._names else '*'}" for step in path) or "/"


def schema_of(settings: Schema, folder: Path) -> Any:
    """The JSON Schema that settings mean, read. Raises ConfigError, FatalError, NotFoundError."""
    path = _path(settings, folder)
    written = settings.json_schema if settings.json_schema is not None else settings.avro
    schema = written if path is None else _parsed(path)
    return schema if settings.avro is None else json_schema_of(schema, _name(path), _library("fastavro"))


def _path(settings: Schema, folder: Path) -> Path | None:
    written = settings.json_schema if settings.json_schema is not None else settings.avro
    return None if isinstance(written, dict) else folder / str(written)


def _name(path: Path | None) -> str:
    return "the schema" if path is None else f"the schema {path}"


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"a schema needs the Python package `{name.replace('_', '-')}`, which is not installed; install "
            "streamd[quality]"
        ) from None


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


def _texts(schema: Any) -> set[str]:
    """Every name and text in a schema."""
    if isinstance(schema, dict):
        return set(schema).union(*map(_texts, schema.values()))
    if isinstance(schema, list):
        return set().union(*map(_texts, schema))
    return {schema} if isinstance(schema, str) else set()


def _where(error: Exception) -> str:
    """Where the schema is wrong, and why: its own text is no secret."""
    path = "".join(f"/{step}" for step in getattr(error, "instance_path", ()))
    message = getattr(error, "message", str(error)).split("\n")[0]
    return f", at {path}: {message}" if path else f": {message}"

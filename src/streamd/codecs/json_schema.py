"""JSON Schemas that documents must fit, compiled by `jsonschema_rs`.

What is said of a document that does not fit holds nothing of it: the places in it with the names that stand in the
schema alone, and the keywords of the schema.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import islice
from typing import Any

from streamd.errors import ConfigError

# So much of what is wrong with a document is looked for, and so much is told.
LOOKED_AT, TOLD = 20, 3


class JsonSchema:
    """`fits(document)` says whether a document fits."""

    fits: Callable[[Any], bool]

    def __init__(
        self, schema: Any, name: str, base: str, retrieved: Callable[[str], Any], *, formats: bool = False
    ) -> None:
        """`retrieved` gives the schema that a `$ref` names by its URI, from `base` on; it raises ValueError for one
        that there is not. `formats`: `format` is checked. Raises ConfigError for a schema that is none.
        """
        library = schema_library("jsonschema_rs")
        self._names = frozenset(_texts(schema))

        def known(uri: str) -> Any:
            found = retrieved(uri)
            self._names |= frozenset(_texts(found))
            return found

        try:
            validator = library.validator_for(schema, validate_formats=formats, retriever=known, base_uri=base)
        except (ValueError, library.ReferencingError) as error:
            raise ConfigError(f"{name} is no JSON Schema{_where(error)}") from None
        self._errors = validator.iter_errors
        # A document that JSON has no words for (bytes, out of another format) is an error of the library's.
        self.fits = validator.is_valid

    def wrong(self, document: Any) -> str:
        """What does not fit, as `/items/0: required`; nothing of the document's contents."""
        errors = islice(self._errors(document), LOOKED_AT)
        found = sorted({f"{self._place(error.instance_path)}: {error.kind.name}" for error in errors})
        return ", ".join([*found[:TOLD], *(["…"] if len(found) > TOLD else [])])

    def _place(self, path: list[str | int]) -> str:
        """A JSON pointer, with `*` for a name that only the document has."""
        return "".join(f"/{step if isinstance(step, int) or step in self._names else '*'}" for step in path) or "/"


def schema_library(name: str) -> Any:
    """A library that schemas need. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"a schema needs the Python package `{name.replace('_', '-')}`, which is not installed; install "
            "streamd[quality]"
        ) from None


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

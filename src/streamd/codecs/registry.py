"""The formats by name. A module is imported when its format is first asked for."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from streamd.codecs.codec import Codec, CodecContext, FormatSpec
from streamd.component.model import Model
from streamd.errors import ConfigError

# Format → module; "ndjson" is JSON, one document a line: cutting lines is the source's part.
_MODULES: Mapping[str, str] = {
    "json": "streamd.codecs.json",
    "ndjson": "streamd.codecs.json",
    "pretty": "streamd.codecs.pretty",
    "csv": "streamd.codecs.csv",
    "text": "streamd.codecs.text",
    "bytes": "streamd.codecs.bytes",
    "avro": "streamd.codecs.avro",
    "msgpack": "streamd.codecs.msgpack",
    "protobuf": "streamd.codecs.protobuf",
}

# What a message of a topic may be.
OF_TOPICS = tuple(name for name in _MODULES if name not in ("ndjson", "pretty"))

# What a key or a header may be.
BESIDE = ("text", "json", "bytes", "avro", "msgpack", "protobuf")


def names() -> tuple[str, ...]:
    """All formats that there are."""
    return tuple(_MODULES)


def spec_of(name: str) -> FormatSpec:
    """What is known of a format. Raises ConfigError for a name that nobody has."""
    module = _MODULES.get(name)
    if module is None:
        raise ConfigError(f"there is no format {name!r}; there are {', '.join(_MODULES)}")
    spec: FormatSpec = importlib.import_module(module).FORMAT
    return spec


def missing_package(spec: FormatSpec) -> str:
    """What to say when a package that a format needs is not installed; empty when all are."""
    for package in spec.required:
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # of the package that it is in
            found = None
        if found is None:
            return (
                f"format `{spec.name}` needs the Python package `{package}`, which is not installed; "
                f"install streamd[{spec.extra}]"
            )
    return ""


def codec(name: str, settings: Model | None = None, context: CodecContext | None = None) -> Codec:
    """A codec of the format. Raises ConfigError for a name that nobody has, and for settings that cannot work here."""
    spec = spec_of(name)
    if missing := missing_package(spec):
        raise ConfigError(missing)
    given: Any = spec.settings() if settings is None else settings
    return spec.factory(given, context or CodecContext())

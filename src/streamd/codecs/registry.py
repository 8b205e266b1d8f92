"""The formats by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamd.errors import ConfigError

Document = dict[str, Any]

# Format → module; "ndjson" is JSON, one document a line: cutting lines is the source's part.
_MODULES: Mapping[str, str] = {
    "json": "streamd.codecs.json",
    "ndjson": "streamd.codecs.json",
    "pretty": "streamd.codecs.pretty",
    "csv": "streamd.codecs.csv",
    "text": "streamd.codecs.text",
    "bytes": "streamd.codecs.bytes",
}


@dataclass(frozen=True, slots=True)
class Codec:
    """A format. `decode`: the bytes of one record → document; raises ExtractError. `encode`: back; raises LoadError.

    Neither error's message holds record contents.
    """

    name: str
    decode: Callable[[Any], Document]
    encode: Callable[[Document], bytes]


def names() -> tuple[str, ...]:
    """All formats that `codec` knows."""
    return tuple(_MODULES)


def codec(name: str) -> Codec:
    """The format of that name, its module imported on first use. Raises ConfigError for a name that nobody has."""
    module_name = _MODULES.get(name)
    if module_name is None:
        raise ConfigError(f"there is no format {name!r}; there are {', '.join(_MODULES)}")
    module = importlib.import_module(module_name)
    return Codec(name, module.decode, module.encode)

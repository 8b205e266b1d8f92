"""The document while a chain is being written: symbolic, built only where someone needs it whole.

A document is a base (the record's JSON, read field by field or parsed whole; or nothing, after `map`) under the fields
that stages have set since, which are local variables of the generated function. So a chain that reads two fields and
sets two others never builds a dict: it decodes two fields, and splices the new ones into the record's own bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum


class Base(Enum):
    """What lies under the fields that stages have set."""

    TYPED = "typed"  # `var` is a msgspec struct of just the fields that the chain reads; `raw` holds the bytes
    DICT = "dict"  # `var` is the parsed document
    NOTHING = "nothing"  # the document is `overlay` alone


@dataclass(frozen=True, slots=True)
class Document:
    """The document at one point of a chain. All names are local variables of the generated function.

    `overlay` maps a field to the variable that holds it; `dropped` are fields of the base that are gone. `raw` is the
    variable with bytes that say the same as the base, in `raw_format`, where there is one; with `raw_or_none` it may
    hold None instead.
    `own`: `var` was parsed from the record here, so that nobody has it but those whom this function gave it.
    """

    base: Base
    var: str = ""
    raw: str | None = None
    raw_or_none: bool = False
    raw_format: str = "json"
    own: bool = False
    overlay: dict[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    @property
    def unchanged(self) -> bool:
        """True while the document says what its base says."""
        return not self.overlay and not self.dropped and self.base is not Base.NOTHING

    def with_field(self, name: str, var: str) -> Document:
        return replace(self, overlay={**self.overlay, name: var}, dropped=self.dropped - {name})

    def without_field(self, name: str) -> Document:
        overlay = {n: v for n, v in self.overlay.items() if n != name}
        dropped = self.dropped if self.base is Base.NOTHING else self.dropped | {name}
        return replace(self, overlay=overlay, dropped=dropped)

    def literal(self) -> str:
        """The overlay as a dict display without its braces."""
        return ", ".join(f"{name!r}: {var}" for name, var in self.overlay.items())


@dataclass(slots=True)
class FieldUse:
    """How the chain uses the fields of the base: decides what the typed decoder decodes.

    `read`: taken as given, a record without them leaves the fast path. `probed`: may be absent (`has`, `get`).
    `usual`: probed, but most records have them. `shadowed`: set by a stage, so that the decoder must tell whether the
    record already has them. `whole`: somebody needs the whole document before any record was filtered out.
    """

    read: dict[str, None] = field(default_factory=dict)
    probed: dict[str, None] = field(default_factory=dict)
    shadowed: dict[str, None] = field(default_factory=dict)
    usual: set[str] = field(default_factory=set)
    whole: bool = False

    def struct_fields(self) -> list[tuple[str, bool]]:
        """(name, required) for each field to decode; required first, as msgspec wants them."""
        optional = self.probed | self.shadowed
        required = [(name, True) for name in self.read if name not in optional]
        return required + [(name, False) for name in optional]


def path_text(path: Sequence[str]) -> str:
    """A field path as the user writes it."""
    return ".".join(path)

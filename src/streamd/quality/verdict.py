"""What becomes of a record, by the checks that it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from streamd.component.stage import Body
from streamd.errors import InvalidRecordError, RecordError
from streamd.quality.checks import Check, CheckSettings, TagHeader, bits, names_of
from streamd.quality.conditions import Conditions
from streamd.record import Headers

ON_ERROR: dict[str, Literal["fail", "dead_letter"]] = {"stop": "fail", "dead_letter": "dead_letter"}


class Verdicts:
    """What each set of broken checks means. Of several actions the strictest is done: stop, then what `on_error` says,
    dead_letter, drop, tag, pass.

    `refused`, `dropped`, `tagged`: the bits of the checks that fail a record, leave it out, or tag it. `own`: the names
    of all checks.
    """

    def __init__(self, conditions: Conditions, error: type[RecordError] = InvalidRecordError) -> None:
        self._conditions, self._error = conditions, error
        self.checks: tuple[Check, ...] = conditions.checks
        self.refused = bits(self.checks, "stop", None, "dead_letter")
        self.dropped = bits(self.checks, "drop")
        self.tagged = bits(self.checks, "tag")
        self.own = tuple(check.name for check in self.checks)
        self._names: dict[int, list[str]] = {}

    def error(self, broken: int, document: Any) -> RecordError:
        """The error of a record, which names all that it breaks. Nothing in it is of the record."""
        names = [*self.names(broken)]
        schema = self._conditions.schema
        if schema is not None and broken & 1:
            names[0] = f"{names[0]} ({schema.wrong(document)})"
        error = self._error(f"the record breaks the rule{'s' if len(names) > 1 else ''} {', '.join(names)}")
        for action in ("stop", None, "dead_letter"):
            if broken & bits(self.checks, action):
                error.action = ON_ERROR[action] if action is not None else None
                break
        return error

    def refuse(self, broken: int, document: Any = None) -> None:
        """Raise the error."""
        raise self.error(broken, document)

    def tag(self, broken: int, document: dict[str, Any], headers: Headers) -> tuple[dict[str, Any], Headers]:
        """The document and the headers with what is broken in them."""
        settings = self._conditions.settings
        if isinstance(settings.tag, TagHeader):
            told = (settings.tag.header, ",".join(self.names(broken)).encode())
            return document, (*headers, told) if broken else headers
        return {**document, settings.tag: tagged(document.get(settings.tag), self.names(broken), self.own)}, headers

    def names(self, broken: int) -> list[str]:
        """The names of what is broken. The list is shared: not to be changed."""
        found = self._names.get(broken)
        if found is None:
            found = self._names[broken] = names_of(self.checks, broken)
        return found


def write_actions(verdicts: Verdicts, broken: str, body: Body, *, schema: bool) -> None:
    """The lines that do with a record what it deserves. `schema`: whether documents are parsed for one anyway."""
    if verdicts.refused:
        document = f", {body.document()}" if schema else ""
        body.line(f"if {broken} & {verdicts.refused}: {body.constant('refuse', verdicts.refuse)}({broken}{document})")
    if verdicts.dropped:
        body.keep_if(f"not {broken} & {verdicts.dropped}")


def tagged(before: Any, names: Sequence[str], own: Sequence[str]) -> list[Any]:
    """The names of broken rules, beside those that another `validate` has told; those of `own` rules are told anew."""
    if before.__class__ is not list:
        return [*names]
    return [*(name for name in before if name not in own), *names]


def write_tag(settings: CheckSettings, broken: str, verdicts: Verdicts, body: Body) -> None:
    """The lines that tell, in the record, what it breaks."""
    if not settings.tags:
        return
    told = body.constant("names_of", verdicts.names)
    if isinstance(settings.tag, TagHeader):
        header = settings.tag.header
        body.add_headers(f"((({header!r}, ','.join({told}({broken})).encode()),) if {broken} else ())")
    else:
        before = body.field_or(settings.tag, "None")
        both = f"{body.constant('tagged', tagged)}({before}, {told}({broken}) if {broken} else (), {verdicts.own!r})"
        body.set_field([settings.tag], both)

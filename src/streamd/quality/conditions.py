"""Rules as conditions in the generated function: the lines that say which of them a record breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any

from streamd.component.context import PipelineContext
from streamd.component.event_time import event_time
from streamd.component.stage import Body
from streamd.component.table import LookupTable, as_text
from streamd.errors import ExtractError, TransformError
from streamd.expr import parse
from streamd.quality.checks import Check, CheckSettings
from streamd.quality.rules import References, Rule
from streamd.quality.schemas import DocumentSchema
from streamd.transport.files.table import FileTable

_PATH = re.compile(r"(?!_)\w+(\.\w+)*")
NUMBERS = frozenset({int, float, Decimal})


class Conditions:
    """The conditions of a `validate`. `prepare` loads what they need; `write` may be called for any number of paths."""

    def __init__(self, settings: CheckSettings, context: PipelineContext) -> None:
        self.settings, self.checks = settings, settings.checks
        self._context = context
        self.schema: DocumentSchema | None = None
        self._tables: dict[str, Callable[[Any], bool]] = {}

    def prepare(self) -> None:
        """Load the schema and the tables. Raises StreamdError."""
        if self.settings.schema_ is not None:
            self.schema = DocumentSchema(self.settings.schema_, self._context.base_dir)
        for check in self.checks:
            if check.rule is not None and check.rule.references is not None:
                self._tables[check.name] = _in_table(check.rule.references, self._context)

    def write(self, body: Body, count: Callable[[Check], str] | None = None) -> str:
        """Write the lines, and give the variable with the bits of what is broken.

        `count` gives the counter of a check, a variable. `unique` is not looked at here.
        """
        broken = body.local("broken", "0")
        for check in self.checks:
            if check.rule is not None and check.rule.unique is not None:
                continue
            condition = self._holds(check, body)
            also = "" if count is None else f"; {count(check)} += 1"
            body.line(f"if not ({condition}): {broken} |= {check.bit}{also}")
        return broken

    def _holds(self, check: Check, body: Body) -> str:
        """Source of whether a check holds, which cannot raise."""
        rule = check.rule
        if rule is None:
            assert self.schema is not None
            # A document of another format may hold what JSON has no words for: the library raises.
            fits = f"{body.constant('fits', self.schema.fits)}({body.document()})"
            return self._guarded(body, "fitting", fits, "False")
        if rule.not_null is not None:
            return " and ".join(f"{_found(body, name)} is not None" for name in rule.not_null)
        if rule.check is not None:
            return self._guarded(body, "holds", body.value(rule.check), "False")
        if rule.freshness is not None:
            return self._fresh(rule, rule.freshness, body)
        value = self._value(rule, body)
        return f"{value} is None or {self._fits(check, rule, value, body)}"

    def _fits(self, check: Check, rule: Rule, value: str, body: Body) -> str:
        if rule.range is not None:
            low, high = (None if bound is None else repr(bound) for bound in rule.range)
            within = f"{low + ' <= ' if low else ''}{value}{' <= ' + high if high else ''}"
            return f"({value}.__class__ in {body.constant('NUMBERS', NUMBERS)} and {within})"
        if rule.pattern is not None:
            search = body.constant("search", rule.pattern.regex.search)
            short = f"len({value}) <= {rule.pattern.longest}"
            return f"({value}.__class__ is str and {short} and {search}({value}) is not None)"
        if rule.in_ is not None:
            values = frozenset(map(_typed, rule.in_))
            if all(isinstance(one, str) for one in rule.in_):
                return f"({value}.__class__ is str and {value} in {body.constant('accepted', values)})"
            return f"{body.constant('accepted', _one_of(values))}({value})"
        return f"{body.constant(f'in_{check.name}', self._tables[check.name])}({value})"

    def _value(self, rule: Rule, body: Body) -> str:
        """A variable with the value of the rule's field, None where it is missing."""
        assert rule.field is not None
        if _PATH.fullmatch(rule.field.text):
            return _found(body, rule.field.text)
        return self._guarded(body, "value", body.value(rule.field), "None")

    def _fresh(self, rule: Rule, at_most: float, body: Body) -> str:
        time = body.metadata("_timestamp")
        if rule.field is not None:
            value = self._value(rule, body)
            moment = body.constant("moment", _moment)
            time = body.local("time", f"{value} if {value} is None or {value}.__class__ is int else {moment}({value})")
        now = body.constant("now_ms", self._context.clock.now_ms)
        fresh = f"{now}() - {time} <= {round(1000 * at_most)}"
        return fresh if rule.field is None else f"{time} is None or {fresh}"

    def _guarded(self, body: Body, hint: str, source: str, otherwise: str) -> str:
        """A variable with the value of what may raise, and what it is then."""
        variable = body.local(hint, f"({otherwise})")
        body.line(f"try: {variable} = {source}")
        body.line(f"except Exception: {variable} = {otherwise}")
        return variable


def _found(body: Body, path: str) -> str:
    """A variable with a field's value, None where it is missing."""
    return body.local(path.rpartition(".")[2], f"({body.value(parse(f'get({path}, null)'))})")


def _typed(value: Any) -> Hashable:
    """A value as what it is equal to in JSON: true is not 1, and 1.0 is."""
    return ("bool", value) if value.__class__ is bool else value


def _one_of(values: frozenset[Hashable]) -> Callable[[Any], bool]:
    def accepted(value: Any) -> bool:
        try:
            return _typed(value) in values
        except TypeError:
            return False

    return accepted


def _in_table(references: References, context: PipelineContext) -> Callable[[Any], bool]:
    if references.file is None:
        return _in_source(context.table(references.table or ""))
    # An absolute path stays as it is.
    table = FileTable(context.base_dir / references.file, references.column or "", (), references.columns, unique=False)
    table.read()
    find, text = table.find, table.text

    def found(value: Any) -> bool:
        try:
            return find(as_text(value) if text else value) is not None
        except TypeError:
            return False

    return found


def _in_source(table: LookupTable) -> Callable[[Any], bool]:
    """The same for the rows that a source with `table:` has at that moment."""

    def found(value: Any) -> bool:
        try:
            return value in table
        except TransformError:
            return False

    return found


def _moment(value: Any) -> float:
    """A time in ms; one before all others for what is none, so that it is not fresh."""
    try:
        return event_time(value)
    except ExtractError:
        return float("-inf")

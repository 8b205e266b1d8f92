"""A node and the model of its settings → the settings, or a diagnostic for everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from streamd.config.beside import misplaced
from streamd.config.diagnostics import did_you_mean, nearest, one_of
from streamd.config.file_text import is_secret_name
from streamd.config.findings import PATTERN, Finding, Location, findings, hint_of, known_fields, models_in
from streamd.config.scalars import character_index, inline_yaml
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence
from streamd.observability import redact

M = TypeVar("M", bound=BaseModel)


class Reported:
    """A class that stands for a value whose problems are already reported."""


def plain_value(node: Node) -> Any:
    """What a node means, as dicts, lists and scalars."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain_value(item) for item in node.items]
    return {key: plain_value(value) for key, (_, value) in node.entries.items()}


def describe(node: Node) -> str:
    """What stands there, for "got …"; never a value that must be hidden."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.substituted:
        return f"the value of {_references(node)}"
    if node.hidden:
        return "a value that is not shown"
    if isinstance(node.value, bool):
        return str(node.value).lower()
    if node.value is None:
        return "nothing"
    if isinstance(node.value, int | float):
        return f"the number {node.text}"
    shown = node.text if len(node.text) <= 60 else node.text[:57] + "…"
    return f"the text {shown!r}"


def _references(node: Scalar) -> str:
    return ", ".join(f"${{{name}}}" for name in node.substituted)


@dataclass(slots=True)
class Check(Generic[M]):
    """One validation: a model, the node of its settings, and how to speak of it.

    `subject` names it in messages (source `kafka`); `anchor` is the key that problems of the whole point at.
    `shorthand` is the field that the node as a whole stands for, where it does. `given` are fields whose values are
    already known and not taken from the node; `also_known` are keys that others read from the same mapping.
    """

    document: Document
    model: type[M]
    node: Node
    subject: str
    anchor: Node
    shorthand: str | None = None
    given: MappingType[str, Any] = field(default_factory=dict)
    also_known: tuple[str, ...] = ()

    def run(self) -> M | None:
        """The settings; None when there are problems, which are then in the document."""
        self._hide_secrets()
        if self.shorthand is None and isinstance(self.node, Scalar) and self.node.value is None:
            self.node = Mapping(self.node.start, self.node.end)
        try:
            return self.model.model_validate(self._value())
        except ValidationError as error:
            found = findings(error, self._locate)
        if self._retype(found):
            try:
                return self.model.model_validate(self._value())
            except ValidationError as error:
                found = findings(error, self._locate)
        for finding in found:
            self._report(finding)
        return None

    def _value(self) -> Any:
        value = plain_value(self.node)
        if self.shorthand is not None:
            value = {self.shorthand: value}
        if isinstance(value, dict):
            value.update(self.given)
        return value

    def _hide_secrets(self) -> None:
        if isinstance(self.node, Mapping):
            _hide_secret_fields(self.document, self.model, self.node)
        elif self.shorthand is not None and _is_secret(_field(self.model, self.shorthand).annotation):
            _hide_secret(self.document, self.node)

    def _retype(self, found: list[Finding]) -> bool:
        """Give texts where a text is wanted and a substituted value looks like another type (a password of digits)."""
        changed = False
        for finding in found:
            node = finding.node
            if isinstance(node, Scalar) and node.substituted and not isinstance(node.value, str):
                node.value = node.text
                changed = True
        return changed

    def _locate(self, location: Location) -> tuple[Node, Node, Location]:
        """(node, its key's node, the keys that led there) of a pydantic location.

        What pydantic puts in beside keys (names of union members and of validators) leads nowhere and is skipped.
        """
        node, key = self.node, self.anchor
        path: list[int | str] = []
        for element in location:
            if not path and element == self.shorthand:
                pass
            elif isinstance(node, Mapping) and isinstance(element, str) and element in node.entries:
                key, node = node.entries[element]
            elif isinstance(node, Sequence) and isinstance(element, int) and element < len(node.items):
                key = node = node.items[element]
            elif element == "[key]":
                node = key
                continue
            else:
                continue
            path.append(element)
        return node, key, tuple(path)

    def _report(self, finding: Finding) -> None:
        known = finding.code != "missing-key" or isinstance(finding.node, Scalar)
        if (known and id(finding.node) in self.document.broken) or self._reported(finding.path):
            return
        if finding.code == "unknown-key":
            self._report_unknown(finding)
        elif finding.code == "missing-key":
            self._report_missing(finding)
        elif getattr(finding.error, "unknown", False):
            pass
        elif finding.error is not None:
            report_expression(self.document, finding.node, finding.error, self._name(finding.path))
        else:
            self._report_value(finding)

    def _reported(self, path: Location) -> bool:
        """Whether what stands there is given, and its problems are told already."""
        found: Any = self.given
        for element in path:
            found = found.get(element) if isinstance(found, dict) else None
            if isinstance(found, type) and issubclass(found, Reported):
                return True
        return False

    def _report_unknown(self, finding: Finding) -> None:
        *path, name = finding.path
        known = [*known_fields(self.model, tuple(path)), *(() if path else self.also_known)]
        near = nearest(str(name), known)
        if near is not None and is_secret_name(near):
            self.document.hide(finding.node)
        message = f"unknown key `{name}` in {self._name(tuple(path))}"
        expected = one_of(sorted(known)) if known else "no settings"
        help_text = hint_of(self.model, tuple(path), str(name)) or ("" if path else misplaced(str(name), self.subject))
        help_text = help_text or did_you_mean(str(name), known)
        self.document.report("unknown-key", message, finding.key, expected, help_text)

    def _report_missing(self, finding: Finding) -> None:
        name = self._name((*finding.path, finding.name))
        info = known_fields(self.model, finding.path).get(finding.name)
        expected = _what_it_is((finding.name,), info)
        self.document.report("missing-key", f"{name} is missing", finding.key, expected)

    def _report_value(self, finding: Finding) -> None:
        name, node = self._name(finding.path), finding.node
        hidden = isinstance(node, Scalar) and node.hidden
        help_text = expected = ""
        info = known_fields(self.model, finding.path[:-1]).get(str(finding.path[-1])) if finding.path else None
        if finding.wanted == "a list" and info is not None and _may_be_text(info):
            finding.wanted = "text or a list"
        if finding.text == PATTERN:
            message, expected = f"{name} does not fit: got {describe(node)}", _what_it_is(finding.path[-1:], info)
        elif finding.wanted and isinstance(node, Mapping) and not finding.path and not finding.wrong_shape:
            message = f"{name}: expected {finding.wanted}"
        elif ", got " in finding.wanted:
            message = f"{name} must be {finding.wanted}"
        elif finding.wanted:
            message = f"{name} must be {finding.wanted}, got {describe(node)}"
        elif hidden:
            message = f"{name}: {describe(node)} does not fit"
        else:
            message = f"{name}: {finding.text}"
        if isinstance(node, Scalar) and not hidden and node.value is not None:
            if finding.wanted == "text":
                help_text = f'put it in quotes: "{node.text}"'
            elif finding.choices:
                help_text = did_you_mean(node.text, finding.choices)
        whole = not isinstance(node, Scalar) or not finding.path or node.end == node.start
        at = finding.key if whole or finding.at_key else node
        self.document.report(finding.code, message, at, expected, help_text)

    def _name(self, path: Location) -> str:
        shown = path[1:] if path and path[0] == self.shorthand else path
        return f"`{'.'.join(map(str, shown))}` of {self.subject}" if shown else self.subject


def _what_it_is(path: Location, info: FieldInfo | None) -> str:
    """The description of a setting, with an example."""
    expected = (info.description or "") if info is not None else ""
    if info is not None and info.examples:
        expected = f"{expected} Example: `{path[-1]}: {inline_yaml(info.examples[0])}`".strip()
    return expected


def _may_be_text(info: FieldInfo) -> bool:
    """Whether the schema of a list also takes one text."""
    schemas = [mark.json_schema or {} for mark in info.metadata if isinstance(mark, WithJsonSchema)]
    return any(each.get("type") == "string" for schema in schemas for each in schema.get("anyOf", ()))


def report_expression(document: Document, node: Node, error: Any, name: str) -> None:
    """Note an ExpressionError at the character of the YAML scalar where it is."""
    if not isinstance(node, Scalar):
        document.report("bad-expression", f"{name}: {error.message}", node, help=error.hint or "")
        return
    if node.substituted:
        # Places in the file are those of the text before substitution, and the message may quote what was put in.
        message = f"{name} is not a valid expression after substitution of {_references(node)}"
        document.report("bad-expression", message if node.hidden else f"{message}: {error.message}", node)
        return
    raw = document.written(node)
    start = node.start + character_index(raw, node.text, node.style, error.offset)
    last = error.offset + max(error.length, 1) - 1
    end = node.start + character_index(raw, node.text, node.style, min(last, max(len(node.text) - 1, 0))) + 1
    message = f"{name}: {error.message}"
    document.report("bad-expression", message, (start, max(end, start + 1)), help=error.hint or "")


def _is_secret(annotation: Any) -> bool:
    arguments = getattr(annotation, "__args__", ())
    return annotation is SecretStr or any(_is_secret(argument) for argument in arguments)


def _hide_secret(document: Document, node: Node) -> None:
    """Show the value neither in problems nor, from here on, in a log line of this process."""
    document.hide(node)
    if isinstance(node, Scalar):
        redact.hide(node.text)


def _hide_secret_fields(document: Document, model: type[BaseModel], node: Mapping) -> None:
    for name, info in model.model_fields.items():
        value = node.get(info.alias or name)
        if value is None:
            continue
        if _is_secret(info.annotation):
            _hide_secret(document, value)
        for inner in models_in(info.annotation):
            children = value.items if isinstance(value, Sequence) else [value]
            for child in children:
                if isinstance(child, Mapping):
                    _hide_secret_fields(document, inner, child)


def _field(model: type[BaseModel], name: str) -> FieldInfo:
    """The field that YAML calls so: by its alias, where it has one."""
    fields = model.model_fields
    return next((field for own, field in fields.items() if name in (own, field.alias)), fields[next(iter(fields))])

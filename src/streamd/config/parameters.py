"""Parameters of chains and filters: declared, given with `with:`, and put in where `$name` stands. Never as text.

A parameter stands for a whole value (`size: $size`), for a key (`$field: …`), or inside an expression for a value of
its own (`amount > $limit`). What it stands for is a node that keeps its place: problems point at who wrote it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from collections.abc import Mapping as Mapping_
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from pydantic import Field

from streamd.component.fields import ParameterText, parse_duration, parse_expression, parse_field_path
from streamd.component.model import Model
from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.model_check import Check, describe, plain_value, report_expression
from streamd.config.yaml_nodes import MAX_NODES, Document, Mapping, Node, Scalar, Sequence
from streamd.observability import redact

ParameterType: TypeAlias = Literal[
    "any", "text", "number", "integer", "boolean", "duration", "field", "expression", "list", "mapping"
]
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_WANTED: Mapping_[str, str] = {
    "any": "a value",
    "text": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "duration": "a duration such as 10s",
    "field": "a field's name, such as user.country",
    "expression": "an expression",
    "list": "a list",
    "mapping": "a mapping",
}
# What stands for a parameter while a chain is checked that nobody uses with it.
_STAND_IN: Mapping_[str, str] = {"text": "'text'", "number": "1", "integer": "1", "boolean": "True", "list": "[]"}


class ParameterSettings(Model):
    """A parameter of a chain or of a filter."""

    type: ParameterType = Field("any", description="What it must be.", examples=["number"])
    default: Any = Field(None, description="Its value where none is given; without it, one must be.", examples=[50])
    description: str = Field("", description="What it is for.", examples=["Least amount that counts"])


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter. `default` is the node of its default, None where one must be given."""

    name: str
    type: ParameterType
    default: Node | None
    description: str
    at: Node


@dataclass(frozen=True, slots=True)
class Given:
    """What a parameter stands for in one use. `argument` is what it is in an expression."""

    node: Node
    type: ParameterType
    argument: Any


@dataclass(slots=True)
class Budget:
    """How many more nodes chains may become, all together: chains of chains multiply."""

    left: int = MAX_NODES


class TooLargeError(Exception):
    """The budget is spent."""


def read_parameters(document: Document, node: Node | None, subject: str) -> dict[str, Parameter]:
    """The declared parameters of a `parameters:` node; what is wrong is reported."""
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        message = f"`parameters` of {subject} must be a mapping of names to what they must be, got {describe(node)}"
        document.report("wrong-type", message, node, help="for example `parameters: {limit: {type: number}}`")
        return {}
    found: dict[str, Parameter] = {}
    for name, (key, body) in node.entries.items():
        about = f"parameter `{name}` of {subject}"
        if not NAME.fullmatch(name):
            message = f"`{name}` is no parameter's name: use letters, digits and `_`, not starting with a digit"
            document.report("wrong-value", message, key)
            continue
        short = "type" if isinstance(body, Scalar) and body.value is not None else None
        settings = Check(document, ParameterSettings, body, about, key, shorthand=short).run()
        if settings is None:
            found[name] = Parameter(name, "any", None, "", key)
            continue
        default = body.get("default") if isinstance(body, Mapping) else None
        parameter = Parameter(name, settings.type, default, settings.description, key)
        if default is not None and _given(document, parameter, default, f"the default of {about}") is None:
            document.broken.add(id(default))
        found[name] = parameter
    return found


def give(
    document: Document, parameters: Mapping_[str, Parameter], node: Node | None, at: Node, subject: str
) -> dict[str, Given] | None:
    """What each parameter stands for, by the `with:` of a use. None when there are problems, all of them reported."""
    entries: dict[str, tuple[Scalar, Node]] = {}
    before = len(document.problems)
    if isinstance(node, Mapping):
        entries = node.entries
    elif node is not None and not (isinstance(node, Scalar) and node.value is None):
        message = f"`with` must be a mapping of parameters to values, got {describe(node)}"
        document.report("wrong-type", message, node)
        return None
    for name, (key, _) in entries.items():
        if name not in parameters:
            expected = one_of(sorted(parameters)) if parameters else f"{subject} has no parameters"
            message = f"{subject} has no parameter `{name}`"
            document.report("unknown-parameter", message, key, expected, did_you_mean(name, parameters))
    given: dict[str, Given] = {}
    for name, parameter in parameters.items():
        value = entries[name][1] if name in entries else parameter.default
        if value is None:
            expected = f"{_WANTED[parameter.type]}{': ' if parameter.description else ''}{parameter.description}"
            help_text = f"write `with: {{{name}: …}}`"
            message = f"parameter `{name}` of {subject} is not given, and has no default"
            document.report("missing-parameter", message, at, expected, help_text)
        elif (found := _given(document, parameter, value, f"parameter `{name}` of {subject}")) is not None:
            given[name] = found
    return given if len(document.problems) == before and len(given) == len(parameters) else None


def stand_ins(document: Document, parameters: Iterable[Parameter]) -> dict[str, Given]:
    """For checking what nobody uses: defaults, and for the others what nothing is concluded of."""
    from streamd.expr.parameters import Argument

    given: dict[str, Given] = {}
    for parameter in parameters:
        name = parameter.name
        if parameter.default is not None:
            found = _given(document, parameter, parameter.default, name)
            if found is not None:
                given[name] = found
                continue
        argument = Argument(_STAND_IN.get(parameter.type, name), known=False)
        text = ParameterText(name, f"${name}", {name: argument})
        node = Scalar(parameter.at.start, parameter.at.end, name, None, text)
        document.kept.append(node)
        document.broken.add(id(node))
        given[name] = Given(node, parameter.type, argument)
    return given


def _given(document: Document, parameter: Parameter, node: Node, subject: str) -> Given | None:
    """The value for a parameter, checked; None where it does not fit, which is reported."""
    from streamd.expr.parameters import Argument

    if id(node) in document.broken:
        # Another stand-in, or a value with a problem of its own: nothing is to be said of it.
        name = parameter.name
        return Given(node, parameter.type, Argument(_STAND_IN.get(parameter.type, name), known=False))
    value = plain_value(node)
    if isinstance(node, Scalar) and node.hidden and redact.known(node.text) != node.text:
        redact.hide(repr(node.text)[1:-1])  # as it stands in an expression
    try:
        if parameter.type != "expression" and _holds_parameters(value):
            raise ValueError(f"{_WANTED[parameter.type]} of its own: only an expression may hold parameters")
        return Given(node, parameter.type, _argument(parameter.type, node, value))
    except ValueError as error:
        if getattr(error, "unknown", False):
            return Given(node, parameter.type, Argument(parameter.name, known=False))
        if hasattr(error, "offset"):
            report_expression(document, node, error, subject)
        else:
            wanted = str(error).removeprefix("expected ")
            document.report("wrong-value", f"{subject} must be {wanted}, got {describe(node)}", node)
    return None


def _holds_parameters(value: Any) -> bool:
    """Whether it is a longer text with parameters in it, not one of them as a whole."""
    return (
        isinstance(value, ParameterText)
        and value == value.template
        and any(name in value.arguments for name in _WHOLE.findall(value))
    )


def _argument(kind: ParameterType, node: Node, value: Any) -> Any:
    """What a value is in an expression. Raises ValueError saying what it must be, where it does not fit."""
    from streamd.expr.parameters import Argument

    if kind == "expression":
        return Argument(parse_expression(value).text)
    if isinstance(value, ParameterText) and kind in ("any", "text", "field"):
        return Argument(value.read_by(parse_expression).text) if kind == "any" else _plain(kind, str(value))
    if kind == "text" and isinstance(node, Scalar) and node.substituted:
        value = node.text
    fits = {
        "any": value is not None,
        "text": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "duration": True,
        "field": isinstance(value, str) and bool(value),
        "list": isinstance(value, list),
        "mapping": isinstance(value, dict),
    }
    if not fits[kind]:
        raise ValueError(_WANTED[kind])
    return _plain(kind, value)


def _plain(kind: ParameterType, value: Any) -> Any:
    from streamd.expr.parameters import Argument

    if kind == "duration":
        try:
            parse_duration(value)
        except ValueError:
            raise ValueError(_WANTED[kind]) from None
        return Argument("", "a duration is a setting, not a value of records")
    if kind == "field":
        first, *rest = parse_field_path(str(value))
        source = first if first.isidentifier() and _parses(first) else f"_value[{first!r}]"
        return Argument(source + "".join(f".{name}" if name.isidentifier() else f"[{name!r}]" for name in rest))
    try:
        return Argument(parse_expression(repr(_texts(value))).text)
    except ValueError:
        return Argument("", "it is nothing that an expression can hold")


def _texts(value: Any) -> Any:
    """The value with its texts as plain ones."""
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _texts(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value


def _parses(name: str) -> bool:
    """Whether a word may stand alone in an expression."""
    try:
        parse_expression(name)
    except ValueError:
        return False
    return True


def put_in(document: Document, node: Node, given: Mapping_[str, Given], budget: Budget) -> Node:
    """A copy of the tree in which `$name` is what the parameter stands for; what is wrong is reported.

    Raises TooLargeError.
    """
    return _PutIn(document, given, budget).copy(node)


@dataclass(slots=True)
class _PutIn:
    document: Document
    given: Mapping_[str, Given]
    budget: Budget
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arguments = {name: given.argument for name, given in self.given.items()}

    def copy(self, node: Node) -> Node:
        self.budget.left -= 1
        if self.budget.left < 0:
            raise TooLargeError
        copied: Node
        if isinstance(node, Scalar):
            copied = self._scalar(node)
        elif isinstance(node, Sequence):
            copied = Sequence(node.start, node.end, [self.copy(item) for item in node.items], node.size)
            self._spread(copied, copied.items)
        else:
            copied = Mapping(node.start, node.end, size=node.size)
            for key, (key_node, value) in node.entries.items():
                self._entry(copied, key, key_node, self.copy(value))
            self._spread(copied, [value for _, value in copied.entries.values()])
        if id(node) in self.document.broken:
            self.document.broken.add(id(copied))
        self.document.kept.append(copied)
        return copied

    def _spread(self, node: Node, below: Iterable[Node]) -> None:
        """What holds a stand-in is as unknown."""
        if any(id(child) in self.document.broken for child in below):
            self.document.broken.add(id(node))

    def _entry(self, mapping: Mapping, key: str, key_node: Scalar, value: Node) -> None:
        whole = _WHOLE.fullmatch(key)
        if whole is not None:
            name = whole[1]
            given = self.given.get(name)
            if given is None:
                self._report_unknown(name, key_node)
                return
            if not isinstance(given.node, Scalar) or not isinstance(given.node.value, str) or not given.node.value:
                message = f"${name} is a key here, so it must be a text, got {describe(given.node)}"
                self.document.report("wrong-value", message, given.node)
                return
            key = str(given.node.value)
            key_node = replace(key_node, text=key, value=key)
        elif key.startswith("$$"):
            key = key[1:]
        if key in mapping.entries:
            self.document.report("duplicate-key", f"key `{key}` is there twice, once as a parameter", key_node)
            return
        mapping.entries[key] = key_node, value

    def _scalar(self, node: Scalar) -> Node:
        if not isinstance(node.value, str) or "$" not in node.value:
            return replace(node)
        whole = _WHOLE.fullmatch(node.value)
        if whole is None:
            if node.value.startswith("$$") and _WHOLE.fullmatch(node.value[1:]):
                return replace(node, value=node.value[1:])
            if not _WHOLE.search(node.value) or isinstance(node.value, ParameterText):
                return replace(node)
            return replace(node, value=ParameterText(node.value, node.value, self.arguments))
        given = self.given.get(whole[1])
        if given is None:
            self._report_unknown(whole[1], node)
            broken = replace(node)
            self.document.broken.add(id(broken))
            return broken
        if not isinstance(given.node, Scalar) or not isinstance(given.node.value, str):
            return _PutIn(self.document, {}, self.budget).copied_whole(given.node)
        copied = replace(given.node)
        inner = given.node.value
        if given.type == "expression":
            text = str(inner)
            template = inner if isinstance(inner, ParameterText) else None
            copied.value = ParameterText(text, template.template, template.arguments) if template else text
        else:
            copied.value = ParameterText(inner, f"${whole[1]}", self.arguments)
        if id(given.node) in self.document.broken:
            self.document.broken.add(id(copied))
        return copied

    def copied_whole(self, node: Node) -> Node:
        """A copy as it is: what was given has its own parameters put in already."""
        self.budget.left -= 1
        if self.budget.left < 0:
            raise TooLargeError
        copied: Node
        if isinstance(node, Scalar):
            copied = replace(node)
        elif isinstance(node, Sequence):
            copied = Sequence(node.start, node.end, [self.copied_whole(item) for item in node.items], node.size)
        else:
            entries = {key: (key_node, self.copied_whole(value)) for key, (key_node, value) in node.entries.items()}
            copied = Mapping(node.start, node.end, entries, size=node.size)
        if id(node) in self.document.broken:
            self.document.broken.add(id(copied))
        self.document.kept.append(copied)
        return copied

    def _report_unknown(self, name: str, at: Node) -> None:
        message = f"there is no parameter `{name}`"
        help_text = did_you_mean(name, self.given) or f"for the text `${name}` itself write `$${name}`"
        self.document.report("unknown-parameter", message, at, one_of(sorted(self.given)), help_text)


def unread(document: Document, node: Node | None, subject: str) -> None:
    """Report texts with parameters that no setting took as an expression: they would be text with a `$` in it."""
    if isinstance(node, Scalar):
        text = node.value
        if isinstance(text, ParameterText) and not text.read and _holds_parameters(text):
            name = next(name for name in _WHOLE.findall(text) if name in text.arguments)
            message = f"`${name}` stands inside a text of {subject}, and a parameter is a whole value"
            help_text = f"make the whole value a parameter, and give it with `with: {{{name}: …}}`"
            document.report("bad-parameter", message, node, help=help_text)
    elif isinstance(node, Sequence):
        for item in node.items:
            unread(document, item, subject)
    elif node is not None:
        for _, value in node.entries.values():
            unread(document, value, subject)

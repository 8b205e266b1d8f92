"""`all`, `any`, `not` and named filters in a condition → one expression, as if written by hand.

A part is an expression, `{all: [part, …]}`, `{any: [part, …]}`, `{not: part}`, or `{name: FILTER, with: {…}}`. What is
wrong with a part is reported at the part.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from streamd.component.fields import parse_expression
from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.model_check import describe, plain_value, report_expression
from streamd.config.parameters import Budget, TooLargeError, give, put_in, stand_ins
from streamd.config.shared import Definition, Library
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence

_COMBINED = ("all", "any", "not")
WORDS = (*_COMBINED, "name", "with")
MAX_DEPTH = 16  # of filters that use filters


def is_condition(node: Node | None) -> bool:
    """Whether it is a mapping that combines conditions or names a filter."""
    return isinstance(node, Mapping) and any(word in node.entries for word in (*_COMBINED, "name"))


@dataclass(slots=True)
class ConditionReader:
    """Reads the conditions of one document."""

    document: Document
    library: Library
    budget: Budget

    def expression(self, node: Node, subject: str) -> Scalar | None:
        """A scalar with the one expression that the condition is; None when there are problems, which are reported."""
        before = len(self.document.problems)
        part = self._part(node, subject, ())
        if part is None or len(self.document.problems) > before:
            return None
        made = Scalar(node.start, node.end, part.text, None, part.text)
        if not part.known:
            self.document.broken.add(id(made))
        self.document.kept.append(made)
        return made

    def check(self, definition: Definition) -> None:
        """Report all that is wrong with a filter, whether or not it is used."""
        self._body(definition, stand_ins(self.document, definition.parameters.values()), (definition.name,))

    def _part(self, node: Node, subject: str, used: tuple[str, ...]) -> _Part | None:
        if isinstance(node, Mapping):
            return self._mapping(node, subject, used)
        if id(node) in self.document.broken and not isinstance(node, Sequence):
            return _Part("True", "compare", known=False)
        if isinstance(node, Sequence):
            message = f"{subject} has a list where a condition must be"
            self.document.report("wrong-type", message, node, help="write `all: […]` or `any: […]`")
            return None
        try:
            text = parse_expression(plain_value(node)).text
        except ValueError as error:
            if getattr(error, "unknown", False):
                return _Part("True", "compare", known=False)
            if hasattr(error, "offset"):
                report_expression(self.document, node, error, subject)
            else:
                self.document.report("wrong-type", f"{subject}: {error}", node)
            return None
        return _Part(_one_line(text), _shape(text))

    def _mapping(self, node: Mapping, subject: str, used: tuple[str, ...]) -> _Part | None:
        known = [key for key in node.entries if key in (*_COMBINED, "name")]
        for key in node.entries:
            if key not in WORDS or (key == "with" and "name" not in known):
                message = f"unknown key `{key}` in a condition of {subject}"
                near = did_you_mean(key, WORDS)
                self.document.report("unknown-key", message, node.key(key), one_of((*_COMBINED, "name")), near)
        if len(known) != 1:
            if known:
                message = f"a condition is one of {', '.join(known)}, not several"
                self.document.report("several-keys", message, node.key(known[1]), help="put them below `all:`")
            elif not node.entries:
                self.document.report("wrong-type", f"{subject} has an empty mapping where a condition must be", node)
            return None
        key, body = known[0], node.entries[known[0]][1]
        if key == "name":
            return self._named(node, body, used)
        if key == "not":
            part = self._part(body, subject, used)
            return part and _Part(f"not {part.within('not')}", "not", part.known)
        if not isinstance(body, Sequence) or not body.items:
            got = describe(body) if not isinstance(body, Sequence) else "an empty one"
            message = f"`{key}` of {subject} must be a list of conditions, got {got}"
            self.document.report("wrong-type", message, node.key(key))
            return None
        parts = [self._part(item, subject, used) for item in body.items]
        sound = [part for part in parts if part is not None]
        if len(sound) == 1:
            return sound[0]
        word = "and" if key == "all" else "or"
        text = f" {word} ".join(part.within(word) for part in sound)
        return _Part(text, word, all(part.known for part in sound)) if sound else None

    def _named(self, node: Mapping, name_node: Node, used: tuple[str, ...]) -> _Part | None:
        name = name_node.text if isinstance(name_node, Scalar) else ""
        definition = self.library.filters.get(name)
        if definition is None:
            known = sorted(self.library.filters)
            message = f"there is no filter `{name}`"
            if not name:
                message = f"`name` must be that of a filter, got {describe(name_node)}"
            expected = one_of(known) if known else "a filter below `filters:`, here or in an imported file"
            self.document.report("unknown-filter", message, name_node, expected, did_you_mean(name, known))
            return None
        if name in used or len(used) >= MAX_DEPTH:
            flow = " → ".join([*used, name])
            message = f"filters use each other: {flow}" if name in used else f"filters within filters: {flow}"
            self.document.report("cycle", message, name_node)
            return None
        subject = definition.subject
        given = give(self.document, definition.parameters, node.get("with"), name_node, subject)
        if given is None:
            return None
        note, self.document.note = self.document.note, f"{subject} is used at {self.document.place(name_node.start)}"
        part = self._body(definition, given, (*used, name))
        self.document.note = note
        return part

    def _body(self, definition: Definition, given: dict[str, Any], used: tuple[str, ...]) -> _Part | None:
        try:
            body = put_in(self.document, definition.body, given, self.budget)
        except TooLargeError:
            self.document.report("too-large", "filters of filters become too many", definition.at)
            return None
        if isinstance(body, Scalar) and body.value is None and not body.text:
            if definition.body.start != definition.at.start:
                self.document.report("missing-key", f"{definition.subject} has no condition", definition.at)
            return None
        return self._part(body, definition.subject, used)


# What binds less: `or` stands in brackets inside of `and`.
_BINDS = {"choice": 0, "or": 1, "and": 2, "not": 3, "compare": 4}


@dataclass(frozen=True, slots=True)
class _Part:
    text: str
    shape: str
    known: bool = True

    def within(self, word: str) -> str:
        return self.text if _BINDS[self.shape] >= _BINDS[word] else f"({self.text})"


def _one_line(text: str) -> str:
    """The same without comments and ends of lines: more may follow on the line."""
    from streamd.expr.parse import syntax

    return ast.unparse(syntax(text)) if any(character in text for character in "#\\\n\r\f") else text.strip()


def _shape(text: str) -> str:
    from streamd.expr.parse import syntax

    match syntax(text):
        case ast.BoolOp(ast.And()):
            return "and"
        case ast.BoolOp():
            return "or"
        case ast.UnaryOp(ast.Not()):
            return "not"
        case ast.IfExp() | ast.Lambda() | ast.NamedExpr() | ast.Tuple():
            return "choice"
        case _:
            return "compare"

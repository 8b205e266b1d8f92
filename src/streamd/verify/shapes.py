"""Records as a pipeline needs them, made up from what its expressions do with their fields.

A field that is compared with numbers becomes a number around these, one compared with texts is one of them or another,
one that is looped over becomes a list, one with a key of its own an object. The same seed makes the same records.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streamd.component.context import PipelineContext
from streamd.component.grouping import Grouping
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.errors import StreamdError
from streamd.expr import Aggregate, Expression, Function
from streamd.expr.nodes import (
    Binary,
    Call,
    Compare,
    Display,
    Each,
    Field,
    Get,
    Has,
    Item,
    Loop,
    Node,
    Variable,
    children,
    walk,
)
from streamd.expr.nodes import Literal as Constant

Guess = Literal["any", "number", "text", "time", "list", "object", "bool"]
KEYS = 50  # different values of a text that nothing is known of: enough to spread, few enough to come again
_BY_CATEGORY: dict[str, Guess] = {"text": "text", "number": "number", "time": "time"}
_OF_NUMBERS = frozenset(
    {"sum", "min", "max", "mean", "variance", "variance_pop", "stddev", "stddev_pop", "quantile", "median", "histogram"}
)
A_TIME = 1_767_603_600_000  # ms; any time that is not long ago


@dataclass
class Shape:
    """What is known of one value. `constants`: what it is compared with; `fields`: of an object; `element`: of a list.

    `optional`: the pipeline does without it, too. `separator`: what a text is split at.
    """

    guess: Guess = "any"
    constants: list[Any] = field(default_factory=list)
    fields: dict[str, Shape] = field(default_factory=dict)
    element: Shape | None = None
    optional: bool = True
    separator: str = ""

    def be(self, guess: Guess) -> None:
        """Take what the first use says."""
        if self.guess == "any":
            self.guess = guess

    def at(self, name: str) -> Shape:
        """The value of a field of it."""
        self.be("object")
        return self.fields.setdefault(name, Shape())


def row_keys(table: str) -> list[str]:
    """The keys that a made-up table has."""
    return [f"{table}-{number}" for number in range(KEYS)]


def shape_of(config: PipelineConfig, context: PipelineContext) -> Shape:
    """The shape of the records that a pipeline reads, as far as its stages and sinks tell."""
    return shapes_of(config, context)[0]


def shapes_of(config: PipelineConfig, context: PipelineContext) -> tuple[Shape, dict[str, Shape]]:
    """The same, and {table: the shape of its rows}."""
    root = Shape("object")
    tables = {table.id: Shape("object") for table in config.tables}
    # {field that a stage has set: the shape of the input that it is a copy of, or None}
    made: dict[str, Shape | None] = {}
    for component in (*config.sources, *config.stages, *config.sinks):
        if component.name == "enrich":
            _table(component, context, root, made, tables)
        for name, expression in expressions_of(component):
            reading = _Reading(root, made)
            reading.read(expression.node)
            if component.name in ("set", "map") and name:
                made[name.partition(".")[0]] = reading.shape(expression.node)
            elif component.name == "flatten" and (shape := reading.shape(expression.node)) is not None:
                shape.be("list")
                shape.element = shape.element or Shape()
                made[getattr(component.settings, "as_", None) or expression.text] = shape.element
            elif component.name in ("aggregate", "window") and (shape := reading.shape(expression.node)) is not None:
                shape.be("number" if name in _OF_NUMBERS else "any")
        target = getattr(component.settings, "as_", None)
        if isinstance(target, str):
            made.setdefault(target.partition(".")[0], None)
    return root, tables


def unsteady(config: PipelineConfig) -> list[str]:
    """What in the pipeline gives something else each time, as far as expressions tell: "stage `set`: now()"."""
    found: dict[str, None] = {}
    for component in (*config.stages, *config.sinks):
        for _, expression in expressions_of(component):
            for part in walk(expression.node):
                if isinstance(part, Call) and not part.function.deterministic:
                    found[f"{component.kind} `{component.id}`: {part.function.name}()"] = None
    return list(found)


def keyed_by(config: PipelineConfig) -> str | None:
    """The field by which the pipeline keeps state, so that its input is to be partitioned by it."""
    for stage in config.stages:
        by = getattr(stage.settings, "by", None)
        if stage.spec.stateful and isinstance(by, Grouping):
            nodes = [expression.node for expression in by.fields.values()]
            if len(nodes) == 1 and isinstance(nodes[0], Field):
                return nodes[0].name
    return None


def expressions_of(component: ComponentConfig) -> Iterator[tuple[str, Expression]]:
    """(key, expression) of everything in a component's settings that is one."""
    waiting: list[tuple[str, Any]] = [
        ("", getattr(component.settings, n)) for n in type(component.settings).model_fields
    ]
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, Expression):
            yield name, value
        elif isinstance(value, dict):
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, inner) for inner in value]
        elif hasattr(type(value), "model_fields"):
            waiting += [(name, getattr(value, inner)) for inner in type(value).model_fields]
        elif isinstance(value, Aggregate):
            yield from ((value.name, argument) for argument in value.arguments)


def _table(
    component: ComponentConfig, context: PipelineContext, root: Shape, made: dict[str, Shape | None],
    tables: Mapping[str, Shape],
) -> None:  # fmt: skip
    """A key that is looked up in a table is one of the table's; what is read of the row later is the table's too."""
    settings: Any = component.settings
    row = None if settings.table is None else tables[settings.table]
    try:
        keys = _keys(context.base_dir / settings.file, settings) if row is None else row_keys(settings.table)
    except (OSError, StreamdError, ValueError):
        return
    if isinstance(settings.key.node, Field) and settings.key.node.name not in made:
        shape = root.at(settings.key.node.name)
        shape.optional = False
        shape.be("text")
        shape.constants += keys[:KEYS]
    if row is None:
        made.update(dict.fromkeys(settings.fields or ()))
        return
    for name in settings.fields or ():
        shape = row.at(name)
        if settings.as_ is None:
            made[name] = shape
    if settings.as_ is not None and "." not in settings.as_:
        made[settings.as_] = row


def _keys(path: Path, settings: Any) -> list[Any]:
    import csv

    import orjson

    if path.suffix.lower() == ".csv":
        with path.open(newline="") as file:
            return [row[settings.match] for row in csv.DictReader(file, settings.columns)]
    text = path.read_bytes()
    rows = orjson.loads(text) if path.suffix.lower() == ".json" else [orjson.loads(line) for line in text.splitlines()]
    return [row[settings.match] for row in rows]


class _Reading:
    """Notes what one expression does with the document. `made`: fields that earlier stages have set themselves."""

    def __init__(self, root: Shape, made: Mapping[str, Shape | None]) -> None:
        self._root = root
        self._made = made
        self._variables: dict[int, Shape] = {}

    def read(self, node: Node) -> None:
        """Note the uses in a node and below it."""
        for loop in walk(node):
            if isinstance(loop, Loop):
                for each in loop.sources:
                    self._each(each)
        # What `has` and `get` ask for may be missing.
        asked = {id(part.base) for part in walk(node) if isinstance(part, Has | Get)}
        for part in walk(node):
            if id(part) not in asked:
                self._use(part)

    def _each(self, each: Each) -> None:
        shape = self.shape(each.iterable)
        if shape is not None and not each.unpack:
            shape.be("list")
            shape.element = shape.element or Shape()
            self._variables[each.targets[0].number] = shape.element

    def _use(self, node: Node) -> None:
        match node:
            case Field() | Item():
                if (shape := self.shape(node)) is not None:
                    shape.optional = False
            case Compare(first, rest):
                self._compare([first, *(value for _, value in rest)])
            case Binary(operator, left, right):
                self._arithmetic(operator, left, right)
            case Call(function, arguments) if arguments:
                self._call(function, arguments)
            case Has(base, keys) | Get(base, keys, _):
                target: Node = base
                for key in keys:
                    target = Item(target, key)
                self.shape(target)

    def _call(self, function: Function, arguments: Sequence[Node]) -> None:
        first = arguments[0]
        guess = "list" if function.name == "len" else _BY_CATEGORY.get(function.category)
        if function.name in _OF_NUMBERS and isinstance(first, Loop):
            first, guess = first.element, "number"
        shape = self.shape(first)
        if shape is None or guess is None:
            return
        shape.be(guess)
        if function.name == "split" and len(arguments) > 1:
            shape.separator = next((c for c in _constants(arguments[1]) if isinstance(c, str)), "")

    def _compare(self, sides: list[Node]) -> None:
        constants = [value for side in sides for value in _constants(side)]
        for side in sides:
            if (shape := self.shape(side)) is not None:
                shape.constants += constants
                for constant in constants:
                    shape.be(_guess(constant))

    def _arithmetic(self, operator: str, left: Node, right: Node) -> None:
        text = any(isinstance(value, str) for side in (left, right) for value in _constants(side))
        for side in (left, right):
            if (shape := self.shape(side)) is not None:
                shape.be("text" if text and operator == "+" else "number")
                if operator == "%":
                    shape.constants += [0]

    def shape(self, node: Node) -> Shape | None:
        """The shape of what a node reads; None when that is no part of the record as it comes."""
        match node:
            case Field(name):
                return self._made[name] if name in self._made else self._root.at(name)
            case Variable(_, number):
                return self._variables.get(number)
            case Item(value, Constant(str() as name)):
                inner = self.shape(value)
                return None if inner is None else inner.at(name)
        return None


def _constants(node: Node) -> list[Any]:
    if isinstance(node, Constant):
        return [node.value]
    if isinstance(node, Display):
        return [value for child in children(node) for value in _constants(child)]
    return []


def _guess(constant: Any) -> Guess:
    if isinstance(constant, bool):
        return "bool"
    return "number" if isinstance(constant, int | float) else "text" if isinstance(constant, str) else "any"


def document(shape: Shape, chance: random.Random) -> dict[str, Any]:
    """A record of the shape."""
    made = _object(shape, chance)
    made.setdefault("id", chance.getrandbits(40))
    return made


def spoil(made: dict[str, Any], kept: str | None, chance: random.Random) -> None:
    """Take a field of a record away, or make it one that nobody can work with; never the field `kept`."""
    names = [name for name in made if name not in ("id", kept)]
    if names:
        name = chance.choice(names)
        del made[name]
        if chance.random() < 0.5:
            made[name] = {"wrong": chance.getrandbits(16)}


def _object(shape: Shape, chance: random.Random) -> dict[str, Any]:
    return {
        name: _value(name, inner, chance)
        for name, inner in shape.fields.items()
        if not inner.optional or chance.random() < 0.7
    }


def _value(name: str, shape: Shape, chance: random.Random) -> Any:
    if shape.guess == "list":
        element = shape.element or Shape()
        return [_value(name, element, chance) for _ in range(chance.randrange(5))]
    return _MAKERS.get(shape.guess, text_of)(name, shape, chance)


def number_of(name: str, shape: Shape, chance: random.Random) -> Any:
    """A number around those that it is compared with, or any."""
    known = [c for c in shape.constants if isinstance(c, int | float) and not isinstance(c, bool)]
    if not known:
        return round(chance.random() * 1000, 2)
    around = chance.choice(known)
    spread = max(abs(around), 10)
    return chance.choice((around, around + 1, round(around + (chance.random() * 2 - 0.7) * spread, 2)))


def text_of(name: str, shape: Shape, chance: random.Random) -> Any:
    """One of the texts that it is compared with, or another."""
    known = [c for c in shape.constants if isinstance(c, str)]
    if shape.separator:
        return shape.separator.join(f"{name}{chance.randrange(KEYS)}" for _ in range(8))
    if known and (len(known) > 3 or chance.random() < 0.7):
        return chance.choice(known)
    return f"{name}-{chance.randrange(KEYS)}"


_MAKERS: dict[str, Callable[[str, Shape, random.Random], Any]] = {
    "number": number_of,
    "bool": lambda name, shape, chance: chance.random() < 0.5,
    "time": lambda name, shape, chance: A_TIME + chance.randrange(86_400_000),
    "object": lambda name, shape, chance: _object(shape, chance),
}

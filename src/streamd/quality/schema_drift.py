"""Changes of what a source gives: fields that appear, vanish, or have another type than before. Pure.

What is known of a source is learnt from its first records, or said by a schema. A place is a path such as `user.name`
or `lines[].sku`; null says nothing of a type, and a whole number is a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from streamd.component.model import Model
from streamd.profile.values import kind_of
from streamd.quality.rules import Schema

Policy = Literal["ignore", "warn", "fail", "dead_letter"]
Kind = Literal["appeared", "vanished", "type_changed"]

# Of one record no more is looked at; a larger object has names that are data.
_PLACES, _ITEMS, _DEPTH, _MAP = 1_000, 20, 20, 200
# So many changes of a source are told. More fields than this that appear at one place are keys of a map.
MOST_CHANGES, _MOST_SIBLINGS = 100, 20
_NAME, _PATH = 60, 200
# A field that fewer of the first records had is not missed.
_RARE = 0.05
# So many different shapes of records are kept at once.
_SHAPES = 50


class SchemaDrift(Model):
    """What is done about records that are other than before."""

    policy: Policy = Field(
        "warn",
        description="`ignore` counts and lists changes, `warn` also logs each once; both look at a sample. `fail` and "
        "`dead_letter` check every record against the schema: one that does not fit stops the pipeline, or is a dead "
        "letter.",
        examples=["dead_letter"],
    )
    json_schema: Any = Field(
        None,
        description="What is known of the records, as JSON Schema: a file, or the schema itself. Without one it is "
        "learnt from the first records after each start.",
        examples=["order.schema.json"],
    )
    avro: Any = Field(None, description="The same as an Avro schema.", examples=["order.avsc"])
    learn: int = Field(
        200, ge=1, le=100_000, description="Without a schema: learn from so many records.", examples=[1000]
    )
    sample: int = Field(
        1, ge=1, le=100_000, description="How many records of each batch are looked at; the last is.", examples=[10]
    )
    vanished_after: int = Field(
        50,
        ge=1,
        description="A field has vanished when so many of the records looked at lack it; more, in proportion, of a "
        "field that not all records had.",
        examples=[500],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> SchemaDrift:
        given = self.schema_settings
        if self.every_record and given is None:
            raise ValueError(
                f"`policy: {self.policy}` needs a schema, json_schema or avro: after a restart another one would be "
                "learnt, and the same record treated in another way. `streamd inspect … --schema json` proposes one"
            )
        return self

    @property
    def schema_settings(self) -> Schema | None:
        """The schema as `validate` takes it; None where it is to be learnt."""
        given = {"json_schema": self.json_schema, "avro": self.avro}
        written = {name: schema for name, schema in given.items() if schema is not None}
        return Schema.model_validate(written) if written else None

    @property
    def every_record(self) -> bool:
        """Whether every record is checked."""
        return self.policy in ("fail", "dead_letter")

    @property
    def dead_letters(self) -> bool:
        """Whether it needs somewhere to put them."""
        return self.policy == "dead_letter"


class Change(NamedTuple):
    """`was` and `now` are types, empty where there was or is none. Nothing of a record's values is in it."""

    kind: Kind
    path: str
    was: str
    now: str


def words(change: Change) -> str:
    """A change for people; nothing of a record's values is in it."""
    match change.kind:
        case "appeared":
            return f"`{change.path}` has appeared ({change.now})"
        case "vanished":
            return f"`{change.path}` is missing ({change.was})"
    return f"`{change.path}` is {change.now}, and was {change.was}"


@dataclass(slots=True)
class Known:
    """What is known of one place. `expected`: how many records may lack it in a row; None: any number."""

    types: set[str]
    seen: int = 0
    expected: int | None = None
    absent: int = 0


class Shape(NamedTuple):
    """What records of one shape mean while nothing new is learnt: the places that are there, and those that are missed.

    Places that may be missing are in neither.
    """

    there: tuple[Known, ...]
    missed: tuple[tuple[str, Known], ...]


class Tracker:
    """Follows the records of one source."""

    def __init__(self, settings: SchemaDrift, schema: Any = None) -> None:
        """`schema`: a JSON Schema, parsed."""
        self._settings = settings
        self._known: dict[str, Known] = {}
        self._learnt = 0
        self._siblings: dict[str, int] = {}
        # Below these nothing is known or told: maps, and what a schema leaves open.
        self._open: set[str] = set()
        self._told: set[tuple[str, str, str]] = set()
        # Most records are like one before: names and types are compared, and nothing more.
        self._shapes: dict[Any, Shape] = {}
        self.learning = schema is None
        if schema is not None:
            self._of_schema(schema, schema, "", 0)

    @property
    def full(self) -> bool:
        """Whether no more changes are told."""
        return len(self._told) >= MOST_CHANGES

    def look(self, document: dict[str, Any]) -> list[Change]:
        """What is new in a record; each change is told once."""
        if self.learning:
            self._learn(_places(document))
            return []
        form = _form(document, 0)
        shape = self._shapes.get(form)
        if shape is None:
            return self._look_closely(document, form)
        for known in shape.there:
            known.absent = 0
        return [change for change in _missing(shape.missed) if self._first(change)]

    def _look_closely(self, document: dict[str, Any], form: Any) -> list[Change]:
        places = _places(document)
        changes: list[Change] = []
        fresh: set[str] = set()
        known_before = len(self._known), len(self._open)
        for path, types in places.items():
            parent = _parent(path)
            if parent in fresh or parent in self._open:
                (fresh if parent in fresh else self._open).add(path)
                if parent in fresh:
                    self._known.setdefault(path, Known(set())).types |= types
                continue
            self._compare(path, parent, types, fresh, changes)
        shape = self._shape(places)
        changes += _missing(shape.missed)
        if fresh or known_before != (len(self._known), len(self._open)) or len(self._shapes) >= _SHAPES:
            self._shapes.clear()
        else:
            self._shapes[form] = shape
        return [change for change in changes if self._first(change)]

    def _learn(self, places: dict[str, set[str]]) -> None:
        for path, types in places.items():
            known = self._known.setdefault(path, Known(set()))
            known.types |= types
            known.seen += 1
        self._learnt += 1
        if self._learnt >= self._settings.learn:
            self.learning = False
            for known in self._known.values():
                share = known.seen / self._learnt
                known.expected = None if share < _RARE else round(self._settings.vanished_after / share)

    def _compare(self, path: str, parent: str, types: set[str], fresh: set[str], changes: list[Change]) -> None:
        known = self._known.get(path)
        if known is None:
            self._known[path] = Known(set(types))
            fresh.add(path)
            if path.endswith("[]"):  # lists were empty before
                return
            self._siblings[parent] = self._siblings.get(parent, 0) + 1
            if self._siblings[parent] > _MOST_SIBLINGS:
                self._open.add(parent)
                return
            changes.append(Change("appeared", path, "", _named(types)))
            return
        known.absent = 0
        before = known.types - {"null"}
        new = types - known.types - ({"integer"} if "number" in known.types else set()) - {"null"}
        if new:
            known.types |= new
            fresh.add(path)
            if before:
                changes.append(Change("type_changed", path, _named(before), _named(new)))

    def _shape(self, places: dict[str, set[str]]) -> Shape:
        there: list[Known] = []
        missed: list[tuple[str, Known]] = []
        for path, known in self._known.items():
            if known.expected is None:
                continue
            if path in places:
                there.append(known)
            elif not (parent := _parent(path)) or parent in places:
                missed.append((path, known))
        return Shape(tuple(there), tuple(missed))

    def _first(self, change: Change) -> bool:
        key = (change.kind, change.path, change.now)
        if key in self._told or self.full:
            return False
        self._told.add(key)
        return True

    def _of_schema(self, schema: Any, root: Any, path: str, depth: int, *, required: bool = False) -> None:
        if isinstance(schema, dict) and str(schema.get("$ref", "")).startswith("#/"):
            schema = _found(root, schema["$ref"])
        if not isinstance(schema, dict) or depth > _DEPTH:
            self._open.add(path)
            return
        types = _types_of(schema)
        if path:
            expected = self._settings.vanished_after if required else None
            known = self._known.setdefault(path, Known(set(), expected=expected))
            known.types |= types
        for branch in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
            self._of_schema(branch, root, path, depth + 1, required=required)
        properties = schema.get("properties")
        if isinstance(properties, dict):
            for name, inner in properties.items():
                below = _joined(path, name)
                self._of_schema(inner, root, below, depth + 1, required=name in schema.get("required", ()))
        elif "object" in types or isinstance(schema.get("additionalProperties"), dict):
            self._open.add(path)
        if "items" in schema:
            self._of_schema(schema["items"], root, f"{path}[]", depth + 1)
        if not types and not any(word in schema for word in ("allOf", "anyOf", "oneOf", "properties", "items")):
            self._open.add(path)
            if path:
                del self._known[path]
                self._known[path] = Known(set(kinds_of_schemas()))


_SCHEMA_TYPES = {
    "null": "null",
    "boolean": "boolean",
    "integer": "integer",
    "number": "number",
    "string": "text",
    "array": "list",
    "object": "object",
}


def kinds_of_schemas() -> frozenset[str]:
    """All types that a JSON Schema can tell apart."""
    return frozenset(_SCHEMA_TYPES.values())


def _types_of(schema: dict[str, Any]) -> set[str]:
    written = schema.get("type", ())
    names = [written] if isinstance(written, str) else list(written)
    if not written:
        names = [kind_of(value) for value in schema.get("enum", [schema["const"]] if "const" in schema else [])]
    return {_SCHEMA_TYPES.get(name, name) for name in names}


def _found(root: Any, reference: str) -> Any:
    for step in reference[2:].split("/"):
        root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, dict) else None
    return root


def _missing(missed: tuple[tuple[str, Known], ...]) -> list[Change]:
    """Those that this record is one too many to lack."""
    found = []
    for path, known in missed:
        known.absent += 1
        if known.absent == known.expected:
            found.append(Change("vanished", path, _named(known.types), ""))
    return found


def _form(value: Any, depth: int) -> Any:
    """Names and types of a document, as far as `_walk` goes: equal for two of which it gives the same."""
    if depth > _DEPTH:
        return None
    if type(value) is dict:
        if len(value) > _MAP and depth:
            return dict
        types = tuple(map(type, value.values()))
        if dict not in types and list not in types:
            return (*value, *types)
        return (*value, *[_form(v, depth + 1) if type(v) in _HOLD_OTHERS else type(v) for v in value.values()])
    if len(value) == 1:
        return (list, _form(value[0], depth + 1) if type(value[0]) in _HOLD_OTHERS else type(value[0]))
    items = (_form(item, depth + 1) if type(item) in _HOLD_OTHERS else type(item) for item in value[:_ITEMS])
    return (list, *dict.fromkeys(items))


_HOLD_OTHERS = frozenset({dict, list})


def _places(document: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    _walk(document, "", found, 0)
    return found


def _walk(value: Any, path: str, places: dict[str, set[str]], depth: int) -> None:
    """{path: types} of a document, in the order in which they come, what holds others first."""
    if depth > _DEPTH or len(places) > _PLACES:
        return
    if type(value) is dict:
        if len(value) > _MAP and path:
            return
        for name, inner in value.items():
            below = _joined(path, name)
            places.setdefault(below, set()).add(kind_of(inner))
            if type(inner) is dict or type(inner) is list:
                _walk(inner, below, places, depth + 1)
    elif type(value) is list:
        below = f"{path}[]"
        for item in value[:_ITEMS]:
            places.setdefault(below, set()).add(kind_of(item))
            if type(item) is dict or type(item) is list:
                _walk(item, below, places, depth + 1)


def _joined(path: str, name: Any) -> str:
    text = str(name)[:_NAME]
    text = text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
    return f"{path}.{text}"[:_PATH] if path else text


def _parent(path: str) -> str:
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def _named(types: set[str]) -> str:
    return ", ".join(sorted(types))


def closed(schema: Any) -> Any:
    """The same schema, in which fields that it does not name are none: unless it says what becomes of others."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for word in ("items", "additionalProperties", "anyOf", "oneOf"):
        if word in made:
            made[word] = closed(made[word])
    for word in ("properties", "definitions", "$defs"):
        if isinstance(made.get(word), dict):
            made[word] = {name: closed(inner) for name, inner in made[word].items()}
    # Of several that a document must fit all of, none knows the fields of the others.
    if len(made.get("allOf", ())) == 1:
        made["allOf"] = closed(made["allOf"])
    says = {"additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref"}
    if "properties" in made and not says & made.keys():
        made["additionalProperties"] = False
    return made

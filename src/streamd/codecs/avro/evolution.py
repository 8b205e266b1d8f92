"""A schema grows with the documents: new fields, nullable, and types that hold wider values."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

from streamd.codecs.avro.schema import RECORDS, Schema, Type, kind, logical
from streamd.codecs.avro.values import Forms, UnfitError
from streamd.codecs.avro.writing import Writing
from streamd.errors import ConfigError

# More changes than this for one document are no evolution.
_MOST_CHANGES = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# {type: (type that holds the value as well, classes of such values)}
_WIDER = {"int": ("long", "double"), "long": ("double",), "float": ("double",)}


def untold(value: Any) -> bool:
    """Whether a value does not tell its type: null, an empty list or object, or one of nothing but these."""
    if isinstance(value, dict):
        return all(map(untold, value.values()))
    return all(map(untold, value)) if isinstance(value, list) else value is None


def schema_of(value: Any) -> Schema | None:
    """A schema that the value fits, of which nothing else is known; None when there is none."""
    of = "null" if value is None else _Change(Schema('"null"'), None).inferred(value, "Value")
    return None if of is None else Schema(json.dumps(of, ensure_ascii=False))


def evolved(schema: Schema, documents: Iterable[Any], forms: Forms, references: Iterable[str] = ()) -> Schema | None:
    """The schema that as many as can of the documents fit; None when none can be helped.

    New fields are nullable with the default null, and numbers become wider ones, as is backward compatible. A field
    that is null where it must not be becomes nullable. What else does not fit stays as it is, and a field of which no
    value has told the type yet waits for one that does.
    """
    grown = schema
    for document in documents:
        grown = _for_one(grown, document, forms, tuple(references)) or grown
    return None if grown is schema else grown


def _for_one(schema: Schema, document: Any, forms: Forms, references: tuple[str, ...]) -> Schema | None:
    for _ in range(_MOST_CHANGES):
        try:
            Writing(schema, forms, untold).encode(document)
        except UnfitError as error:
            data = copy.deepcopy(schema.data)
            if not _Change(schema, data).apply(error):
                return None
            try:
                schema = Schema(json.dumps(data, ensure_ascii=False), references)
            except ConfigError:
                return None
        else:
            return schema
    return None


def united(schema: Schema, other: Schema, references: Iterable[str] = ()) -> Schema:
    """The schema with the fields that only the other has, in records of one name; itself where there are none, or where
    they cannot be put together.
    """
    data, grown = copy.deepcopy(schema.data), False
    for name, node in other.named.items():
        own, theirs = _find(data, name, ""), _find(other.data, name, "")
        if kind(node) not in RECORDS or own is None or theirs is None:
            continue
        known = {field["name"] for field in own["fields"]}
        added = [field for field in theirs["fields"] if field["name"] not in known]
        own["fields"] += copy.deepcopy(added)
        grown = grown or bool(added)
    if not grown:
        return schema
    try:
        return Schema(json.dumps(data, ensure_ascii=False), tuple(references))
    except ConfigError:
        return schema


class _Change:
    """One change to a schema's JSON, for one value that does not fit."""

    def __init__(self, schema: Schema, data: Any) -> None:
        self._schema, self._data = schema, data
        self._names: set[str] = set(schema.named)

    def apply(self, error: UnfitError) -> bool:
        """Whether it could be made. `data` has it then."""
        if error.added is not None:
            record = self._record(error.node["name"])
            if record is None or not _NAME.fullmatch(error.added):
                return False
            of = self.inferred(error.value, f"{record['name'].rpartition('.')[2]}_{error.added}")
            if of is None:
                return False
            record["fields"].append({"name": error.added, "type": ["null", of], "default": None})
            return True
        field = self._field(error.path)
        return field is not None and self._widen(field, error)

    def _record(self, name: str) -> dict[str, Any] | None:
        return _find(self._data, name, "")

    def _field(self, path: list[str]) -> dict[str, Any] | None:
        """The field of a record that a path of plain names leads to, in the JSON."""
        node: Type = self._schema.type
        field: dict[str, Any] | None = None
        for name in path:
            record = self._inner_record(node)
            if record is None:
                return None
            written = self._record(record["name"])
            parsed = next((f for f in record["fields"] if f["name"] == name), None)
            if parsed is None or written is None:
                return None
            field = next((f for f in written["fields"] if f["name"] == name), None)
            node = parsed["type"]
        return field

    def _inner_record(self, node: Type) -> dict[str, Any] | None:
        node = self._schema.found(node)
        for branch in node if isinstance(node, list) else [node]:
            found = self._schema.found(branch)
            if kind(found) in RECORDS:
                return dict(found)
        return None

    def _widen(self, field: dict[str, Any], error: UnfitError) -> bool:
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        if error.value is None and "null" not in branches:
            # A default is of the first type.
            field["type"] = [*branches, "null"] if "default" in field else ["null", *branches]
            return True
        if error.value.__class__ not in (int, float):
            return False
        for index, branch in enumerate(branches):
            for wider in () if logical(branch) else _WIDER.get(kind(branch), ()):
                if wider in branches or not _holds(wider, error.value):
                    continue
                branches[index] = wider
                field["type"] = branches if isinstance(field["type"], list) else wider
                return True
        return False

    def inferred(self, value: Any, name: str) -> Type | None:
        """A type for a value that the schema knows nothing of; None when there is none that could hold the next."""
        if isinstance(value, list):
            return self._of_items(value, name)
        if isinstance(value, dict):
            return self._of_object(value, name)
        known = {bool: "boolean", int: "long", float: "double", str: "string"}
        return known.get(value.__class__) if value.__class__ is not int or _holds("long", value) else None

    def _of_items(self, items: list[Any], name: str) -> Type | None:
        present = [item for item in items if not untold(item)]
        of = self.inferred(present[0], name) if present else None
        if of is None:
            return None
        if of == "long" and any(item.__class__ is float for item in present):
            of = "double"
        return {"type": "array", "items": ["null", of] if None in items else of}

    def _of_object(self, value: dict[str, Any], name: str) -> Type | None:
        own, number = name, 2
        while own in {known.rpartition(".")[2] for known in self._names}:
            own, number = f"{name}_{number}", number + 1
        self._names.add(own)
        fields = []
        for key, part in value.items():
            if untold(part):
                continue
            of = self.inferred(part, f"{own}_{key}") if _NAME.fullmatch(key) else None
            if of is None:
                return None
            fields.append({"name": key, "type": ["null", of], "default": None})
        return {"type": "record", "name": own, "fields": fields}


def _holds(of: str, number: Any) -> bool:
    """Whether a type has this number as it is: none is rounded."""
    if of == "long":
        return number.__class__ is int and -(2**63) <= number < 2**63
    try:
        return number.__class__ is float or float(number) == number
    except OverflowError:
        return False


def _find(node: Any, name: str, namespace: str) -> dict[str, Any] | None:
    """The definition of a record by its full name, in a schema's JSON."""
    if isinstance(node, list):
        return next((found for item in node if (found := _find(item, name, namespace)) is not None), None)
    if not isinstance(node, dict):
        return None
    if "name" in node and node.get("type") in RECORDS:
        own = (
            node["name"]
            if "." in node["name"]
            else ".".join(filter(None, (node.get("namespace", namespace), node["name"])))
        )
        if own == name:
            return node
        namespace = own.rpartition(".")[0]
        inner: list[Any] = [field["type"] for field in node.get("fields", ())]
    else:
        inner = [node.get("items"), node.get("values")]
    return _find(inner, name, namespace)

"""Avro bytes → documents: a writer's schema, resolved against a reader's, as one schema that fastavro reads by.

The rules of the specification are worked out once for each pair of schemas. Where a value has to become another one (a
promotion, a default, a logical type, a field of another name), the type gets a step of ours that fastavro calls with
what it read there; everywhere else it is fastavro's own plain type, and costs nothing.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from io import BytesIO
from typing import Any, NoReturn

from streamd.codecs.avro.limits import SHALLOW_BYTES, counted, empty_items, endless, recursive
from streamd.codecs.avro.schema import NAMED, PRIMITIVES, RECORDS, Schema, Type, aliases, branch_name, kind, logical
from streamd.codecs.avro.values import Convert, Forms, UnfitError, reads
from streamd.errors import ExtractError

# A document; a value of any type where `records` is False.
Read = Callable[[bytes, int], Any]

# {type that was written: types that it may be read as}
_PROMOTIONS: Mapping[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_STEP = "streamd"
TOP = "top"
_KINDS = (*PRIMITIVES, *NAMED, "array", "map")


class MismatchError(Exception):
    """What was written by one schema cannot be read by the other. `path` leads to where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        return f"`{'.'.join(self.path)}`: {self.reason}" if self.path else self.reason


def reader(writer: Schema, target: Schema | None, forms: Forms, *, records: bool = True) -> Read:
    """What reads bytes that were written by `writer`, from an index on, as documents of `target` (or of the same).

    `records`: False where a value need be no record.

    Raises MismatchError when the two do not fit. What it gives raises ExtractError.
    """
    schema, types = prepared(writer, target, forms)
    schemaless, deep = schemaless_readers()
    shallow = SHALLOW_BYTES if recursive(types) else sys.maxsize

    def read(data: bytes, start: int) -> Any:
        buffer = BytesIO(data)
        buffer.seek(start)
        try:
            document: Any = (schemaless if len(data) < shallow else deep)(buffer, schema, None)[TOP]
        except FAILURES as error:
            raise failure(error) from None
        if buffer.tell() != len(data):
            raise ExtractError(f"not Avro of its schema: {len(data) - buffer.tell()} bytes are left over behind it")
        if records and document.__class__ is not dict:
            raise ExtractError("the Avro value is no record")
        return document

    plain = schema["fields"][0]["type"]
    return _text_reader(read) if not records and plain == "string" else read


def prepared(writer: Schema, target: Schema | None, forms: Forms) -> tuple[dict[str, Any], Any]:
    """The schema that fastavro reads by, and the types in it by name."""
    from fastavro.read import LOGICAL_READERS

    for of in _KINDS:
        LOGICAL_READERS.setdefault(f"{of}-{_STEP}", _call)
    schema = _Resolution(writer, target, forms).schema()
    types = schema["__named_schemas"]
    if empty_items(schema["fields"][0]["type"], types):
        raise MismatchError("an array of items that take no bytes could claim to have any number of them")
    if endless(types):
        raise MismatchError("a record that always holds another one of itself has no values")
    return schema, types


def schemaless_readers() -> tuple[Any, Any]:
    """fastavro's compiled reader, and the one that is Python and may go deeper."""
    import fastavro
    from fastavro import _read_py

    return fastavro.schemaless_reader, _read_py.schemaless_reader


FAILURES = (
    ExtractError,
    EOFError,
    struct.error,
    RecursionError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)


_TOLD: Mapping[type[Exception], str] = {
    IndexError: "it ends too early",
    KeyError: "it names a type of a union, or a symbol of an enum, that the schema does not have",
    OverflowError: "a number in it is out of range",
    MemoryError: "it claims to be larger than this machine's memory",
    ValueError: "a date or time in it is out of range",
}


def failure(error: BaseException) -> ExtractError:
    """What an error of fastavro's means."""
    if isinstance(error, ExtractError):
        return error
    if isinstance(error, EOFError | struct.error):
        return ExtractError("not Avro of its schema: it ends too early")
    if isinstance(error, UnicodeDecodeError):
        return ExtractError("not Avro of its schema: a text in it is not UTF-8")
    if isinstance(error, RecursionError):
        return ExtractError("Avro that is nested too deeply")
    for of, told in _TOLD.items():
        if isinstance(error, of):
            return ExtractError(f"not Avro of its schema: {told}")
    return ExtractError("not Avro of its schema: a value in it cannot be read")


def _text_reader(read: Read) -> Read:
    """What reads a short text that is all there is, as most keys are; anything else, and all errors, are `read`'s."""

    def read_text(data: bytes, start: int) -> Any:
        size = data[start] if len(data) > start else 1
        if size & 0x81 or len(data) - start - 1 != size >> 1:
            return read(data, start)
        try:
            return data[start + 1 :].decode()
        except UnicodeDecodeError:
            return read(data, start)

    return read_text


def _call(value: Any, written: Any, read: Any) -> Any:
    return written[_STEP](value)


class _Resolution:
    """One writer's schema against one reader's."""

    def __init__(self, writer: Schema, target: Schema | None, forms: Forms) -> None:
        self._writer, self._reader, self._forms = writer, target or writer, forms
        # {(writer's full name, reader's): the name of the record that is read by}, and {that name: the type}
        self._names: dict[tuple[str, str], str] = {}
        self._types: dict[str, dict[str, Any]] = {}
        self._same = target is None or target.data == writer.data

    def schema(self) -> dict[str, Any]:
        """As fastavro has it parsed: a record whose only field is what was written. That has the same bytes."""
        top = self._resolved(self._writer.type, self._reader.type)
        fields = [{"name": TOP, "type": top}]
        named = {"__fastavro_parsed": True, "__named_schemas": self._types}
        return {"type": "record", "name": TOP, "fields": fields, **named}

    def _resolved(self, written: Type, wanted: Type) -> Type:
        """The type to read what was written as what is wanted. Raises MismatchError."""
        if isinstance(written, list):
            return self._of_union(written, wanted)
        if isinstance(wanted, list):
            return self._into_union(written, wanted)
        written, wanted = self._writer.found(written), self._reader.found(wanted)
        of, to = kind(written), kind(wanted)
        if of in RECORDS and to in RECORDS:
            return self._record(written, wanted)
        if of == to == "enum":
            return self._enum(written, wanted)
        if of == to == "fixed":
            return self._fixed(written, wanted)
        if of == to == "array":
            return {"type": "array", "items": self._resolved_at("[]", written["items"], wanted["items"])}
        if of == to == "map":
            return {"type": "map", "values": self._resolved_at("{}", written["values"], wanted["values"])}
        if of in PRIMITIVES and (of == to or to in _PROMOTIONS.get(of, ())):
            return _with(of, _primitive(written, wanted, self._forms))
        raise MismatchError(f"{_told(of, written)} was written, which cannot be read as {_told(to, wanted)}")

    def _resolved_at(self, step: str, written: Type, wanted: Type) -> Type:
        try:
            return self._resolved(written, wanted)
        except MismatchError as error:
            error.path.insert(0, step)
            raise

    # Unions.

    def _of_union(self, written: list[Type], wanted: Type) -> Type:
        """Each branch for itself: only a record that has a branch that cannot be read is wrong."""
        branches: list[Type] = []
        failures: list[MismatchError] = []
        for index, branch in enumerate(written):
            try:
                # By the same schema each branch is itself, also where an earlier one could be read as well.
                own = self._tagged(wanted[index], self._resolved(branch, wanted[index])) if self._same else None
                branches.append(self._resolved(branch, wanted) if own is None else own)
            except MismatchError as error:
                failures.append(error)
                branches.append(self._refusing(branch, error))
        if len(failures) == len(written):
            raise failures[0]
        return counted(branches)

    def _into_union(self, written: Type, wanted: list[Type]) -> Type:
        """The first branch that it can be read as."""
        for branch in wanted:
            names = dict(self._names)
            try:
                return self._tagged(branch, self._resolved(written, branch))
            except MismatchError:
                # What was begun for this branch may hold parts that are not finished.
                self._names = names
        found = self._writer.found(written)
        raise MismatchError(f"{_told(kind(found), found)} was written, which is none of the union's types")

    def _tagged(self, branch: Type, node: Type) -> Type:
        """With `unions: tagged`, {branch: value} in place of the value."""
        if self._forms.unions == "plain" or kind(branch) == "null":
            return node
        name = branch_name(self._reader, branch)
        return self._then(node, lambda value: {name: value})

    def _then(self, node: Type, step: Convert) -> Type:
        """The type with one more step, for this one place."""
        if isinstance(node, str) and node in self._types:
            record = self._types[node]

            def both(value: Any) -> Any:
                # The record's own step may come later than this: it can be within itself.
                own = record.get(_STEP)
                return step(value if own is None else own(value))

            return _with({"type": "record", "name": node, "fields": record["fields"]}, both)
        before = node.get(_STEP) if isinstance(node, dict) else None
        return _with(node, step if before is None else lambda value: step(before(value)))

    def _refusing(self, branch: Type, error: MismatchError) -> Type:
        message = f"not readable with the schema that is asked for: {error}"

        def refuse(value: Any) -> NoReturn:
            raise ExtractError(message)

        return self._then(self._skipped(branch), refuse)

    # Named types.

    def _record(self, written: dict[str, Any], wanted: dict[str, Any]) -> Type:
        _check_names(written, wanted)
        key = (written["name"], wanted["name"])
        if key in self._names:
            return self._names[key]
        targets = self._targets(written, wanted)
        self._names[key] = name = f"T{len(self._types)}"
        fields: list[dict[str, Any]] = []
        self._types[name] = node = {"type": "record", "name": name, "fields": fields}
        for field in written["fields"]:
            target = targets.get(field["name"])
            of = self._skipped(field["type"]) if target is None else self._field(field, target)
            fields.append({"name": field["name"], "type": of})
        if [f["name"] for f in written["fields"]] != [f["name"] for f in wanted["fields"]]:
            node |= _with(node, self._shaped(targets, wanted))
        return name

    def _field(self, field: dict[str, Any], target: dict[str, Any]) -> Type:
        return self._resolved_at(target["name"], field["type"], target["type"])

    def _skipped(self, node: Type) -> Type:
        """What nobody wants: read as it is."""
        plain = _Resolution(self._writer, None, Forms())
        plain._types = self._types
        return plain._resolved(node, node)

    def _targets(self, written: dict[str, Any], wanted: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """{name of a field that was written: the field that it is for the reader}, by name or else by an alias."""
        names = {field["name"] for field in written["fields"]}
        targets: dict[str, dict[str, Any]] = {}
        for field in wanted["fields"]:
            also = [alias for alias in field.get("aliases", ()) if alias in names]
            source = field["name"] if field["name"] in names else also[0] if also else None
            if source is not None:
                targets[source] = field
            elif "default" not in field:
                error = MismatchError("was not written, and has no default")
                error.path.append(field["name"])
                raise error
        return targets

    def _shaped(self, targets: Mapping[str, dict[str, Any]], wanted: dict[str, Any]) -> Convert:
        """What makes the reader's record of one as it was written."""
        sources = {field["name"]: name for name, field in targets.items()}
        plan: list[tuple[str, str | None, Any, bool]] = []
        for field in wanted["fields"]:
            source = sources.get(field["name"])
            value = None if source is not None else default(self._reader, field["type"], field["default"], self._forms)
            plan.append((field["name"], source, value, isinstance(value, dict | list)))

        def shape(record: dict[str, Any]) -> dict[str, Any]:
            return {
                name: record[source] if source is not None else deepcopy(value) if mutable else value
                for name, source, value, mutable in plan
            }

        return shape

    def _enum(self, written: dict[str, Any], wanted: dict[str, Any]) -> Type:
        _check_names(written, wanted)
        known, other = frozenset(wanted["symbols"]), wanted.get("default")
        # By a mapping: of a list, a negative number out of damaged bytes would be a symbol from the end.
        node = {"type": "enum", "name": written["name"], "symbols": dict(enumerate(written["symbols"]))}
        if known >= set(written["symbols"]):
            return node

        def symbol(value: str) -> str:
            if value in known:
                return value
            if other is None:
                raise ExtractError(
                    f"not readable with the schema that is asked for: enum `{wanted['name']}` does not have the symbol "
                    "that was written, and has no default"
                )
            return str(other)

        return _with(node, symbol)

    def _fixed(self, written: dict[str, Any], wanted: dict[str, Any]) -> Type:
        _check_names(written, wanted)
        if written["size"] != wanted["size"]:
            raise MismatchError(f"{written['size']} bytes were written, which cannot be read as {wanted['size']}")
        _check_decimals(written, wanted)
        node = {"type": "fixed", "name": written["name"], "size": written["size"]}
        return _with(node, reads(wanted, self._forms))


def _with(node: Type, step: Convert | None) -> Type:
    """A type with a step of ours, if there is one."""
    if step is None:
        return node
    return {**(node if isinstance(node, dict) else {"type": node}), "logicalType": _STEP, _STEP: step}


def _check_names(written: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Named types match by their names without namespace, or by an alias of the reader's."""
    own, other = written["name"], wanted["name"]
    if own.rpartition(".")[2] != other.rpartition(".")[2] and own not in aliases(wanted):
        raise MismatchError(
            f"{kind(written)} `{own}` was written, which is not `{other}`; an alias in the reader's schema would say so"
        )


def _check_decimals(written: Type, wanted: Type) -> None:
    if logical(written) == logical(wanted) == "decimal" and written.get("scale", 0) != wanted.get("scale", 0):
        raise MismatchError(
            f"a decimal with {written.get('scale', 0)} digits behind the point was written, which cannot be read as "
            f"one with {wanted.get('scale', 0)}"
        )


def _primitive(written: Type, wanted: Type, forms: Forms) -> Convert | None:
    of, to = kind(written), kind(wanted)
    _check_decimals(written, wanted)
    meant = wanted
    family = logical(written).rpartition("-")[0]
    if family and family == logical(wanted).rpartition("-")[0]:
        meant = written  # the moment counts, not the number that stands for it
    convert = reads(meant, forms)
    if of == to or (of == "int" and to == "long") or (of == "float" and to == "double"):
        return convert
    if of == "string" and to == "bytes":
        return lambda value: convert(value.encode()) if convert is not None else value.encode()
    if of == "bytes":
        return bytes.decode
    return float


def _told(of: str, node: Type) -> str:
    named = f" `{node['name']}`" if of in NAMED and isinstance(node, dict) else ""
    return f"{'an' if of[0] in 'aei' else 'a'} {of}{named}"


def default(schema: Schema, node: Type, value: Any, forms: Forms) -> Any:
    """The document's value of a default, which stands in a schema as JSON. Raises MismatchError when it is none."""
    node = schema.found(node)
    of = kind(node)
    if of == "union":
        return _default_of_union(schema, node, value, forms)
    try:
        if of in RECORDS:
            return {
                field["name"]: default(schema, field["type"], value.get(field["name"], field.get("default")), forms)
                for field in node["fields"]
            }
        if of == "array":
            return [default(schema, node["items"], item, forms) for item in value]
        if of == "map":
            return {str(key): default(schema, node["values"], item, forms) for key, item in value.items()}
        return _plain_default(node, of, value, forms)
    except (AttributeError, TypeError, ValueError, UnfitError):
        raise MismatchError(f"its default is not {_told(of, node)}") from None


def _default_of_union(schema: Schema, branches: list[Type], value: Any, forms: Forms) -> Any:
    for branch in branches:
        try:
            found = default(schema, branch, value, forms)
        except MismatchError:
            continue
        tagged = forms.unions == "tagged" and kind(branch) != "null"
        return {branch_name(schema, branch): found} if tagged else found
    raise MismatchError("its default is none of the union's types")


_OF_CLASS: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "string": (str,),
    "bytes": (str,),
    "fixed": (str,),
    "enum": (str,),
}


def _plain_default(node: Type, of: str, value: Any, forms: Forms) -> Any:
    if type(value) not in _OF_CLASS[of] or (of == "enum" and value not in node["symbols"]):
        raise ValueError
    raw = value
    if of in ("float", "double"):
        raw = float(value)
    elif of in ("bytes", "fixed"):
        raw = value.encode("latin-1")
    if of == "fixed" and len(raw) != node["size"]:
        raise ValueError
    convert = reads(node, forms)
    return raw if convert is None else convert(raw)

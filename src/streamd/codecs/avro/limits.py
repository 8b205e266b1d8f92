"""What bytes of Avro could ask of a reader without having them: depth without end, and items that are nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamd.codecs.avro.schema import NAMED, PRIMITIVES, RECORDS, Type, kind

# fastavro's compiled reader goes down into a schema that holds itself without a limit: a value may end the process from
# some 3,000 levels on, and each level has a byte at least.
SHALLOW_BYTES = 1000


def counted(branches: list[Type]) -> list[Type]:
    """The branches of a union, of which a negative number, out of damaged bytes, is none: KeyError.

    Of a plain list it would be one from the end. The length is asked for by fastavro only to count from there. Both are
    C's own functions: one of Python's here would be called for every union that is read.
    """
    methods = {"__slots__": (), "__getitem__": dict(enumerate(branches)).__getitem__, "__len__": ().__len__}
    made: list[Type] = type("Branches", (list,), methods)(branches)
    return made


def recursive(types: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether one of the records, by name, holds itself."""
    done: set[str] = set()

    def visit(node: Type, within: frozenset[str]) -> bool:
        node = types.get(node) if isinstance(node, str) else node
        if not isinstance(node, Mapping) or kind(node) not in RECORDS:
            return any(visit(part, within) for part in _parts(node))
        name = str(node["name"])
        if name in within:
            return True
        if name in done:
            return False
        done.add(name)
        return any(visit(part, within | {name}) for part in _parts(node))

    return any(visit(name, frozenset()) for name in types)


def empty_items(node: Type, types: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether it has an array whose items take no bytes: its count alone could fill all memory."""
    nodes, seen = [node, *types.values()], set()
    while nodes:
        part = nodes.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if kind(part) == "array" and _least_bytes(part["items"], types, frozenset()) == 0:
            return True
        nodes += _parts(part)
    return False


def endless(types: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a record is within itself through nothing but records: it has no end, and may have no bytes."""

    def visit(node: Type, within: frozenset[str]) -> bool:
        node = types.get(node) if isinstance(node, str) else node
        if not isinstance(node, Mapping) or kind(node) not in RECORDS:
            return False
        name = str(node["name"])
        return name in within or any(visit(part, within | {name}) for part in _parts(node))

    return any(visit(node, frozenset()) for node in types.values())


def _parts(node: Type) -> list[Type]:
    if isinstance(node, list):
        return node
    if not isinstance(node, Mapping):
        return []
    if kind(node) in RECORDS:
        return [field["type"] for field in node["fields"]]
    return [node[key] for key in ("items", "values") if key in node]


def _least_bytes(node: Type, types: Mapping[str, Mapping[str, Any]], within: frozenset[str]) -> int:
    """0 for a type whose values may take none, else 1."""
    of = kind(node)
    if of == "null":
        return 0
    if of == "fixed":
        return min(1, int(node["size"]))
    if of in PRIMITIVES or (of in NAMED and of not in RECORDS) or of in ("union", "array", "map"):
        return 1
    record: Any = types[of] if isinstance(node, str) else node
    name = str(record["name"])
    if name in within:
        return 1  # it could never end
    return max((_least_bytes(field["type"], types, within | {name}) for field in record["fields"]), default=0)

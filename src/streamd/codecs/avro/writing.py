"""Documents → Avro bytes: one small function for each type of a schema, put together once.

fastavro's writer takes what it is given: a text as a boolean, a number that does not fit an int. Documents come from
anywhere, so that here each value is checked where it is written, unions take plain values, and what does not fit is
told with its path.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from streamd.codecs.avro.reading import MismatchError, default
from streamd.codecs.avro.schema import RECORDS, Schema, Type, branch_name, kind, logical
from streamd.codecs.avro.values import Convert, Forms, UnfitError, writes
from streamd.codecs.varint import varint

Write = Callable[[Any, bytearray], None]

_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_MISSING = object()
# Up to here each whole number has its own double, or float.
_EXACT, _EXACT_FLOAT = 2**53, 2**24
# What a union tries last: types whose values are texts that may as well be meant as texts.
_CONVERTED_LAST = frozenset({"bytes", "fixed"})
_CLASSES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "int": (int, float),
    "long": (int, float),
    "float": (int, float),
    "double": (float, int),
    "string": (str,),
    "enum": (str,),
    "bytes": (str, bytes),
    "fixed": (str, bytes),
    "array": (list,),
    "map": (dict,),
    "record": (dict,),
    "error": (dict,),
}
_TOLD: Mapping[type, str] = {
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
    bytes: "bytes",
    type(None): "null",
}


def zigzag(number: int) -> bytes:
    """A whole number of 64 bits as Avro writes it."""
    return varint((number << 1) ^ (number >> 63))


_SMALL = [zigzag(number) for number in range(4096)]


def _told(value: Any) -> str:
    return _TOLD.get(value.__class__, f"a {type(value).__name__}")


class Writing:
    """Writes documents of one schema. A field that it lacks is left out and counted if `ignores` says so."""

    def __init__(self, schema: Schema, forms: Forms, ignores: Callable[[Any], bool] = lambda value: False) -> None:
        """Raises MismatchError for a schema with a default that is none."""
        self._schema, self._forms, self._ignores = schema, forms, ignores
        self._left_out = 0
        self._made: dict[str, Write] = {}
        self._write = self._writer(schema.type)

    def encode(self, document: Any, start: bytes = b"") -> bytes:
        """`start` and the document behind it. Raises UnfitError."""
        out = bytearray(start)
        try:
            self._write(document, out)
        except RecursionError:
            raise UnfitError("it is nested too deeply", self._schema.type) from None
        return bytes(out)

    def taken(self) -> int:
        """How many fields were left out since the last call."""
        number, self._left_out = self._left_out, 0
        return number

    def _writer(self, node: Type) -> Write:
        node = self._schema.found(node)
        of = kind(node)
        if of == "union":
            return self._union(node)
        if of in RECORDS:
            return self._record(node)
        if of == "array":
            return _array(self._writer(node["items"]), node)
        if of == "map":
            return _map(self._writer(node["values"]), node)
        return _plain(node)

    def _record(self, node: dict[str, Any]) -> Write:
        name = node["name"]
        if name in self._made:
            return self._made[name]
        # One within itself is asked for before it is there.
        self._made[name] = lambda value, out: self._made[name](value, out)
        fields = [(f["name"], self._writer(f["type"]), self._default(f)) for f in node["fields"]]
        names = frozenset(field["name"] for field in node["fields"])
        known = len(names)
        ignores = self._ignores

        def write(value: Any, out: bytearray) -> None:
            if value.__class__ is not dict:
                raise UnfitError(f"expected a record, got {_told(value)}", node, value)
            found, get, at = known, value.get, ""
            try:
                for at, put, absent in fields:
                    part = get(at, _MISSING)
                    if part is not _MISSING:
                        put(part, out)
                    elif absent is None:
                        raise UnfitError("is missing, and the schema has no default", node)
                    else:
                        found -= 1
                        out += absent
            except UnfitError as error:
                error.path.insert(0, at)
                raise
            if found != len(value):
                extra = [key for key in value if key not in names]
                for key in extra:
                    if not ignores(value[key]):
                        raise _added(node, value, key)
                self._left_out += len(extra)

        self._made[name] = write
        return write

    def _default(self, field: dict[str, Any]) -> bytes | None:
        """The bytes of a field that a document lacks; None when it must not. A union with null has null."""
        if "default" not in field:
            branches = field["type"] if isinstance(field["type"], list) else []
            return _SMALL[branches.index("null")] if "null" in branches else None
        out = bytearray()
        try:
            value = default(self._schema, field["type"], field["default"], self._forms)
            self._writer(field["type"])(value, out)
        except MismatchError as error:
            error.path.insert(0, field["name"])
            raise
        except RecursionError:
            return None
        return bytes(out)

    def _union(self, branches: list[Type]) -> Write:
        if self._forms.unions == "tagged":
            return self._tagged(branches)
        ranked: dict[type, list[tuple[int, int]]] = {}
        for index, branch in enumerate(branches):
            for of in _classes(self._schema.found(branch)):
                ranked.setdefault(of, []).append((_rank(self._schema.found(branch), of), index))
        puts = [self._writer(branch) for branch in branches]
        by_class = {of: [(_SMALL[at], puts[at]) for _, at in sorted(found)] for of, found in ranked.items()}
        names = ", ".join(branch_name(self._schema, branch) for branch in branches)

        def write(value: Any, out: bytearray) -> None:
            candidates = by_class.get(value.__class__, ())
            mark, before = len(out), self._left_out
            failure: UnfitError | None = None
            # Of records that all fit with fields left out, the one that leaves out the fewest: (how many, bytes).
            best: tuple[int, bytes] | None = None
            for start, put in candidates:
                out += start
                try:
                    put(value, out)
                except UnfitError as error:
                    failure = failure or error
                else:
                    lost = self._left_out - before
                    if not lost:
                        return
                    if best is None or lost < best[0]:
                        best = (lost, bytes(out[mark:]))
                del out[mark:]
                self._left_out = before
            if best is not None:
                self._left_out += best[0]
                out += best[1]
                return
            if failure is not None and len(candidates) == 1:
                raise failure
            raise UnfitError(f"expected one of {names}, got {_told(value)}", branches, value)

        return write

    def _tagged(self, branches: list[Type]) -> Write:
        named = {branch_name(self._schema, b): (_SMALL[i], self._writer(b)) for i, b in enumerate(branches)}
        names = ", ".join(named)

        def write(value: Any, out: bytearray) -> None:
            if value is None and "null" in named:
                out += named["null"][0]
                return
            if value.__class__ is not dict or len(value) != 1 or next(iter(value)) not in named:
                raise UnfitError(f"expected {{TYPE: value}} with one of {names}, or null", branches, value)
            [(name, part)] = value.items()
            start, put = named[name]
            out += start
            put(part, out)

        return write


def _added(node: Type, value: dict[str, Any], name: str) -> UnfitError:
    reason = "is no field of the schema"
    if value[name].__class__ is int and not -(2**63) <= value[name] < 2**63:
        reason += ", and a whole number beyond 64 bits has no type that it could get"
    error = UnfitError(reason, node, value[name], added=name)
    error.path.append(name)
    return error


def _rank(node: Type, value: type) -> int:
    """Plain types first: a text that may be a text is one, a number that is whole is written as a whole one."""
    of = kind(node)
    if logical(node) or of in _CONVERTED_LAST:
        return 3
    if of in ("int", "long") and value is float:
        return 4
    if of == "float":
        return 2
    return 1 if of == "double" and value is int else 0


def _classes(node: Type) -> tuple[type, ...]:
    name, of = logical(node), kind(node)
    if name == "decimal":
        return (str, int, float)
    if name == "duration":
        return (dict,)
    if name.startswith("timestamp-"):
        return (int, float, str)
    if name and of in ("int", "long"):
        return (str, int)
    return _CLASSES[of]


def _array(put: Write, node: Type) -> Write:
    def write(value: Any, out: bytearray) -> None:
        if value.__class__ is not list:
            raise UnfitError(f"expected a list, got {_told(value)}", node, value)
        if value:
            out += zigzag(len(value))
            index = 0
            try:
                for index, item in enumerate(value):  # noqa: B007 — which one failed
                    put(item, out)
            except UnfitError as error:
                error.path.insert(0, str(index))
                raise
        out.append(0)

    return write


def _map(put: Write, node: Type) -> Write:
    text = _plain("string")

    def write(value: Any, out: bytearray) -> None:
        if value.__class__ is not dict:
            raise UnfitError(f"expected an object, got {_told(value)}", node, value)
        if value:
            out += zigzag(len(value))
            try:
                for key, item in value.items():
                    text(key, out)
                    put(item, out)
            except UnfitError as error:
                # Keys of a map are contents.
                error.path.insert(0, "{}")
                raise
        out.append(0)

    return write


def _plain(node: Type) -> Write:
    of, convert = kind(node), writes(node)
    write = _fixed(node) if of == "fixed" else _enum(node) if of == "enum" else _PLAIN[of]
    return write if convert is None else _converted(convert, write, node)


def _converted(convert: Convert, write: Write, node: Type) -> Write:
    def converted(value: Any, out: bytearray) -> None:
        try:
            write(convert(value), out)
        except UnfitError as error:
            error.node, error.value = node, value
            error.args = (error.reason,)
            raise

    return converted


def _null(value: Any, out: bytearray) -> None:
    if value is not None:
        raise UnfitError(f"expected null, got {_told(value)}", "null", value)


def _boolean(value: Any, out: bytearray) -> None:
    if value is True:
        out.append(1)
    elif value is False:
        out.append(0)
    else:
        raise UnfitError(f"expected a boolean, got {_told(value)}", "boolean", value)


def _whole(value: Any, node: str) -> int:
    """A number that is whole, though it is written with a point: 1.0. Raises UnfitError."""
    article = "an int" if node == "int" else "a long"
    if value.__class__ is not float:
        raise UnfitError(f"expected {article}, got {_told(value)}", node, value)
    if not value.is_integer():
        raise UnfitError(f"expected {article}, got a number with a fraction", node, value)
    if abs(value) > _EXACT:
        raise UnfitError(
            f"expected {article}, got a number with a point beyond 2^53, which may be rounded", node, value
        )
    return int(value)


def _int(value: Any, out: bytearray) -> None:
    if value.__class__ is not int:
        value = _whole(value, "int")
    if 0 <= value < 4096:
        out += _SMALL[value]
    elif -(2**31) <= value < 2**31:
        out += zigzag(value)
    else:
        raise UnfitError("expected an int, got a whole number beyond 32 bits", "int", value)


def _long(value: Any, out: bytearray) -> None:
    if value.__class__ is not int:
        value = _whole(value, "long")
    if 0 <= value < 4096:
        out += _SMALL[value]
        return
    if not -(2**63) <= value < 2**63:
        raise UnfitError("expected a long, got a whole number beyond 64 bits", "long", value)
    # As in `zigzag`, without a call: most numbers come by here.
    rest = (value << 1) ^ (value >> 63)
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)


def _is_exact(value: int, form: struct.Struct) -> bool:
    """Whether a whole number is the same in a floating-point type. True for one beyond its range, which is refused."""
    try:
        [held] = form.unpack(form.pack(value))
    except (OverflowError, struct.error):
        return True
    return bool(held == value)


def _double(value: Any, out: bytearray) -> None:
    if value.__class__ is not float and value.__class__ is not int:
        raise UnfitError(f"expected a double, got {_told(value)}", "double", value)
    if value.__class__ is int and not -_EXACT <= value <= _EXACT and not _is_exact(value, _DOUBLE):
        raise UnfitError("expected a double, got a whole number that it would round", "double", value)
    try:
        out += _DOUBLE.pack(value)
    except (OverflowError, struct.error):
        raise UnfitError("expected a double, got a number beyond its range", "double", value) from None


def _float(value: Any, out: bytearray) -> None:
    if value.__class__ is not float and value.__class__ is not int:
        raise UnfitError(f"expected a float, got {_told(value)}", "float", value)
    if value.__class__ is int and not -_EXACT_FLOAT <= value <= _EXACT_FLOAT and not _is_exact(value, _FLOAT):
        raise UnfitError("expected a float, got a whole number that it would round", "float", value)
    try:
        out += _FLOAT.pack(value)
    except (OverflowError, struct.error):
        raise UnfitError("expected a float, got a number beyond its range", "float", value) from None


def _string(value: Any, out: bytearray) -> None:
    if value.__class__ is not str:
        raise UnfitError(f"expected a string, got {_told(value)}", "string", value)
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise UnfitError("a text holds half a surrogate pair, which has no UTF-8 form", "string") from None
    size = len(data)
    out += _SMALL[size] if size < 4096 else zigzag(size)
    out += data


def _bytes(value: Any, out: bytearray) -> None:
    out += zigzag(len(value))
    out += value


def _fixed(node: Any) -> Write:
    size = node["size"]

    def write(value: Any, out: bytearray) -> None:
        if len(value) != size:
            raise UnfitError(f"expected {size} bytes, got {len(value)}")
        out += value

    return write


def _enum(node: Any) -> Write:
    numbers = {symbol: zigzag(index) for index, symbol in enumerate(node["symbols"])}

    def write(value: Any, out: bytearray) -> None:
        number = numbers.get(value) if value.__class__ is str else None
        if number is None:
            raise UnfitError(f"expected a symbol of the enum {node['name']}, got {_other(value)}", node, value)
        out += number

    return write


def _other(value: Any) -> str:
    return "another text" if value.__class__ is str else _told(value)


_PLAIN: Mapping[str, Write] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _double,
    "string": _string,
    "bytes": _bytes,
}

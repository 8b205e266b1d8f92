"""`patch`: operations of a JSON Patch (RFC 6902), all or none.

Nothing that the document holds is changed in place: each list and object on the way to a change is copied, once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from streamd.component.fields import ExpressionField, FieldPath
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.errors import TransformError
from streamd.expr.limits import MAX_CELLS
from streamd.transform.fields import at
from streamd.transform.nodes import equal
from streamd.transform.patch_code import Step, compile_patch, index, paid

MAX_OPERATIONS = 10_000  # of a patch that comes out of a record
_END = "-"


def parse_pointer(value: object) -> tuple[str, ...]:
    """The names on the way of a JSON Pointer (RFC 6901); () is the whole. Raises ValueError."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str) or (value and not value.startswith("/")):
        raise ValueError("expected a JSON Pointer: /user/name, /items/0, /items/- for the end of a list")
    if re.search(r"~(?![01])", value):
        raise ValueError("expected a JSON Pointer in which ~ is written ~0, and a / inside a name ~1")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in value.split("/")[1:])


PointerField = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_pointer),
    WithJsonSchema({"type": "string", "pattern": "^(/|$)", "description": "A JSON Pointer (RFC 6901)."}),
]


class PatchOperation(Model):
    """One operation of a JSON Patch."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"] = Field(
        description="What to do at `path`; `test` only compares, and fails the patch.", examples=["replace"]
    )
    path: PointerField = Field(description="Where, as a JSON Pointer.", examples=["/user/name", "/items/-"])
    value: Any = Field(None, description="The value of add, replace and test.", examples=["Ada"])
    from_: PointerField | None = Field(
        None, alias="from", description="Where move and copy take their value from.", examples=["/old"]
    )

    @model_validator(mode="after")
    def _complete(self) -> PatchOperation:
        if self.op in ("add", "replace", "test") and "value" not in self.model_fields_set:
            raise ValueError(f"`value` is missing: {self.op} needs one")
        if self.op in ("move", "copy"):
            if self.from_ is None:
                raise ValueError(f"`from` is missing: {self.op} needs one")
            if self.op == "move" and self.path != self.from_ and self.path[: len(self.from_)] == self.from_:
                raise ValueError("a value cannot be moved into itself")
        return self


class Patch(Model):
    """A JSON Patch, written here or taken out of the record."""

    operations: list[PatchOperation] = Field(
        [], description="The operations, in order.", examples=[[{"op": "remove", "path": "/internal"}]]
    )
    from_: ExpressionField | None = Field(
        None,
        alias="from",
        description="A list of operations that the record itself has: a field, or an expression.",
        examples=["changes"],
    )
    in_: FieldPath | None = Field(
        None,
        alias="in",
        description="The field that is patched, whatever its value is. The whole document where not said.",
        examples=["profile"],
    )

    @model_validator(mode="after")
    def _one_source(self) -> Patch:
        if bool(self.operations) is (self.from_ is not None):
            raise ValueError("expected `operations`, or `from` for operations out of the record")
        return self


def writes_of(patch: Patch | list[PatchOperation]) -> frozenset[str] | None:
    """The top-level fields that a patch may change; None: any."""
    if isinstance(patch, Patch) and patch.in_ is not None:
        return frozenset(patch.in_[:1])
    operations = patch if isinstance(patch, list) else patch.operations
    places = [place for operation in operations for place in (operation.path, operation.from_) if place is not None]
    return frozenset(place[0] for place in places) if operations and all(places) else None


def write_patch(body: Body, patch: Patch | list[PatchOperation]) -> None:
    """Write what patches the document, or a field of it."""
    settings = Patch.model_validate({"operations": patch}) if isinstance(patch, list) else patch
    target = body.document() if settings.in_ is None else body.value(at(settings.in_))
    if settings.from_ is not None:
        patched = f"{body.constant('patch', apply_given)}({target}, {body.value(settings.from_)})"
    else:
        patched = f"{body.constant('patch', patcher(settings.operations))}({target})"
    if settings.in_ is not None:
        body.set_field(settings.in_, patched)
    elif settings.operations and all(operation.path for operation in settings.operations):
        body.replace_document(patched)  # it stays an object
    else:
        body.replace_document(f"{body.constant('patched_document', patched_document)}({patched})")


def patched_document(value: Any) -> dict[str, Any]:
    """A patch may replace the whole document, by an object only."""
    if value.__class__ is not dict:
        raise TransformError("patch: the document would not be an object any more")
    return value


def patcher(operations: Sequence[PatchOperation]) -> Callable[[Any], Any]:
    """The function from a value to the patched one. It raises TransformError where an operation cannot be done."""
    return compile_patch(
        [Step(operation.op, operation.path, operation.value, operation.from_ or ()) for operation in operations]
    )


def apply_given(value: Any, operations: Any) -> Any:
    """The value patched by operations that came with the record."""
    if operations.__class__ is not list or len(operations) > MAX_OPERATIONS:
        raise TransformError(f"patch: the operations are a list of at most {MAX_OPERATIONS:,}")
    return _Target(value).run([_step(number, given) for number, given in enumerate(operations)])


def _step(number: int, given: Any) -> Step:
    op = given.get("op") if given.__class__ is dict else None
    if op not in ("add", "remove", "replace", "move", "copy", "test"):
        raise TransformError(f"patch: operation {number} has no `op` of RFC 6902")
    wanted = {"move": "from", "copy": "from", "remove": "path"}.get(op, "value")
    if wanted not in given or "path" not in given:
        raise TransformError(f"patch: operation {number} ({op}) needs `path` and `{wanted}`")
    try:
        path, source = parse_pointer(given["path"]), parse_pointer(given["from"]) if wanted == "from" else ()
    except ValueError:
        raise TransformError(f"patch: operation {number} ({op}) has no JSON Pointer where one is needed") from None
    if op == "move" and path != source and path[: len(source)] == source:
        raise TransformError(f"patch: operation {number} moves a value into itself")
    return Step(op, path, given.get("value"), source)


class _Target:
    """Does the operations that a record brings with it, one by one: they are not worth a function of their own.

    A value while it is patched. `own` are the parts that were copied and may be changed: {id: part}.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self.own: dict[int, Any] = {}
        self.left = MAX_CELLS

    def run(self, steps: Sequence[Step]) -> Any:
        for number, (op, path, value, source) in enumerate(steps):
            try:
                self.step(op, path, value, source)
            except (LookupError, TypeError):
                raise TransformError(f"patch: operation {number} ({op}) has nothing at its path") from None
            except _NotEqualError:
                raise TransformError(f"patch: operation {number} (test): the value is another one") from None
        return self.value

    def step(self, op: str, path: tuple[str, ...], value: Any, source: tuple[str, ...]) -> None:
        match op:
            case "add":
                self.add(path, value)
            case "remove":
                self.remove(path)
            case "replace":
                self.get(path)
                self.replace(path, value)
            case "test":
                if not equal(self.get(path), value):
                    raise _NotEqualError
            case "copy":
                self.copy(path, self.get(source))
            case "move":
                value = self.get(source)
                if path != source:
                    self.remove(source)
                    self.add(path, value)

    def copy(self, path: tuple[str, ...], value: Any) -> None:
        self.left = paid(value, self.left)
        # Before it is put there: it is in two places then, of which one may be inside the other.
        self.own.clear()
        self.add(path, value)

    def get(self, path: tuple[str, ...]) -> Any:
        value = self.value
        for part in path:
            value = value[index(value, part)] if value.__class__ is list else _object(value)[part]
        return value

    def parent(self, path: tuple[str, ...]) -> Any:
        """What holds the value at the path, free to be changed."""
        self.value = held = self._owned(self.value)
        for part in path[:-1]:
            key: Any = index(held, part) if held.__class__ is list else part
            inner = self._owned(held[key] if held.__class__ is list else _object(held)[key])
            held[key] = inner
            held = inner
        return held if held.__class__ is list else _object(held)

    def _owned(self, value: Any) -> Any:
        if id(value) in self.own or value.__class__ not in (dict, list):
            return value
        copied = value.copy()
        self.own[id(copied)] = copied
        return copied

    def add(self, path: tuple[str, ...], value: Any) -> None:
        if not path:
            self.value = value
            return
        held = self.parent(path)
        if held.__class__ is list:
            held.insert(len(held) if path[-1] == _END else index(held, path[-1], end=True), value)
        else:
            held[path[-1]] = value

    def replace(self, path: tuple[str, ...], value: Any) -> None:
        if not path:
            self.value = value
            return
        held = self.parent(path)
        held[index(held, path[-1]) if held.__class__ is list else path[-1]] = value

    def remove(self, path: tuple[str, ...]) -> None:
        if not path:
            raise LookupError("the whole document cannot be removed")
        held = self.parent(path)
        del held[index(held, path[-1]) if held.__class__ is list else path[-1]]


class _NotEqualError(Exception):
    """A `test` of a patch."""


def _object(value: Any) -> Mapping[str, Any]:
    if value.__class__ is not dict:
        raise TypeError("a value without parts")
    return value

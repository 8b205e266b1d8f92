"""Operations on lists: `filter`, `map`, `sort`, `group`, `unique`, `zip`, `flatten`, `pivot`, `unpivot`.

Their expressions call the element at hand `item`; all other names are fields of the document. They become
comprehensions in the generated code, within the bounds that hold for those.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from streamd.component.fields import ExpressionField, FieldPath, parse_expression
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.expr import Expression
from streamd.expr.errors import ExpressionError
from streamd.expr.loops import is_plain
from streamd.expr.nodes import Binary, Loop, walk
from streamd.expr.nodes import Field as DocumentField
from streamd.transform import lists
from streamd.transform.fields import LIST, as_list, as_object, field_path, loop


class SortKey(Model):
    """One part of an order."""

    value: ExpressionField = Field(description="What is compared.", examples=["item.price"])
    descending: bool = Field(False, description="From the greatest to the least.", examples=[True])


def read_order(value: object) -> object:
    """The parts of an order: one expression or several, each as it is or in desc(…)."""
    given = value if isinstance(value, list) else [value]
    return [_sort_key(part) for part in given]


def _sort_key(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        tree: ast.expr | None = ast.parse(value.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        tree = None
    match tree:
        case ast.Call(ast.Name(("desc" | "asc") as order), [_], []):
            start = value.index("(") + 1
            text = value[start : value.rindex(")")]
            try:
                return SortKey(value=parse_expression(text), descending=order == "desc")
            except ExpressionError as error:
                raise ExpressionError(error.message, error.offset + start, error.length, error.hint) from None
    return SortKey(value=parse_expression(value), descending=False)


if TYPE_CHECKING:
    OrderField: TypeAlias = list[SortKey]
else:
    OrderField = Annotated[
        list[SortKey], BeforeValidator(read_order, json_schema_input_type=str | SortKey | list[str | SortKey])
    ]


class _OfList(Model):
    """What operations on one list have in common."""

    list_: ExpressionField = Field(
        alias="list", description="The list: a field, or an expression that gives one.", examples=["items"]
    )
    as_: FieldPath | None = Field(
        None,
        alias="as",
        description="Field that holds the result; without it the field that held the list.",
        examples=["cheap"],
    )

    @model_validator(mode="after")
    def _has_a_place(self) -> _OfList:
        if self.as_ is None and field_path(self.list_) is None:
            raise _at("as", "`as` is missing: the list is no field, so the result needs a name")
        return self

    @property
    def target(self) -> tuple[str, ...]:
        return self.as_ or field_path(self.list_) or ()

    @property
    def writes(self) -> frozenset[str]:
        return frozenset(self.target[:1])


def _at(field: str, message: str) -> ValidationError:
    error = PydanticCustomError("setting", "{message}", {"message": message})
    return ValidationError.from_exception_data(
        "list", [InitErrorDetails(type=error, loc=(field,), input=None)], hide_input=True
    )


class _Looped(_OfList):
    """An operation with expressions over each element."""

    each: str = Field(
        "item", description="What expressions call the element at hand.", examples=["line"], pattern=r"^[A-Za-z]\w*$"
    )

    @model_validator(mode="after")
    def _can_be_looped(self) -> _Looped:
        if keyword.iskeyword(self.each) or self.each in ("true", "false", "null"):
            raise _at("each", f"{self.each!r} cannot be a name")
        for field, value, where in self.loops():
            try:
                loop(self.each, value, where)
            except ExpressionError as error:
                raise _at(field, f"it stands in a loop over the list: {error.message}") from None
        return self

    def loops(self) -> list[tuple[str, str, str | None]]:
        """(setting, value of each element, condition) for each loop of the operation."""
        raise NotImplementedError

    def elements(self, body: Body) -> str:
        """A variable with the list."""
        elements = body.local("elements", body.value(self.list_))
        check = f"{body.constant('as_list', as_list)}({elements}, {type(self).__name__.lower()!r})"
        body.line(f"if {elements}.__class__ is not list: {check}")
        return elements

    def looped(self, body: Body, elements: str, value: object) -> str:
        return body.value(loop(self.each, str(value)), {LIST: elements})


class Filter(_Looped):
    """Elements that fulfil a condition."""

    where: ExpressionField = Field(
        description="The condition under which an element stays.", examples=["item.price > 10"]
    )

    def loops(self) -> list[tuple[str, str, str | None]]:
        return [("where", self.each, str(self.where))]

    def write(self, body: Body) -> None:
        where = loop(self.each, self.each, str(self.where))
        body.set_field(self.target, body.collect(self.target[-1], where, {LIST: self.elements(body)}))


class Map(_Looped):
    """Another value for each element."""

    value: ExpressionField | None = Field(
        None, description="The new value of each element.", examples=["item.price * item.quantity"]
    )
    fields: dict[str, ExpressionField] | None = Field(
        None, description="Or the fields of a new object for each.", examples=[{"sku": "item.sku"}], min_length=1
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Map:
        if (self.value is None) is (self.fields is None):
            raise ValueError("expected `value`, or `fields` for an object")
        return self

    def loops(self) -> list[tuple[str, str, str | None]]:
        if self.value is not None:
            return [("value", str(self.value), None)]
        return [("fields", str(value), None) for value in (self.fields or {}).values()]

    def write(self, body: Body) -> None:
        elements, fields = self.elements(body), self.fields or {}
        whole = self._whole()
        if whole is not None:
            body.set_field(self.target, body.collect(self.target[-1], whole, {LIST: elements}))
            return
        # Each field by itself: one that is cheap stays cheap whatever the others are.
        columns = [body.collect(name, loop(self.each, str(value)), {LIST: elements}) for name, value in fields.items()]
        body.set_field(self.target, _objects(list(fields), f"zip({', '.join(columns)})"))

    def _whole(self) -> Expression | None:
        """The value, or all fields in one loop, where that is one that needs no bounds."""
        if self.value is not None:
            return loop(self.each, str(self.value))
        fields = ", ".join(f"{name!r}: (\n{value}\n)" for name, value in (self.fields or {}).items())
        try:
            whole = loop(self.each, f"{{{fields}}}")
        except ExpressionError:  # too long, together
            return None
        return whole if isinstance(whole.node, Loop) and is_plain(whole.node) else None


def _objects(names: list[str], rows: str) -> str:
    """Source of a list of objects with these fields, whose values stand in the rows."""
    parts = [f"part_{number}" for number in range(len(names))]
    display = ", ".join(f"{name!r}: {part}" for name, part in zip(names, parts, strict=True))
    return f"[{{{display}}} for {', '.join(parts)}, in {rows}]"


class Sort(_Looped):
    """Elements in order. Equal ones stay as they were; nulls come last."""

    hints = dict.fromkeys(("order", "descending", "desc", "reverse"), "the greatest first is `by: desc(item.price)`")

    by: OrderField = Field(
        description="What elements are compared by: one expression or several, in desc(…) for the greatest first.",
        examples=["item.price", ["desc(item.price)", "item.sku"]],
        min_length=1,
    )

    def loops(self) -> list[tuple[str, str, str | None]]:
        return [("by", str(key.value), None) for key in self.by]

    def write(self, body: Body) -> None:
        elements = self.elements(body)
        descending = [key.descending for key in self.by]
        if all(self._is_quick(key.value) for key in self.by):
            each = f"each_{self.each}"
            keys = [f"lambda {each}: {body.value(key.value, {self.each: each})}" for key in self.by]
            sort = body.constant("sort", lists.sorter_by(descending))
        else:
            keys = [self.looped(body, elements, key.value) for key in self.by]
            sort = body.constant("sort", lists.sorter(descending))
        body.set_field(self.target, f"{sort}({elements}, {', '.join(keys)})")

    def _is_quick(self, key: Expression) -> bool:
        """Whether it may be worked out for each element by itself, and means the same there."""
        node = loop(self.each, str(key)).node
        if not isinstance(node, Loop) or not is_plain(node):
            return False
        return not any(
            (isinstance(part, Binary) and part.operator == "*")
            # A field may be in a variable of its own name, which the function's parameter would hide.
            or (isinstance(part, DocumentField) and (part.name == self.each or part.name.startswith("each")))
            for part in walk(node.element)
        )


class Group(_Looped):
    """Elements put together by a key, in the order of their first appearance."""

    by: ExpressionField = Field(description="The key.", examples=["item.category"])
    shape: Literal["list", "object"] = Field(
        "list",
        description='A list of {"key": …, "items": […]}, or an object whose names are the keys, which are texts then.',
        examples=["object"],
    )

    def loops(self) -> list[tuple[str, str, str | None]]:
        return [("by", str(self.by), None)]

    def write(self, body: Body) -> None:
        elements = self.elements(body)
        group = body.constant("group", lists.group_list if self.shape == "list" else lists.group_object)
        body.set_field(self.target, f"{group}({elements}, {self.looped(body, elements, self.by)})")


class Unique(_Looped):
    """The first of equal elements."""

    by: ExpressionField | None = Field(
        None, description="What makes elements equal; the whole element where not said.", examples=["item.id"]
    )

    def loops(self) -> list[tuple[str, str, str | None]]:
        return [("by", str(self.by), None)] if self.by is not None else []

    def write(self, body: Body) -> None:
        elements = self.elements(body)
        keys = elements if self.by is None else self.looped(body, elements, self.by)
        body.set_field(self.target, f"{body.constant('unique', lists.unique)}({elements}, {keys})")


class Flatten(_OfList):
    """The lists within a list taken apart."""

    depth: int = Field(1, description="How many levels of lists.", examples=[2], ge=1, le=100)

    def write(self, body: Body) -> None:
        flatten = body.constant("flatten", lists.flattener(self.depth))
        body.set_field(self.target, f"{flatten}({body.value(self.list_)})")


class Zip(Model):
    """What stands in the same place of several lists, together."""

    lists: list[ExpressionField] | dict[str, ExpressionField] = Field(
        description="The lists; with names, objects are made of them, else lists.",
        examples=[["names", "prices"], {"name": "names", "price": "prices"}],
        min_length=1,
    )
    as_: FieldPath = Field(alias="as", description="Field that holds the result.", examples=["products"])
    length: Literal["same", "shortest", "longest"] = Field(
        "same",
        description="Lists of unequal length are an error, are cut to the shortest, or filled with nulls.",
        examples=["shortest"],
    )

    @property
    def writes(self) -> frozenset[str]:
        return frozenset(self.as_[:1])

    def write(self, body: Body) -> None:
        given: Any = self.lists
        names = list(given) if isinstance(given, Mapping) else None
        sources = [body.value(each) for each in (given.values() if isinstance(given, Mapping) else given)]
        rows = f"{body.constant('zip_lists', lists.zipper(self.length))}({', '.join(sources)})"
        body.set_field(self.as_, f"list(map(list, {rows}))" if names is None else _objects(names, rows))


class Pivot(_Looped):
    """One object of the elements of a list: a member for each."""

    key: ExpressionField = Field(description="The name of the member, a text.", examples=["item.name"])
    value: ExpressionField = Field(description="The value of the member.", examples=["item.value"])
    duplicates: Literal["error", "first", "last", "list"] = Field(
        "error", description="What becomes of two elements with one name; `list` has all values.", examples=["last"]
    )

    def loops(self) -> list[tuple[str, str, str | None]]:
        return [("key", str(self.key), None), ("value", str(self.value), None)]

    def write(self, body: Body) -> None:
        elements = self.elements(body)
        pivot = body.constant("pivot", lists.pivoter(self.duplicates))
        keys, values = (self.looped(body, elements, expression) for expression in (self.key, self.value))
        body.set_field(self.target, f"{pivot}({keys}, {values})")


class Unpivot(Model):
    """A list of an object's members: an element for each."""

    object_: ExpressionField = Field(
        alias="object", description="The object: a field, or an expression that gives one.", examples=["readings"]
    )
    key: str = Field("key", description="The field of an element with the member's name.", examples=["sensor"])
    value: str = Field("value", description="The field of an element with the member's value.", examples=["reading"])
    as_: FieldPath | None = Field(
        None, alias="as", description="Field that holds the result; without it the field that held the object.",
        examples=["rows"],
    )  # fmt: skip

    @model_validator(mode="after")
    def _has_a_place(self) -> Unpivot:
        if self.as_ is None and field_path(self.object_) is None:
            raise _at("as", "`as` is missing: the object is no field, so the result needs a name")
        if self.key == self.value:
            raise _at("value", "`key` and `value` are the same field: expected two")
        return self

    @property
    def target(self) -> tuple[str, ...]:
        return self.as_ or field_path(self.object_) or ()

    @property
    def writes(self) -> frozenset[str]:
        return frozenset(self.target[:1])

    def write(self, body: Body) -> None:
        members = f"{body.constant('as_object', as_object)}({body.value(self.object_)}, 'unpivot')"
        unpivot = body.constant("unpivot", lists.unpivot)
        body.set_field(self.target, f"{unpivot}({members}, {self.key!r}, {self.value!r})")

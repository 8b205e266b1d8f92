"""One operation of `transform`: a mapping whose key says what it does; `when` has `then` and `else` beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamd.component.fields import ExpressionField, parse_field_path
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.transform.coerce import Coercion, Type, write_coerce
from streamd.transform.elements import Filter, Flatten, Group, Map, Pivot, Sort, Unique, Unpivot, Zip
from streamd.transform.fields import JsonPathField, TemplateField, tops
from streamd.transform.merge import Merge
from streamd.transform.patch import Patch, PatchOperation, write_patch, writes_of
from streamd.transform.select import Selection, write_select
from streamd.transform.shape import Prefix, Renaming, write_nest, write_rename, write_unnest


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _plain_names(value: Any) -> Any:
    """`unnest: address` and `unnest: [address]` are short for `unnest: {address: }`."""
    given = [value] if isinstance(value, str) else value
    return dict.fromkeys(given) if isinstance(given, list) and all(isinstance(name, str) for name in given) else given


class Operation(Model):
    """One operation."""

    select: dict[str, Selection | JsonPathField] | None = Field(
        None, description="Fields, each with a JSONPath whose values it gets.", examples=[{"ids": "$.items[*].id"}]
    )
    set: dict[str, ExpressionField] | None = Field(
        None, description="Fields, each with the expression of its value.", examples=[{"total": "price * quantity"}]
    )
    drop: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] | None = Field(
        None, description="Fields to remove; one that is not there is no error.", examples=[["internal", "user.email"]]
    )
    template: dict[str, TemplateField] | None = Field(
        None, description="Fields, each with a text that has expressions in braces.",
        examples=[{"greeting": "Hello {user.name}, you owe {total:.2f}"}],
    )  # fmt: skip
    rename: dict[str, Renaming | str] | None = Field(
        None,
        description="Fields, each with its new name, which no other field may have.",
        examples=[{"usr.nm": "user.name"}],
    )
    nest: dict[str, list[str] | Prefix] | None = Field(
        None, description="Objects, each with the fields that go into it.", examples=[{"address": ["street", "city"]}]
    )
    unnest: (
        Annotated[
            dict[str, Prefix | None],
            BeforeValidator(_plain_names, json_schema_input_type=str | list[str] | dict[str, Prefix | None]),
        ]
        | None
    ) = Field(None, description="Objects whose fields take their place.", examples=[["address"]])
    filter: Filter | None = Field(None, description="Keep elements of a list.")
    map: Map | None = Field(None, description="Give each element of a list another value.")
    sort: Sort | None = Field(None, description="Put the elements of a list in order.")
    group: Group | None = Field(None, description="Put the elements of a list together by a key.")
    zip: Zip | None = Field(None, description="Put several lists together, place by place.")
    flatten: Flatten | None = Field(None, description="Take apart the lists within a list.")
    unique: Unique | None = Field(None, description="Keep the first of equal elements of a list.")
    pivot: Pivot | None = Field(None, description="Make an object of the elements of a list.")
    unpivot: Unpivot | None = Field(None, description="Make a list of the members of an object.")
    merge: Merge | None = Field(None, description="Merge an object deeply into another.")
    coerce: dict[str, Coercion | Type] | None = Field(
        None, description="Fields, each with the type it is brought to.", examples=[{"amount": "int"}]
    )
    patch: Patch | list[PatchOperation] | None = Field(
        None, description="A JSON Patch (RFC 6902).", examples=[[{"op": "remove", "path": "/internal"}]]
    )
    when: ExpressionField | None = Field(
        None, description="A condition; `then` is done where it holds, `else` where not.", examples=["total > 100"]
    )
    then: list[Operation] | None = Field(None, description="Operations where `when` holds.", examples=[[]])
    else_: list[Operation] | None = Field(
        None, alias="else", description="Operations where `when` does not hold.", examples=[[]]
    )

    @field_validator("select", "set", "template", "rename", "nest", "unnest", "coerce", "drop")
    @classmethod
    def _names(cls, fields: Any) -> Any:
        for name in fields or ():
            parse_field_path(name)
        return fields

    @model_validator(mode="after")
    def _one(self) -> Operation:
        given = [name for name in _KNOWN if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(_KNOWN)
            raise ValueError(
                f"{' and '.join(given)} are two operations: expected each in an item of its own" if given
                else f"no operation: expected one of {known}"
            )  # fmt: skip
        if self.when is None and (self.then is not None or self.else_ is not None):
            raise ValueError("`then` and `else` are for `when`: expected only the operation")
        if self.when is not None and not self.then and not self.else_:
            raise ValueError("`then` is missing: expected operations that are done where `when` holds")
        if getattr(self, given[0]) in ({}, []):
            raise ValueError(f"{given[0]} has nothing to do: expected at least one field")
        return self

    @property
    def writes(self) -> frozenset[str] | None:
        """Top-level fields that may come out other than they went in; None: any of them."""
        if self.when is not None:
            return writes_together([*(self.then or ()), *(self.else_ or ())])
        name = next(name for name in _KNOWN if getattr(self, name) is not None)
        settings = getattr(self, name)
        if name in ("select", "set", "template", "coerce", "drop"):
            return tops(settings)
        if name == "rename":
            targets = [".".join(new.to) if isinstance(new, Renaming) else new for new in settings.values()]
            return tops(settings) | tops(targets)
        if name == "patch":
            return writes_of(settings)
        return None if name in ("nest", "unnest") else settings.writes

    def __str__(self) -> str:
        """In short, for `explain`."""
        name = next(name for name in _KNOWN if getattr(self, name) is not None)
        settings = getattr(self, name)
        if name in ("merge", "patch"):
            return name
        if name == "when":
            return f"when {settings}"
        return f"{name} {' '.join(settings if isinstance(settings, dict | list) else settings.writes)}"

    def write(self, body: Body) -> None:
        """Write the operation's lines."""
        for name, write in _WRITERS.items():
            settings = getattr(self, name)
            if settings is not None:
                write(body, settings)
                return
        if self.when is not None:
            self._write_when(body)
            return
        name = next(name for name in _KNOWN if getattr(self, name) is not None)
        getattr(self, name).write(body)

    def _write_when(self, body: Body) -> None:
        assert self.when is not None
        then, otherwise = self.then or [], self.else_ or []
        body.choose(
            [
                (f"if {body.value(self.when)}:", lambda: write_all(body, then)),
                ("else:", lambda: write_all(body, otherwise)),
            ]
        )


def write_all(body: Body, operations: list[Operation]) -> None:
    """Write operations, one after the other."""
    for operation in operations:
        operation.write(body)


def writes_together(operations: list[Operation]) -> frozenset[str] | None:
    """What several operations write; None: any field."""
    written: frozenset[str] = frozenset()
    for operation in operations:
        fields = operation.writes
        if fields is None:
            return None
        written |= fields
    return written


def _write_set(body: Body, fields: Mapping[str, Any]) -> None:
    for name, expression in fields.items():
        body.set_field(parse_field_path(name), body.value(expression))


def _write_drop(body: Body, names: list[str]) -> None:
    for name in names:
        body.drop_field(parse_field_path(name))


_WRITERS: Mapping[str, Callable[[Body, Any], None]] = {
    "select": write_select,
    "set": _write_set,
    "template": _write_set,
    "drop": _write_drop,
    "rename": write_rename,
    "nest": write_nest,
    "unnest": write_unnest,
    "coerce": write_coerce,
    "patch": write_patch,
}
_KNOWN = tuple(name for name in Operation.model_fields if name not in ("then", "else_"))

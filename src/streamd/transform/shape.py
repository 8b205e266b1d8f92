"""`rename`, `nest`, `unnest`: fields under other names and in other places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field

from streamd.component.event_time import json_name
from streamd.component.fields import FieldPath, parse_field_path
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.errors import TransformError
from streamd.expr.paths import MISSING
from streamd.transform.fields import as_object, at, found, need


class Renaming(Model):
    """The new name of a field."""

    to: FieldPath = Field(description="The new name; a dotted one leads into an object.", examples=["user.name"])
    on_missing: Literal["error", "skip"] = Field(
        "error", description="What a record without the field means.", examples=["skip"]
    )


class Prefix(Model):
    """Fields whose names begin alike."""

    prefix: str = Field(description="What the names begin with; within the object they are without it.",
                        examples=["address_"], min_length=1)  # fmt: skip


def write_rename(body: Body, fields: Mapping[str, str | Renaming]) -> None:
    """Move each field. All are taken before any is put: two names can be exchanged. Another field that has the new name
    is an error.
    """
    moved: list[tuple[str, tuple[str, ...], Renaming]] = []
    for name, given in fields.items():
        rule = given if isinstance(given, Renaming) else Renaming.model_validate({"to": given})
        path = parse_field_path(name)
        if rule.on_missing == "skip":
            moved.append((body.local(path[-1], found(body, path)), path, rule))
        else:
            moved.append((body.local(path[-1], body.value(at(path))), path, rule))
    for _, path, _ in moved:
        body.drop_field(path)
    for value, _, rule in moved:
        # An object all of whose fields were taken is in nobody's way.
        left = any(len(path) > len(rule.to) and path[: len(rule.to)] == rule.to for _, path, _ in moved)
        if rule.on_missing == "error":
            _put(body, rule.to, value, left)
            continue

        def put(path: tuple[str, ...] = rule.to, value: str = value, left: bool = left) -> None:
            _put(body, path, value, left)

        there = f"if {value} is not {body.constant('MISSING', MISSING)}:"
        body.choose([(there, put), ("else:", lambda: None)])


def _put(body: Body, path: tuple[str, ...], value: str, left: bool) -> None:
    if len(path) == 2:
        holder = body.field_or(path[0], body.constant("MISSING", MISSING))
        value = f"{body.constant('with_new', with_new(path, left))}({holder}, {value})"
        body.set_field(path[:1], value)
        return
    there = found(body, path)
    if there != body.constant("MISSING", MISSING):
        value = f"{body.constant('into', into('.'.join(path), left))}({there}, {value})"
    body.set_field(path, value)


def with_new(path: tuple[str, str], left: bool) -> Callable[[Any, Any], dict[str, Any]]:
    """Gives an object, null or missing perhaps, with a field that it has not yet, or, where `left`, an empty object in
    its place. The object is not changed itself.
    """
    free, name = into(".".join(path), left), path[1]

    def put(holder: Any, value: Any) -> dict[str, Any]:
        if holder.__class__ is not dict:
            return with_fields(holder, {name: value})
        return {**holder, name: free(holder[name], value) if name in holder else value}

    return put


def into(name: str, left: bool) -> Callable[[Any, Any], Any]:
    """Gives a value for a place that has none yet (MISSING), or, where `left`, an object without fields."""

    def put(there: Any, value: Any) -> Any:
        if there is not MISSING and not (left and there == {}):
            raise TransformError(f"rename: the record has a field {name!r} already; drop one, or take another name")
        return value

    return put


def write_nest(body: Body, fields: Mapping[str, list[str] | Prefix]) -> None:
    """Put fields into objects."""
    for name, given in fields.items():
        target = parse_field_path(name)
        if isinstance(given, Prefix):
            nest = body.constant("nest", nester(target[0] if len(target) == 1 else target, given.prefix))
            body.replace_document(f"{nest}({body.document()})")
            continue
        paths = [parse_field_path(inner) for inner in given]
        values = [body.local(path[-1], body.value(at(path))) for path in paths]
        for path in paths:
            body.drop_field(path)
        display = ", ".join(f"{path[-1]!r}: {value}" for path, value in zip(paths, values, strict=True))
        holder = found(body, target)
        body.set_field(target, f"{body.constant('with_fields', with_fields)}({holder}, {{{display}}})")


def with_fields(holder: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """An object, null or missing perhaps, with fields that it gets; it is not changed itself."""
    if holder is MISSING or holder is None:
        return fields
    if holder.__class__ is not dict:
        raise TransformError(f"cannot set {next(iter(fields))!r} inside {json_name(holder)}")
    return {**holder, **fields}


def nester(target: str | tuple[str, ...], prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that puts the fields with a prefix into an object."""
    path = (target,) if isinstance(target, str) else target

    def nest(document: dict[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        inner: dict[str, Any] = {}
        for name, value in document.items():
            if name.startswith(prefix) and name != prefix:
                inner[name[len(prefix) :]] = value
            else:
                kept[name] = value
        if not inner:
            return document
        holder = kept
        for step in path[:-1]:
            holder[step] = holder = dict(as_object(holder.get(step, {}), "nest"))
        holder[path[-1]] = {**as_object(holder.get(path[-1], {}), "nest"), **inner}
        return kept

    return nest


def write_unnest(body: Body, fields: Mapping[str, Prefix | None]) -> None:
    """Take the fields of objects out of them."""
    for name, given in fields.items():
        unnest = body.constant("unnest", unnester(parse_field_path(name), given.prefix if given is not None else ""))
        body.replace_document(f"{unnest}({body.document()})")


def unnester(path: tuple[str, ...], prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that puts an object's fields beside it, in its place, with a prefix before their names."""

    def unnest(document: dict[str, Any], steps: tuple[str, ...] = path) -> dict[str, Any]:
        name = steps[0]
        inner = document.get(name, MISSING)
        if inner.__class__ is not dict:
            as_object(need(inner, ".".join(path)), "unnest")
        if len(steps) > 1:
            return {**document, name: unnest(inner, steps[1:])}
        moved = {prefix + key: value for key, value in inner.items()} if prefix else inner
        before: dict[str, Any] = {}
        for key in document:
            if key == name:
                break
            before[key] = document[key]
        made = {**before, **moved, **document}
        if name in moved:
            made[name] = moved[name]
        else:
            del made[name]
        if len(made) < len(document) - 1 + len(moved):
            raise TransformError("unnest: a field of the object is also beside it; give them a `prefix`")
        return made

    return unnest

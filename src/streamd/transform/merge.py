"""`merge`: one object merged deeply into another, by a strategy."""

from __future__ import annotations

import math
from typing import Any
from typing import Literal as OneOf

from pydantic import Field

from streamd.component.fields import ExpressionField, FieldPath
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.errors import TransformError
from streamd.expr.nodes import Literal, Object
from streamd.expr.paths import MISSING
from streamd.transform.fields import as_object, found
from streamd.transform.identity import identity


class ByField(Model):
    """Elements are told apart by a field."""

    by: str = Field(description="The field that tells elements apart.", examples=["id"], min_length=1)


class Merge(Model):
    """Objects are merged field by field, however deep; all else as the settings say."""

    with_: ExpressionField = Field(
        alias="with", description="The object that is merged in: a field, or an expression.", examples=["changes"]
    )
    into: FieldPath | None = Field(
        None, description="The field that it goes into. The whole document where not said.", examples=["profile"]
    )
    lists: OneOf["replace", "append", "union"] | ByField = Field(
        "replace",
        description="What becomes of two lists: the new one, the old one and the new one behind it, the same without "
        "repetitions, or {by: FIELD}: objects with the same value there are merged, others are put behind.",
        examples=["append", {"by": "id"}],
    )
    wins: OneOf["new", "old", "error"] = Field(
        "new", description="Which of two values stays where they cannot be merged; or neither may be.", examples=["old"]
    )
    nulls: OneOf["set", "remove", "ignore"] = Field(
        "set",
        description="What a null that is merged in does: it is a value like any other, it removes the field (as in a "
        "JSON Merge Patch, RFC 7396), or nothing.",
        examples=["remove"],
    )

    @property
    def writes(self) -> frozenset[str] | None:
        return None if self.into is None else frozenset(self.into[:1])

    def write(self, body: Body) -> None:
        fields = self._overwrites()
        if fields is not None and self.into is None:
            for name, source in fields.items():
                body.set_field((name,), source)
            return
        if fields is not None and self.into is not None and len(self.into) == 1:
            old = body.local(self.into[0], body.field_or(self.into[0], "{}", usual=True))
            body.line(f"if {old}.__class__ is not dict: {body.constant('as_object', as_object)}({old}, 'merge')")
            display = "".join(f", {name!r}: {source}" for name, source in fields.items())
            body.set_field(self.into, f"{{**{old}{display}}}")
            return
        merge = body.constant("merge", Merger(self).merge)
        new = body.value(self.with_)
        if self.into is None:
            body.replace_document(f"{merge}({body.document()}, {new})")
        else:
            body.set_field(self.into, f"{merge}({found(body, self.into)}, {new})")

    def _overwrites(self) -> dict[str, str] | None:
        """Sources by name, where all that is merged in are constants that are set whatever is there."""
        if not isinstance(self.with_.node, Object) or self.wins != "new":
            return None
        fields: dict[str, str] = {}
        for key, value in self.with_.node.entries:
            if not (isinstance(key, Literal) and isinstance(value, Literal) and isinstance(key.value, str)):
                return None
            if not _is_written_plainly(value.value) or (value.value is None and self.nulls != "set"):
                return None
            fields[key.value] = repr(value.value)
        return fields


def _is_written_plainly(value: object) -> bool:
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


class Merger:
    """Merges by the settings. Changes neither object; the result may share parts with both."""

    def __init__(self, settings: Merge) -> None:
        self.wins, self.nulls = settings.wins, settings.nulls
        self.plain = self.nulls == "set"
        self.overwrites = self.plain and self.wins == "new"
        self.lists: Any = settings.lists if isinstance(settings.lists, str) else self._by(settings.lists.by)

    def merge(self, old: Any, new: Any) -> dict[str, Any]:
        """Raises TransformError where one of them is no object, and for a conflict where `wins` is "error"."""
        if type(old) is dict and type(new) is dict:
            return self.objects(old, new)
        return self.objects({} if old is MISSING else as_object(old, "merge"), as_object(new, "merge"))

    def objects(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        merged = {**old}
        plain, overwrites = self.plain, self.overwrites
        for name, value in new.items():
            if name not in old:
                if plain:
                    merged[name] = value
                elif value is not None:
                    merged[name] = self.taken(value)
            elif overwrites and type(value) is not dict and type(value) is not list:
                merged[name] = value
            elif value is not None or plain:
                merged[name] = self.values(old[name], value)
            elif self.nulls == "remove":
                del merged[name]
        return merged

    def values(self, old: Any, new: Any) -> Any:
        if old.__class__ is dict and new.__class__ is dict:
            return self.objects(old, new)
        if old.__class__ is list and new.__class__ is list and self.lists != "replace":
            if self.lists == "append":
                return old + new
            return _union(old, new) if self.lists == "union" else self.lists(old, new)
        if self.wins == "error" and identity(old) != identity(new):
            raise TransformError("merge: both have a value in the same place, and `wins` is error")
        return old if self.wins == "old" else self.taken(new)

    def taken(self, new: Any) -> Any:
        """A value that is merged with nothing: the nulls in it are none where nulls say something else."""
        return self.objects({}, new) if self.nulls != "set" and new.__class__ is dict else new

    def _by(self, name: str) -> Any:
        def merge_by(old: list[Any], new: list[Any]) -> list[Any]:
            merged = list(old)
            places: dict[Any, int] = {}
            for place, element in enumerate(old):
                if element.__class__ is dict and name in element:
                    places.setdefault(identity(element[name]), place)
            for element in new:
                known = identity(element[name]) if element.__class__ is dict and name in element else None
                if known in places:
                    merged[places[known]] = self.objects(merged[places[known]], element)
                else:
                    if known is not None:
                        places[known] = len(merged)
                    merged.append(element)
            return merged

        return merge_by


def _union(old: list[Any], new: list[Any]) -> list[Any]:
    first: dict[Any, Any] = {}
    for element in (*old, *new):
        first.setdefault(identity(element), element)
    return list(first.values())

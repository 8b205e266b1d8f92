"""`select`: what JSONPath queries find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from streamd.component.fields import ExpressionField, parse_field_path
from streamd.component.model import Model
from streamd.component.stage import Body
from streamd.errors import TransformError
from streamd.transform.fields import JsonPathField
from streamd.transform.jsonpath import JsonPath, normalized
from streamd.transform.nodes import NOTHING
from streamd.transform.query import step_source


class Selection(Model):
    """One field of `select`."""

    path: JsonPathField = Field(description="The JSONPath (RFC 9535).", examples=["$.items[?@.price < 10].id"])
    from_: ExpressionField | None = Field(
        None,
        alias="from",
        description="The value that `$` stands for: a field, or an expression. The whole document where not said.",
        examples=["order"],
    )
    as_: Literal["list", "first", "one", "count", "exists", "paths"] = Field(
        "list",
        alias="as",
        description="What the field holds: all values found, the first of them or null, the only one (else an error), "
        "how many there are, whether there is one, or the normalized path of each.",
        examples=["first"],
    )


def write_select(body: Body, fields: Mapping[str, Selection | JsonPath]) -> None:
    """Set each field to what its query finds; a bare JSONPath gives the list of all."""
    for name, given in fields.items():
        selection = given if isinstance(given, Selection) else Selection.model_validate({"path": given})
        path = parse_field_path(name)
        body.set_field(path, _shaped(body, path[-1], selection))


def _shaped(body: Body, hint: str, selection: Selection) -> str:
    path, shape = selection.path, selection.as_
    if shape == "paths":
        return f"{body.constant('paths', _paths(path))}({_root(body, selection)})"
    if path.steps is not None:
        return _single(body, hint, selection, path.steps)
    nodes = _nodes(body, hint, selection)
    match shape:
        case "list":
            return nodes
        case "count":
            return f"len({nodes})"
        case "exists":
            return f"{nodes} != []"
        case "first":
            found = body.local("nodes", nodes)
            return f"{found}[0] if {found} else None"
    return f"{body.constant('only_one', only_one)}({nodes})"


def _root(body: Body, selection: Selection) -> str:
    return body.document() if selection.from_ is None else body.value(selection.from_)


def _nodes(body: Body, hint: str, selection: Selection) -> str:
    """Source of the list of nodes. Of a query that begins with a name, only that field of the document is read."""
    path, name = selection.path, selection.path.first_name
    if selection.from_ is not None or name is None or path.reads_root:
        return f"{body.constant(f'select_{hint}', path.nodes)}({_root(body, selection)})"
    start = body.field_or(name, body.constant("NOTHING", NOTHING))
    return f"{body.constant(f'select_{hint}', path.beyond(1))}({start})"


def _single(body: Body, hint: str, selection: Selection, steps: tuple[str | int, ...]) -> str:
    """A path to at most one value: plain access, step by step."""
    nothing = body.constant("NOTHING", NOTHING)
    if selection.from_ is None and steps and isinstance(steps[0], str):
        value = body.field_or(steps[0], nothing)
        steps = steps[1:]
    elif selection.from_ is None and steps:
        value = nothing  # a document has no indexes
        steps = ()
    else:
        value = _root(body, selection)
    # A variable of its own, since it walks: `local` gives back one that holds a field, or a constant.
    value = body.local(hint, f"({value})")
    for step in steps:
        body.line(f"{value} = {step_source(value, step, nothing)}")
    match selection.as_:
        case "list":
            return f"[{value}] if {value} is not {nothing} else []"
        case "first":
            return f"{value} if {value} is not {nothing} else None"
        case "count":
            return f"1 if {value} is not {nothing} else 0"
        case "exists":
            return f"{value} is not {nothing}"
    return f"{body.constant('only_value', only_value)}({value})"


def only_one(nodes: list[Any]) -> Any:
    """The one value that was to be found."""
    if len(nodes) != 1:
        raise TransformError(f"select: the path finds {len(nodes)} values, one was expected")
    return nodes[0]


def only_value(value: Any) -> Any:
    """The value of a path that leads to one at most."""
    if value is NOTHING:
        raise TransformError("select: the path finds no value, one was expected")
    return value


def _paths(path: JsonPath) -> Any:
    def paths(root: Any) -> list[str]:
        return [normalized(location) for location, _ in path.locate(root)]

    return paths

"""pydantic's errors → findings in our words, one for each mistake a user made.

pydantic reports every member of a union that did not fit; of those only what concerns the member that was meant is
kept: the one whose shape (text, mapping, list) is that of the value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from streamd.config.diagnostics import one_of
from streamd.config.yaml_nodes import Node

Location: TypeAlias = tuple[int | str, ...]
# location → (node, key's node, the keys that led there)
Locate: TypeAlias = Callable[[Location], tuple[Node, Node, Location]]

_WANTED = {
    "string_type": "text",
    "string_sub_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "path_type": "a path",
    "none_required": "nothing",
}


# Said of a text that is not written as it must be; what it must be is in the field's description.
PATTERN = "does not fit"


@dataclass(slots=True)
class Finding:
    """One mistake. `code` is its diagnostic's; `path` are the keys that lead to `node`, `key` is the last one's node.

    `name` is the missing key; `wanted` completes "must be …", or else `text` says what is wrong; `error` is the
    exception of a field type of ours. `union` is (path, member) where pydantic tried several types.
    """

    code: str
    node: Node
    key: Node
    path: Location
    name: str = ""
    wanted: str = ""
    text: str = ""
    choices: tuple[str, ...] = ()
    error: Any = None
    union: tuple[Location, int | str] | None = None
    wrong_shape: bool = False
    at_key: bool = False


def findings(error: ValidationError, locate: Locate) -> list[Finding]:
    """All mistakes that a validation found, each once."""
    return _one_member_each([_finding(location, detail, locate) for location, detail in _details(error, ())])


def _details(error: ValidationError, prefix: Location) -> list[tuple[Location, Any]]:
    details: list[tuple[Location, Any]] = []
    for detail in error.errors(include_url=False, include_input=False):
        cause = detail.get("ctx", {}).get("error")
        location = (*prefix, *detail["loc"])
        if isinstance(cause, ValidationError):  # raised by a check of several fields, to point at one of them
            details += _details(cause, location)
        else:
            details.append((location, detail))
    return details


def _finding(location: Location, detail: Any, locate: Locate) -> Finding:
    kind, context = detail["type"], detail.get("ctx", {})
    place = location[:-1] if kind == "missing" else location
    node, key, path = locate(place)
    finding = Finding("wrong-value", node, key, path, union=_union(place, path))
    cause = context.get("error")
    if kind == "missing":
        finding.code, finding.name = "missing-key", str(location[-1])
    elif kind == "extra_forbidden":
        finding.code = "unknown-key"
    elif kind in ("literal_error", "enum"):
        finding.choices = tuple(part.strip(" '") for part in context["expected"].replace(" or ", ",").split(","))
        finding.wanted, finding.wrong_shape = one_of(finding.choices), True
    elif kind in _WANTED:
        finding.code, finding.wanted, finding.wrong_shape = "wrong-type", _WANTED[kind], True
    elif kind == "too_short" and context["field_type"] == "Dictionary":
        finding.text = "there has to be one name in it at least"
    elif kind == "string_pattern_mismatch":
        finding.text = PATTERN
    elif hasattr(cause, "offset") and hasattr(cause, "message"):
        finding.code, finding.error = "bad-expression", cause
    else:
        finding.at_key = kind == "unknown_option"
        _word(finding, str(cause) if cause is not None else detail["msg"])
    return finding


def _word(finding: Finding, message: str) -> None:
    for start in ("Input should be ", "expected "):
        if message.startswith(start):
            finding.wanted = message.removeprefix(start)
            return
    finding.text = message[0].lower() + message[1:] if message[1:2].islower() else message


def _union(location: Location, path: Location) -> tuple[Location, int | str] | None:
    """The first element of a location that is no key on the way, and the keys before it."""
    for index, element in enumerate(location):
        if element == "[key]":
            return None
        if index >= len(path) or path[index] != element:
            return path[:index], element
    return None


def _one_member_each(found: list[Finding]) -> list[Finding]:
    kept = [finding for finding in found if finding.union is None]
    unions: dict[Location, dict[int | str, list[Finding]]] = {}
    for finding in found:
        if finding.union is not None:
            path, member = finding.union
            unions.setdefault(path, {}).setdefault(member, []).append(finding)
    for path, members in unions.items():
        fitting: list[list[Finding]] = [
            errors for errors in members.values() if not any(e.wrong_shape and e.path == path for e in errors)
        ]
        if fitting:
            kept += min(fitting, key=lambda errors: len(list(errors)))
        else:
            kept.append(_joined([errors[0] for errors in members.values()]))
    return kept


def _joined(group: list[Finding]) -> Finding:
    joined = group[0]
    joined.wanted = " or ".join(dict.fromkeys(finding.wanted for finding in group if finding.wanted))
    joined.choices = tuple(choice for finding in group for choice in finding.choices)
    return joined


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names, also within unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def known_fields(model: type[BaseModel], path: Location) -> dict[str, FieldInfo]:
    """{key: field} of what is allowed at a path below a model."""
    return {key: info for candidate in _models_at(model, path) for key, info in _fields(candidate).items()}


def hint_of(model: type[BaseModel], path: Location, key: str) -> str:
    """What a model at a path below another says of a key that it does not have (`Model.hints`)."""
    hints = (getattr(found, "hints", {}).get(key, "") for found in _models_at(model, path))
    return next(filter(None, hints), "")


def _models_at(model: type[BaseModel], path: Location) -> list[type[BaseModel]]:
    models = [model]
    for element in path:
        inner = [
            found
            for candidate in models
            for key, info in _fields(candidate).items()
            if key == element
            for found in models_in(info.annotation)
        ]
        models = inner or models
    return models


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}

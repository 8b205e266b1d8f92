"""Chains and filters as `streamd components --from` shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import typer

from streamd.config.diagnostics import did_you_mean
from streamd.config.model_check import plain_value
from streamd.config.parameters import Parameter
from streamd.config.scalars import inline_yaml
from streamd.config.shared import Definition
from streamd.config.yaml_nodes import Mapping, Scalar
from streamd.config.yaml_nodes import Sequence as SequenceNode
from streamd.errors import ConfigError

_WIDTH = 100


def definitions(found: Sequence[Definition], name: str | None) -> Iterator[str]:
    """All of them in short, or those of one name whole. Raises ConfigError where there is none."""
    if not found:
        raise ConfigError("there are no chains or filters in these files; they stand below `chains:` and `filters:`")
    named = [definition for definition in found if definition.name == name]
    if name is not None and not named:
        hint = did_you_mean(name, [definition.name for definition in found])
        raise ConfigError(f"there is no chain or filter `{name}` in these files" + (f"; {hint}" if hint else ""))
    if name is None:
        yield from _overview(found)
        return
    for index, definition in enumerate(named):
        yield from [""] if index else []
        yield from _whole(definition)


def _overview(found: Sequence[Definition]) -> Iterator[str]:
    width = max(len(definition.name) for definition in found)
    kinds = [kind for kind in ("chain", "filter") if any(definition.kind == kind for definition in found)]
    for kind in kinds:
        yield _bold(f"{kind}s")
        for definition in found:
            if definition.kind == kind:
                yield f"  {definition.name:<{width}}  {definition.description}".rstrip()
                words = ", ".join(map(_short, definition.parameters.values()))
                pad = " " * (width + 4)
                yield from textwrap.wrap(words, _WIDTH, initial_indent=pad, subsequent_indent=pad)
        yield ""
    yield "`streamd components NAME --from PATH` shows one of them whole."


def _short(parameter: Parameter) -> str:
    return parameter.name if parameter.default is None else f"{parameter.name}={_default(parameter)}"


def _whole(definition: Definition) -> Iterator[str]:
    yield f"{_bold(f'{definition.kind} {definition.name}')}  {definition.place}"
    yield ""
    yield from textwrap.wrap(definition.description, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    if definition.kind == "chain":
        yield f"  Stages: {', '.join(_stages(definition))}."
    needed = ", ".join(f"{name}: …" for name, parameter in definition.parameters.items() if parameter.default is None)
    given = f", with: {{{needed}}}" if needed else ""
    yield f"  Use: `- {definition.kind}: {{name: {definition.name}{given}}}`"
    yield "  Parameters:" if definition.parameters else "  No parameters."
    for parameter in definition.parameters.values():
        state = "required" if parameter.default is None else f"default {_default(parameter)}"
        yield f"    {_bold(parameter.name)}  ({parameter.type}; {state})"
        indent = " " * 8
        yield from textwrap.wrap(parameter.description, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _stages(definition: Definition) -> Iterator[str]:
    items = definition.body.items if isinstance(definition.body, SequenceNode) else []
    for item in items:
        if isinstance(item, Scalar):
            yield item.text
        elif isinstance(item, Mapping):
            name = next((key for key in item.entries if key not in ("id", "from", "on_error")), "")
            inner = item.get("chain")
            inner = inner.get("name") if isinstance(inner, Mapping) else inner
            yield f"chain {inner.text}" if isinstance(inner, Scalar) else name


def _default(parameter: Parameter) -> str:
    node = parameter.default
    if node is None or (isinstance(node, Scalar) and node.hidden):
        return "***"
    return inline_yaml(plain_value(node))


def _bold(text: str) -> str:
    return typer.style(text, bold=True)

"""`streamd components`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamd.cli.definitions import definitions
from streamd.cli.options import SetOption, variables
from streamd.cli.settings_table import Setting, settings
from streamd.codecs.codec import FormatSpec
from streamd.codecs.registry import missing_package, names, spec_of
from streamd.component.registry import KINDS, Registry
from streamd.component.spec import ComponentSpec
from streamd.config.diagnostics import did_you_mean
from streamd.config.json_schema import first_line
from streamd.config.load import load_definitions
from streamd.errors import ConfigError
from streamd.expr import FUNCTIONS, Function

_WIDTH = 100


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A component, format, function, chain or filter.", show_default=False),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Show the chains and filters of this file, or of the files directly in this folder, and of what they "
            "import; folders within it are not looked into. May be repeated.",
            show_default=False,
        ),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Show the docs of sources, stages, sinks, formats and expression functions.

    With --from, show the chains and filters of files instead, with their parameters.
    """
    registry = Registry.default()
    if from_:
        lines = definitions(load_definitions(from_, registry, variables(set_)), name)
    else:
        lines = _overview(registry) if name is None else _docs(registry, name)
    typer.echo("\n".join(lines))


def specs(registry: Registry) -> list[ComponentSpec]:
    """Every component that can be loaded here, by kind and name."""
    found = []
    for kind in KINDS:
        for name in registry.names(kind):
            spec = registry.get(kind, name)
            if spec is not None:
                found.append(spec)
    return found


def format_specs() -> list[FormatSpec]:
    """Every format, each once: under its own name."""
    return [spec for name in names() if (spec := spec_of(name)).name == name]


def _overview(registry: Registry) -> Iterator[str]:
    for kind in KINDS:
        known = registry.names(kind)
        width = max(map(len, known), default=0)
        yield _bold(f"{kind}s")
        for name in known:
            try:
                spec = registry.get(kind, name)
                summary = first_line(spec.doc) if spec is not None else ""
            except ConfigError as error:
                summary = f"cannot be used here: {error}"
            yield f"  {name:<{width}}  {summary}"
        yield ""
    yield _bold("formats")
    found = format_specs()
    width = max(len(spec.name) for spec in found)
    for form in found:
        yield f"  {form.name:<{width}}  {missing_package(form) or first_line(form.doc)}"
    yield ""
    categories: dict[str, list[str]] = {}
    for function in FUNCTIONS.values():
        categories.setdefault(function.category, []).append(function.name)
    yield _bold("functions in expressions")
    width = max(map(len, categories), default=0)
    for category, names_in in sorted(categories.items()):
        indent = " " * (width + 4)
        text = textwrap.fill(" ".join(sorted(names_in)), _WIDTH, initial_indent=indent, subsequent_indent=indent)
        yield f"  {category:<{width}}  {text.strip()}"
    yield ""
    yield "`streamd components NAME` shows one of them whole."


def _docs(registry: Registry, name: str) -> Iterator[str]:
    found = [spec for kind in KINDS if (spec := registry.get(kind, name)) is not None]
    function = FUNCTIONS.get(name)
    forms = [form for form in format_specs() if form.name == name]
    if not found and not forms and function is None:
        known = [*(known for kind in KINDS for known in registry.names(kind)), *names(), *FUNCTIONS]
        hint = did_you_mean(name, known)
        hint = hint or "`--from PATH` shows chains and filters of files"
        raise ConfigError(f"there is no component or function `{name}`; {hint}")
    for index, spec in enumerate(found):
        yield from [""] if index else []
        yield from _component(spec)
    for form in forms:
        yield from [""] if found else []
        yield from _format(form)
    if function is not None:
        yield from [""] if found or forms else []
        yield from _function(function)


def _component(spec: ComponentSpec) -> Iterator[str]:
    yield _bold(f"{spec.kind} {spec.name}")
    yield ""
    yield from textwrap.indent(spec.doc.strip(), "  ").split("\n")
    if spec.kind == "sink":
        yield from ["", f"  Delivery: {spec.delivery}"] if "Delivery:" not in spec.doc else []
    rows = list(settings(spec.config))
    yield ""
    if spec.shorthand is not None:
        always = "always" if spec.shorthand_always else "a value that is no mapping"
        yield f"  What stands behind `{spec.name}:` is `{spec.shorthand}` ({always})."
    yield "  Settings:" if rows else "  No settings."
    for row in rows:
        yield from _setting(row)


def _format(form: FormatSpec) -> Iterator[str]:
    yield _bold(f"format {form.name}")
    yield ""
    yield from textwrap.indent(form.doc.strip(), "  ").split("\n")
    rows = list(settings(form.settings))
    yield from ["", "  Settings:" if rows else "  No settings."]
    for row in rows:
        yield from _setting(row)


def _setting(row: Setting) -> Iterator[str]:
    state = "required" if row.default is None else f"default {row.default}" if row.default else "optional"
    yield f"    {_bold(row.name)}  ({row.type}; {state})"
    text = row.description + (f" Example: {row.name.rpartition('.')[2]}: {row.example}" if row.example else "")
    yield from textwrap.wrap(text, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _function(function: Function) -> Iterator[str]:
    yield _bold(f"function {function.signature}")
    yield ""
    yield from textwrap.wrap(re.sub(r"\s+", " ", function.doc), _WIDTH, initial_indent="  ", subsequent_indent="  ")
    for text, result in function.examples:
        yield f"    {text}  →  {result!r}"


def _bold(text: str) -> str:
    return typer.style(text, bold=True)

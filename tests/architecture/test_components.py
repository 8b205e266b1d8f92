"""What holds for every component: it says what it is, what it promises, what each setting means, and has an example."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from streamd.component.registry import KINDS, Registry
from streamd.component.spec import ComponentSpec

REPOSITORY = Path(__file__).resolve().parents[2]
REGISTRY = Registry.default()
ALL = [(kind, name) for kind in KINDS for name in REGISTRY.names(kind)]

EXPECTED = {
    "source": {"file", "generate", "kafka", "log", "stdin"},
    "stage": {"drop", "enrich", "filter", "flatten", "map", "python", "rate_limit", "route", "set", "stamp"},
    "sink": {"discard", "file", "kafka", "log", "stdout"},
}


def spec_of(kind: Any, name: str) -> ComponentSpec:
    spec = REGISTRY.get(kind, name)
    assert spec is not None
    return spec


def models_within(annotation: object) -> list[type[BaseModel]]:
    """Models that a field's type holds, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_within(argument)]


def all_fields(model: type[BaseModel], seen: set[type[BaseModel]]) -> list[tuple[str, Any]]:
    if model in seen:
        return []
    seen.add(model)
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        found.append((f"{model.__name__}.{name}", field))
        for inner in models_within(field.annotation):
            found += all_fields(inner, seen)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_components_are_all_there(kind):
    assert EXPECTED[kind] <= set(REGISTRY.names(kind))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_component_says_what_it_is(kind, name):
    spec = spec_of(kind, name)
    first = spec.doc.strip().splitlines()[0]
    assert len(first) > 20
    assert first.endswith(".")


@pytest.mark.parametrize(("kind", "name"), [pair for pair in ALL if pair[0] != "stage"])
def test_sources_and_sinks_say_what_they_promise(kind, name):
    spec = spec_of(kind, name)
    text = f"{spec.doc}\n{spec.factory.__doc__ or ''}"
    assert any(line.strip().startswith("Delivery:") for line in text.splitlines())


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_setting_is_described(kind, name):
    fields = all_fields(spec_of(kind, name).config, set())
    assert [field for field, info in fields if not info.description] == []


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_component_has_a_test_of_its_name(kind, name):
    folder = REPOSITORY / "tests"
    wanted = [path for path in folder.rglob("test_*.py") if name.rstrip("s") in path.stem]
    assert wanted, f"no test file below tests/ has {name} in its name"


def named_components(node: object) -> set[str]:
    """Every key in an example: a component is named by one. A URI without a scheme is a file."""
    if isinstance(node, dict):
        named = set(node) | {key for value in node.values() for key in named_components(value)}
        return named | {"file"} if "uri" in node else named
    if isinstance(node, list):
        return {key for value in node for key in named_components(value)}
    return set()


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_component_has_an_example(kind, name):
    places = {"source": ("source", "sources"), "stage": ("stages",), "sink": ("sink", "sinks")}[kind]
    for path in (REPOSITORY / "config" / "pipelines").rglob("*.yaml"):
        if path.name.endswith(".test.yaml"):
            continue
        document = yaml.safe_load(path.read_text())
        if any(name in named_components(document.get(place)) for place in places):
            return
    pytest.fail(f"no pipeline in config/pipelines uses the {kind} {name}")

"""`streamd components` and `streamd schema`."""

from __future__ import annotations

import json

import pytest

from demo.command_line import Cli
from streamd.component.registry import KINDS, Registry
from streamd.expr import FUNCTIONS


def test_the_overview(cli: Cli) -> None:
    """Every component and every function is in it."""
    outcome = cli("components")

    assert outcome.code == 0
    words = set(outcome.out.split())
    assert {name for kind in KINDS for name in Registry.default().names(kind)} <= words
    assert set(FUNCTIONS) <= words


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in KINDS for n in Registry.default().names(k)])
def test_docs_of_a_component(cli: Cli, kind: str, name: str) -> None:
    """Its docs, and each of its settings."""
    outcome = cli("components", name)
    spec = Registry.default().get(kind, name)  # type: ignore[arg-type]

    assert outcome.code == 0
    assert spec is not None
    assert f"{kind} {name}" in outcome.out
    assert spec.doc.strip().split("\n")[0] in outcome.out
    for field, info in spec.config.model_fields.items():
        assert f"    {info.alias or field}  (" in outcome.out


def test_docs_of_a_function(cli: Cli) -> None:
    """Signature, what it does, examples."""
    outcome = cli("components", "lower")

    assert outcome.code == 0
    assert FUNCTIONS["lower"].signature in outcome.out
    assert "→" in outcome.out


def test_an_unknown_name(cli: Cli) -> None:
    """With a suggestion."""
    outcome = cli("components", "fliter")

    assert outcome.code == 2
    assert "did you mean `filter`?" in outcome.err


def test_schema(cli: Cli) -> None:
    """Valid JSON with every component; --service for streamd.yaml."""
    pipeline = json.loads(cli("schema").out)
    service = json.loads(cli("schema", "--service").out)

    for kind in KINDS:
        schema = pipeline["definitions"][kind]
        mapping = schema.get("anyOf", [schema])[0]
        assert set(Registry.default().names(kind)) <= set(mapping["properties"])
    assert {"app", "http", "kafka", "workers"} <= set(service["properties"])

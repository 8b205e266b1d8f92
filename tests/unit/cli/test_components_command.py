"""`streamd components` and `streamd schema`."""

from __future__ import annotations

import json

import pytest

from demo.command_line import Cli, Write
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


SHARED = """\
chains:
  clean:
    description: Orders that count
    parameters: {limit: {type: number, default: 50, description: Least amount}, rate: number}
    stages: [{filter: amount > $limit}, {set: {x: amount * $rate}}]
filters:
  home: country == "DE"
"""


def test_chains_and_filters_of_files(cli: Cli, write: Write) -> None:
    """Those of a file and of what it imports; one of them whole; mistakes in them."""
    write("shared.yaml", SHARED)
    write("p.yaml", "name: p\nimports: [shared.yaml]\nchains: {own: [{chain: {name: clean, with: {rate: 2}}}]}\n")

    overview = cli("components", "--from", "p.yaml")
    assert overview.code == 0
    for word in ("chains", "own", "clean", "Orders that count", "limit=50, rate", "filters", "home"):
        assert word in overview.out
    assert cli("components", "--from", ".").out == overview.out

    whole = cli("components", "clean", "--from", "shared.yaml")
    assert whole.out.startswith("chain clean  shared.yaml:2:3")
    assert "Stages: filter, set." in whole.out
    assert "Use: `- chain: {name: clean, with: {rate: …}}`" in whole.out
    assert "limit  (number; default 50)\n        Least amount" in whole.out

    unknown = cli("components", "claen", "--from", "shared.yaml")
    assert (unknown.code, unknown.out) == (2, "")
    assert "did you mean `clean`?" in unknown.err

    write("shared.yaml", SHARED.replace("$limit", "$limt"))
    assert "shared.yaml:5:32: error[bad-expression]" in cli("components", "--from", "shared.yaml").err

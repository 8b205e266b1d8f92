"""The reference and the JSON Schemas are what the code says, and the schemas accept what the program accepts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "config" / "pipelines").rglob("*.yaml"))
TESTS = [path for path in FILES if path.name.endswith(".test.yaml")]
EXAMPLES = [path for path in FILES if path not in TESTS]


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / "config" / "schemas" / f"{name}.schema.json").read_text())
    return found


def test_reference_and_schemas_are_up_to_date():
    made = reference().everything()
    stale = [str(name) for name, text in made.items() if (REPOSITORY / name).read_text() != text]
    assert stale == [], "run `make docs`"


def test_the_reference_folder_holds_nothing_else():
    made = {REPOSITORY / name for name in reference().everything()}
    folders = (REPOSITORY / "docs" / "reference", REPOSITORY / "config" / "schemas")
    assert {path for folder in folders for path in folder.iterdir()} == made


class OnIsText(yaml.SafeLoader):
    """As pipelines are read, and as YAML is since 1.2: `on` is a text, and no boolean."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own
        first: [one for one in resolvers if first not in "oO" or one[0] != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@pytest.mark.parametrize("name", ["pipeline", "streamd", "test"])
def test_schema_is_a_schema(name):
    jsonschema.Draft7Validator.check_schema(schema(name))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_fits_the_schema(path):
    jsonschema.Draft7Validator(schema("pipeline")).validate(yaml.load(path.read_text(), OnIsText))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_test_of_an_example_fits_the_schema(path):
    # Times without quotes are text to streamd and to JSON.
    document = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
    jsonschema.Draft7Validator(schema("test")).validate(document)


def test_service_file_fits_the_schema():
    jsonschema.Draft7Validator(schema("streamd")).validate(
        yaml.safe_load((REPOSITORY / "config" / "streamd.yaml").read_text())
    )


def test_schema_refuses_what_the_program_refuses():
    pipeline = yaml.safe_load((REPOSITORY / "config" / "pipelines" / "quickstart.yaml").read_text())
    pipeline["stages"].append({"fitler": "amount > 1"})
    assert not jsonschema.Draft7Validator(schema("pipeline")).is_valid(pipeline)

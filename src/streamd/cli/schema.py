"""`streamd schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streamd.component.registry import Registry
from streamd.config.json_schema import pipeline_schema, service_schema, shared_schema
from streamd.testing.schema import case_file_schema


def command(
    service: Annotated[bool, typer.Option("--service", help="The schema of streamd.yaml instead.")] = False,
    test: Annotated[bool, typer.Option("--test", help="The schema of test files (*.test.yaml) instead.")] = False,
    chains: Annotated[
        bool, typer.Option("--chains", help="The schema of files of chains and filters instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of a pipeline file, for editors.

    Save it, and say at the top of a pipeline file where it is:
    # yaml-language-server: $schema=pipeline.schema.json
    """
    if test:
        schema = case_file_schema()
    elif service:
        schema = service_schema()
    else:
        schema = (shared_schema if chains else pipeline_schema)(Registry.default())
    typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))

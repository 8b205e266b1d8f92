"""`streamd validate`."""

from __future__ import annotations

import typer

from streamd.api.options import ApiOptions
from streamd.cli.compile_pipeline import load_and_compile
from streamd.cli.options import ConfigOption, Paths, SetOption, service_settings, variables


def command(paths: Paths, config: ConfigOption = None, set_: SetOption = None) -> None:
    """Check pipelines without running them, and show every problem.

    Nothing is connected to; files that stages read (the table of `enrich`) must be there.
    """
    env = variables(set_)
    service = service_settings(config, env)
    ApiOptions.of(service.http).check()
    pipelines, shared = load_and_compile(paths, env, service)
    for pipeline, _, _ in pipelines:
        counts = [("source", pipeline.sources), ("stage", pipeline.stages), ("sink", pipeline.sinks)]
        if pipeline.tables:
            counts.insert(1, ("table", pipeline.tables))
        parts = ", ".join(f"{len(group)} {word}{'' if len(group) == 1 else 's'}" for word, group in counts)
        typer.echo(f"{pipeline.file}: pipeline {pipeline.name}: {parts}")
    for file in shared:
        offers = [("chain", file.library.chains), ("filter", file.library.filters)]
        typer.echo(f"{file.file}: {' and '.join(_count(len(known), word) for word, known in offers if known)}")
    said = [_count(len(pipelines), "pipeline")] if pipelines or not shared else []
    said += [_count(len(shared), "shared file")] if shared else []
    typer.echo(f"{' and '.join(said)} valid")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

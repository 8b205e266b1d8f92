"""Short ways to load a text with the demo components, and to look at what was found."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from demo.components import Load, Problems, Spots, demo_registry
from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError


@pytest.fixture
def registry() -> Registry:
    return demo_registry()


@pytest.fixture
def service() -> ServiceConfig:
    return ServiceConfig.model_validate({})


@pytest.fixture
def load(registry: Registry, service: ServiceConfig, tmp_path: Path) -> Load:
    """`load(text, **variables)`: the pipeline of a dedented text, in a file called p.yaml."""

    def load(text: str, **variables: str) -> PipelineConfig:
        file = tmp_path / "p.yaml"
        return load_pipeline_text(textwrap.dedent(text).lstrip("\n"), file, registry, variables, service)

    return load


@pytest.fixture
def problems(load: Load) -> Problems:
    """`problems(text, **variables)`: the diagnostics of a text that must not load."""

    def problems(text: str, **variables: str) -> list[Diagnostic]:
        with pytest.raises(ConfigError) as caught:
            load(text, **variables)
        assert caught.value.diagnostics
        return [diagnostic for diagnostic in caught.value.diagnostics if isinstance(diagnostic, Diagnostic)]

    return problems


@pytest.fixture
def spots(problems: Problems) -> Spots:
    """`spots(text, **variables)`: (code, line, column) of every diagnostic."""

    def spots(text: str, **variables: str) -> list[tuple[str, int, int]]:
        return [(d.code, d.place.line, d.place.column) for d in problems(text, **variables)]

    return spots

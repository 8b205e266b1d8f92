"""Stages run for real: in a pipeline over the embedded log, in the test's own loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from demo.inline_app import HEAD, InlineApp
from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


@pytest.fixture
def through(app: InlineApp) -> Callable[..., Awaitable[list[Any]]]:
    """`await through(yaml, *values)`: the documents that come out of a pipeline with these stages and settings."""

    async def run(yaml: str, *values: Any) -> list[Any]:
        await app.seed(list(values))
        await app.run(yaml)
        return await app.values()

    return run


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[str], list[Diagnostic]]:
    """`refused(yaml)`: the problems of a pipeline that must not load; the head has three lines."""

    def load(yaml: str) -> list[Diagnostic]:
        with pytest.raises(ConfigError) as caught:
            load_pipeline_text(HEAD + yaml, tmp_path / "p.yaml", Registry.default(), {}, ServiceConfig())
        return [one for one in caught.value.diagnostics if isinstance(one, Diagnostic)]

    return load

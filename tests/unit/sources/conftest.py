"""Where a source of files reads: a pipeline's folder, and one for its state."""

from __future__ import annotations

import pytest

from streamd.component.context import PipelineContext


@pytest.fixture
def context(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "data").mkdir()
    return PipelineContext("app", "orders", tmp_path / "state", tmp_path / "data")


@pytest.fixture
def data(context):
    return context.base_dir

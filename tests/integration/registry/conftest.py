"""What tests with a schema registry share: topics, and a registry that may be killed."""

from __future__ import annotations

import asyncio

import pytest

from services.registry import SchemaRegistry


@pytest.fixture
async def own_registry(tmp_path):
    """A registry that the test may kill."""
    folder = tmp_path / "registry"
    folder.mkdir()
    registry = SchemaRegistry(folder)
    yield registry
    await asyncio.to_thread(registry.discard)


@pytest.fixture
async def topics(make_topic):
    return await make_topic(2), await make_topic(2)

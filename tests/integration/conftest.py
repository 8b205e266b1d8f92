"""What tests of whole nodes share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from faults.running_node import RunningNode


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Callable[[], RunningNode]]:
    """Makes nodes, each with a folder of its own; what runs at the end is ended."""
    made: list[RunningNode] = []

    def make() -> RunningNode:
        folder = tmp_path / f"node-{len(made)}"
        folder.mkdir()
        made.append(RunningNode(folder))
        return made[-1]

    yield make
    for node in made:
        await node.close()

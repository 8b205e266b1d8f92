"""When the workers of a node die by themselves, and when that is only now and then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamd.verify.daemon import Spec
from streamd.verify.nodes import DEATHS, DeathWatch, Node, NodeFailedError


class Dying(Node):
    """A node that says how many of its workers have died, one after the other."""

    async def worker_deaths(self) -> int:
        return self.deaths.pop(0)


@pytest.fixture
def node(tmp_path: Path) -> Dying:
    spec = Spec("", "", "", "app", str(tmp_path), workers=1, port=0, until_idle=False, ended="")
    return Dying("node-1", tmp_path, spec, os.environ)


async def test_deaths_in_a_row_end_it_and_say_how(node: Dying) -> None:
    node.log.write_text('{"level":"error","worker":0,"pid":7,"code":-9,"event":"Worker died"}\nno JSON\n[1]\n')
    node.deaths = [0, DEATHS - 1, DEATHS]
    watch = DeathWatch(node)
    await watch.look()
    await watch.look()
    with pytest.raises(NodeFailedError, match=f"{DEATHS} times without any progress, the last by SIGKILL"):
        await watch.look()


async def test_deaths_with_progress_between_are_let_go_on(node: Dying) -> None:
    node.deaths = list(range(3 * DEATHS))
    watch = DeathWatch(node)
    for _ in range(3 * DEATHS):
        await watch.look()
        watch.progressed()


async def test_a_node_that_does_not_answer_for_a_moment_has_made_no_progress(node: Dying) -> None:
    node.deaths = [DEATHS - 1, 0, DEATHS]
    watch = DeathWatch(node)
    await watch.look()
    await watch.look()
    with pytest.raises(NodeFailedError, match=r"progress$"):
        await watch.look()

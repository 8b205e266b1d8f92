"""What is killed when: drawn from a seed, so that a schedule can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

What = Literal["worker", "node", "point"]

# Points at which a task passes by itself, time and again; those at its opening, which a killed worker leads to; those
# of a rebalance, which a node that goes and comes leads to.
COMMIT_POINTS = (
    "before_begin", "after_produce", "after_changelog", "after_flush", "after_positions", "before_commit",
    "commit_sent", "after_commit",
)  # fmt: skip
OPEN_POINTS = ("in_open", "in_restore")
REBALANCE_POINTS = ("in_assign", "in_revoke")
OF_STATE = ("after_changelog", "in_restore")

_POINTS_SHARE = 0.45
_NODES_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Strike:
    """One kill: of a worker, of a node, or of whoever comes to a point. `after`: seconds to wait before it."""

    what: What
    point: str = ""
    after: float = 0.0


def points(*, kafka: bool, nodes: int, stateful: bool) -> tuple[str, ...]:
    """The points that a pipeline comes to."""
    found = [*COMMIT_POINTS, *OPEN_POINTS, *(REBALANCE_POINTS if kafka and nodes > 1 else ())]
    return tuple(point for point in found if stateful or point not in OF_STATE)


def schedule(kills: int, seed: int, known: tuple[str, ...]) -> list[Strike]:
    """That many strikes: every point about as often, nodes now and then, else workers at any moment."""
    chance = random.Random(f"schedule {seed}")
    at_points = round(kills * _POINTS_SHARE) if known else 0
    of_nodes = min(max(1, round(kills * _NODES_SHARE)), kills - at_points) if kills > 1 else 0
    order = chance.sample(known, len(known))
    drawn = [("point", order[number % len(order)]) for number in range(at_points)]
    drawn += [("node", "")] * of_nodes
    drawn += [("worker", "")] * (kills - len(drawn))
    chance.shuffle(drawn)
    return [Strike(what, point, chance.random() * 0.2) for what, point in drawn]  # type: ignore[arg-type]

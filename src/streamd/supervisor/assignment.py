"""Which worker runs which task. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streamd.record import TaskId


def wanted_workers(tasks: int, workers: int | None, cores: int) -> int:
    """How many worker processes there should be: as configured, or one per core; never more than there are tasks."""
    return min(tasks, cores if workers is None else workers)


def place(
    tasks: Iterable[TaskId], workers: Sequence[int], home: Mapping[TaskId, int], load: Mapping[TaskId, float]
) -> dict[TaskId, int]:
    """Task → worker, for all tasks. Empty when there is no worker.

    A task stays at its `home` as long as the numbers of tasks differ by at most one; workers that have more give up the
    ones with the least load, since moving a task costs a restart of it. Tasks without a home go where the load (in any
    unit, missing: 0) and then the number of tasks is least, and where those are equal, where their pipeline has fewest.
    The same arguments give the same result.
    """
    todo = sorted(tasks)
    if not workers:
        return {}
    at: dict[int, list[TaskId]] = {worker: [] for worker in workers}
    homeless: list[TaskId] = []
    for task in todo:
        at[home[task]].append(task) if home.get(task) in at else homeless.append(task)
    share, extra = divmod(len(todo), len(workers))
    fullest = sorted(workers, key=lambda worker: -len(at[worker]))
    for rank, worker in enumerate(fullest):
        at[worker].sort(key=lambda task: (-load.get(task, 0.0), task))
        keep = share + (rank < extra)
        homeless.extend(at[worker][keep:])
        del at[worker][keep:]
    for task in sorted(homeless, key=lambda task: (-load.get(task, 0.0), task)):
        # `extra` workers have one task above their share; any may become one of them while not all are found.
        above = sum(len(placed) > share for placed in at.values())
        open_workers = [worker for worker in workers if len(at[worker]) < share + (above < extra)]
        at[min(open_workers, key=lambda worker: _fullness(task, worker, at[worker], load))].append(task)
    return {task: worker for worker, placed in at.items() for task in placed}


def _fullness(task: TaskId, worker: int, placed: list[TaskId], load: Mapping[TaskId, float]) -> tuple[float, ...]:
    neighbours = sum(other.pipeline == task.pipeline for other in placed)
    return sum(load.get(other, 0.0) for other in placed), len(placed), neighbours, worker

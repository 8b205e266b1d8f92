"""How good records are: windows of counts, what leaves a stage apart from its records, and the scores of all tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.grouping import Grouping
from streamd.component.model import Model
from streamd.component.spec import stage
from streamd.component.stage import Body
from streamd.component.state import Store
from streamd.quality.checks import ValidateSettings
from streamd.record import RawRecord, Result

# The topic of results that are counts and no records; no topic has such a name.
PARTS = "counts of a validate"


class ScoreWindows:
    """{end of a window: {names of the rules that are broken, with commas: records}}, in a task's store."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._size = max(1, round(1000 * seconds))
        self._times = store.times("scores")

    def count(self, time: int, names: str) -> None:
        """One more record in the window of a time."""
        self.add(time - time % self._size + self._size, names, 1)

    def add(self, end: int, names: str, records: int) -> None:
        """So many more."""
        table = self._times[end]
        table[names] = (table[names] or 0) + records
        table.dirty.add(names)

    def over(self, watermark: int) -> Iterator[tuple[int, dict[str, int]]]:
        """(end, counts) of the windows that are over, in order; they are forgotten."""
        for end in sorted(end for end in self._times if end <= watermark):
            counts = {str(names): count for names, count in sorted(self._times[end].scan())}
            self._times.drop(end)
            if counts:
                yield end, counts


class SplitSettings(Model):
    """None."""


@stage("validate", config=SplitSettings, outputs=lambda config: ("records", "counts"), keeps=lambda config, field: True)
class Split:
    """Behind a `validate` with scores: its records, and its counts."""

    spec: Any

    def __init__(self, config: SplitSettings, context: PipelineContext) -> None:
        pass

    async def prepare(self) -> None:
        """Nothing is to be loaded."""

    def fuse(self, body: Body) -> None:
        """By the topic, which a keyed stage gives to nothing else."""
        body.output("counts", f"{body.metadata('_topic')} == {PARTS!r}")
        body.output("records", None)


class ScoreSettings(Model):
    """What scores are of. `stage`: the id of the `validate`; `severities`: {rule: severity}."""

    stage: str
    window: float
    severities: dict[str, str]

    @property
    def by(self) -> Grouping:
        """The counts of all tasks have to be together."""
        return Grouping.model_validate({"fields": {}})

    @property
    def remembers(self) -> str:
        """What is kept and for how long, for people."""
        return "the counts of each window that is not over"


def score_settings(stage_id: str, settings: ValidateSettings) -> ScoreSettings:
    """The settings of the stage that makes scores of a `validate`."""
    assert settings.score is not None
    severities = {check.name: check.severity for check in settings.checks}
    return ScoreSettings.model_validate({"stage": stage_id, "window": settings.score.window, "severities": severities})


@stage(
    "validate",
    config=ScoreSettings,
    fused=False,
    keyed=True,
    state=lambda config: {"score.window": str(config.window)},
    own_key=True,
)
class Scores:
    """A `KeyedStage`: the counts of all tasks, added up and given as scores when their window is over."""

    spec: Any
    due: int | None = None

    def __init__(self, config: ScoreSettings, context: PipelineContext) -> None:
        self.config = config
        self._windows: ScoreWindows
        self._latest: dict[str, float] = {}

    async def prepare(self) -> None:
        """Nothing is to be loaded."""

    def lift(self, body: Body, port: int) -> str:
        """`(r, time, watermark, counts)`"""
        return f"(r, {body.metadata('_timestamp')}, {body.watermark()}, {body.document()})"

    async def open(self, task: TaskContext) -> None:
        """Take the table from the task's store."""
        assert task.store is not None
        self._windows = ScoreWindows(task.store, self.config.window)

    def restored(self) -> None:
        """Nothing is kept beside it."""

    def process(
        self, rows: list[tuple[Any, ...]], out: list[Result], failed: list[tuple[RawRecord, Exception]]
    ) -> None:
        """Add up."""
        for _, _, _, document in rows:
            for names, records in document["counts"].items():
                self._windows.add(document["end"], names, records)

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give the scores of windows that are over."""
        for end, counts in self._windows.over(watermark):
            score = score_of(self.config, end, counts)
            self._latest = {"": score["score"], **{name: rule["score"] for name, rule in score["rules"].items()}}
            out.append(Result(score, self.config.stage.encode(), end - 1))
        return watermark

    @property
    def latest(self) -> Mapping[str, float]:
        """The newest score, as {rule: its score}, that of all under ""; empty before there is one."""
        return self._latest

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """It does not look at the clock."""

    async def close(self) -> None:
        """Nothing is held."""


def score_of(settings: ScoreSettings, end: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """The score of a window that ends there (ms), from {names of broken rules, with commas: records}."""
    records = passed = 0
    failed = dict.fromkeys(settings.severities, 0)
    for names, count in counts.items():
        broken = names.split(",") if names else []
        records += count
        passed += count if all(settings.severities.get(name) == "info" for name in broken) else 0
        for name in broken:
            failed[name] = failed.get(name, 0) + count
    return {
        "stage": settings.stage,
        "window_start": end - max(1, round(1000 * settings.window)),
        "window_end": end,
        "records": records,
        "passed": passed,
        "score": round(passed / records, 6),
        "rules": {name: {"failed": n, "score": round(1 - n / records, 6)} for name, n in failed.items()},
    }

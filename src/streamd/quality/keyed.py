"""`validate` that remembers: which keys there were, and how many records broke what in each window.

It keeps {time: {key: time}} of the keys of records that went on, by pieces of `within`, each with a key once at most;
and {end of a window: {names of broken rules: records}}.
"""

from __future__ import annotations

from typing import Any

import orjson

from streamd.component.context import PipelineContext, TaskContext
from streamd.component.grouping import Grouping, lift_keys
from streamd.component.spec import Gives, stage
from streamd.component.stage import Body
from streamd.quality.checks import TagHeader, ValidateSettings, keeps, tables
from streamd.quality.conditions import Conditions
from streamd.quality.scores import PARTS, ScoreWindows
from streamd.quality.verdict import Verdicts
from streamd.record import Passed, RawRecord, Result


class UniqueSettings(ValidateSettings):
    """Settings with a rule that is `unique`: records of a key have to be together."""

    @property
    def by(self) -> Grouping:
        """The key."""
        assert self.unique is not None
        assert self.unique.unique is not None
        return self.unique.unique


def _state(config: ValidateSettings) -> dict[str, str]:
    found = {} if config.score is None else {"score.window": str(config.score.window)}
    if config.unique is not None:
        found |= config.unique.unique.settings() | {"within": str(config.unique.within)}  # type: ignore[union-attr]
    return found


def _gives(config: ValidateSettings) -> Gives:
    changes = config.tags and not isinstance(config.tag, TagHeader)
    return "documents" if changes or config.score is not None else "as read"


@stage(
    "validate",
    config=ValidateSettings,
    fused=False,
    keyed=True,
    state=_state,
    keeps=keeps,
    tables=tables,
    gives=_gives,
    sifts=True,
)
class KeyedValidation:
    """A `KeyedStage`. Scores go on as results of the topic `PARTS`, one for each window and task."""

    spec: Any
    due: int | None = None

    def __init__(self, config: ValidateSettings, context: PipelineContext) -> None:
        self.config = config
        self._conditions = Conditions(config, context)
        self._verdicts = Verdicts(self._conditions)
        rule = config.unique
        self._within = 0 if rule is None or rule.within is None else max(1, round(1000 * rule.within))
        self._unique = sum(check.bit for check in self._verdicts.checks if check.rule is rule and rule is not None)
        self._seen: Any = None
        self._windows: ScoreWindows | None = None
        # {bits of what is broken: records}, not counted yet
        self._judged: dict[int, int] = {}

    async def prepare(self) -> None:
        """Load the schema and the tables."""
        self._conditions.prepare()

    def lift(self, body: Body, port: int) -> str:
        """`(r, time, watermark, what is broken, key, record key, headers, document or its JSON)`"""
        broken = self._conditions.write(body)
        by = self.config.unique.unique if self.config.unique is not None else None
        key = lift_keys(body, by)[0] if by is not None else "None"
        time, watermark = body.metadata("_timestamp"), body.watermark()
        return f"(r, {time}, {watermark}, {broken}, {key}, {body.key()}, {body.headers()}, {body.as_read()})"

    def lift_tombstone(self, body: Body, port: int) -> str:
        """A row without a document."""
        return f"(r, {body.metadata('_timestamp')}, {body.watermark()}, 0, None, {body.key()}, {body.headers()}, None)"

    async def open(self, task: TaskContext) -> None:
        """Take the tables from the task's store."""
        assert task.store is not None
        if self._unique:
            self._seen = task.store.times("seen")
        if self.config.score is not None:
            self._windows = ScoreWindows(task.store, self.config.score.window)

    def restored(self) -> None:
        """Nothing is kept beside them."""

    def process(self, rows: list[tuple[Any, ...]], out: list[Any], failed: list[tuple[RawRecord, Exception]]) -> None:
        """Judge, count, and let through what may go on."""
        verdicts, unique, judged, windows = self._verdicts, self._unique, self._judged, self._windows
        tags = self.config.tags
        for r, time, watermark, broken, key, record_key, headers, document in rows:
            if document is None:
                out.append(Passed(None, record_key, time, headers))
                continue
            if unique and (time < watermark or self._is_there(key, time)):
                broken |= unique
            judged[broken] = judged.get(broken, 0) + 1
            if windows is not None:
                windows.count(max(time, watermark), ",".join(verdicts.names(broken)))
            if broken & verdicts.refused:
                known = orjson.loads(document) if document.__class__ is bytes else document
                failed.append((r, verdicts.error(broken, known)))
                continue
            if broken & verdicts.dropped:
                continue
            if unique and not broken & unique:
                table = self._seen[time - time % self._within]
                table[key] = time
                table.dirty.add(key)
            if tags:
                document, headers = verdicts.tag(broken, document, headers)
            give: Any = Passed if document.__class__ is bytes else Result
            out.append(give(document, record_key, time, headers))

    def _is_there(self, key: Any, time: int) -> bool:
        """Whether a record of the key went on whose time is near enough."""
        seen, within = self._seen, self._within
        piece = time - time % within
        for start in (piece, piece - within, piece + within):
            if start in seen and (other := seen[start][key]) is not None and abs(other - time) <= within:
                return True
        return False

    def advance(self, watermark: int, out: list[Result]) -> int:
        """Give the counts of windows that are over; forget keys that nothing that is to come can be near to."""
        if self._windows is not None:
            for end, counts in self._windows.over(watermark):
                out.append(Result({"end": end, "counts": counts}, None, end - 1, (), PARTS))
        if self._unique:
            for start in [start for start in self._seen if start + 2 * self._within <= watermark]:
                self._seen.drop(start)
        return watermark

    def take_judged(self) -> tuple[int, dict[str, int]]:
        """(records, {rule: records that broke it}) since this was asked the last time."""
        broken: dict[str, int] = {}
        for bits, count in self._judged.items():
            for name in self._verdicts.names(bits):
                broken[name] = broken.get(name, 0) + count
        total = sum(self._judged.values())
        self._judged.clear()
        return total, broken

    def tick(self, now_ms: int, out: list[Result]) -> None:
        """It does not look at the clock."""

    async def close(self) -> None:
        """Nothing is held."""

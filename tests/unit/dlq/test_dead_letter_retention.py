"""Letters of the embedded log that retention deletes between the look at them and their replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from demo.inline_app import InlineApp
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.dlq.choice import Choice
from streamd.dlq.places import Place, places_of
from streamd.dlq.prepare import Wishes, prepare
from streamd.dlq.replay import Replayed, replay
from streamd.dlq.tally import tallied
from streamd.transport.embedded.log import EmbeddedLog, log_path

BROKEN = "stages: [{filter: n / 0 > 0}]\non_error: {dead_letter: {log: {topic: broken}}}\n"
MENDED = BROKEN.replace("n / 0 > 0", "n >= 0")
HEAD = "name: p\nsource: {log: {topic: in}}\nsink: {log: {topic: out}}\n"
SERVICE = ServiceConfig.model_validate({"app": "app"})
ALL = Wishes(Choice())


class Letters:
    """A pipeline whose letters lie in as many batches of the log as it has run."""

    def __init__(self, folder: Path) -> None:
        self.app, self._folder = InlineApp(folder), folder
        self.config: PipelineConfig = load_pipeline_text(
            HEAD + MENDED, folder / "p.yaml", Registry.default(), {}, SERVICE
        )
        [place] = places_of(self.config, SERVICE)
        self.place: Place = replace(place, state_dir=folder)

    async def fail(self, numbers: Sequence[int]) -> None:
        await self.app.seed([{"n": n} for n in numbers])
        await self.app.run(HEAD + BROKEN)

    async def forget(self, before: int) -> None:
        log = EmbeddedLog.acquire(log_path(self._folder, "app"))
        assert await log.forget("broken", 0, before) > 0
        await log.release()

    async def replay(self, forget: int | None = None) -> tuple[int, Replayed]:
        """How many were to go, and what became of them; meanwhile what lies before an offset is deleted."""
        async with self.place.opened() as kept:
            prepared, selection = await prepare(self.config, SERVICE, self.place, ALL, kept)
            if forget is not None:
                await self.forget(forget)
            return prepared.count, await replay(prepared, selection, kept, SERVICE)

    async def marked(self) -> set[int]:
        async with self.place.opened() as kept:
            return set((await kept.marks()).get(0, {}))

    async def out(self) -> list[int]:
        return [value["n"] for value in await self.app.values()]


@pytest.fixture
async def letters(tmp_path: Path) -> Letters:
    made = Letters(tmp_path)
    for begin in (0, 3, 6):
        await made.fail(range(begin, begin + 3))
    return made


async def test_letters_that_are_deleted_before_they_are_read_are_counted(letters: Letters) -> None:
    assert await letters.replay(forget=6) == (9, Replayed(3, 0, 0, gone=6))
    assert await letters.out() == [6, 7, 8]
    tally = await tallied(letters.place, Choice())
    assert (tally.all.total, tally.all.open) == (3, 0)


async def test_marks_of_letters_that_are_gone_go_with_the_next_replay(letters: Letters) -> None:
    assert await letters.replay() == (9, Replayed(9, 0, 0))
    await letters.forget(6)
    assert await letters.marked() == set(range(9))
    await letters.fail(range(9, 12))
    assert await letters.replay() == (3, Replayed(3, 0, 0))
    assert await letters.marked() == set(range(6, 12))
    assert await letters.out() == list(range(12))

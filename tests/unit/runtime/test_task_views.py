"""What a task tells of its views: what is committed, in order, bounded, and at the latest with its next checkpoint."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import orjson
import pytest

from streamd.component.state import key_of
from streamd.errors import TransformError
from streamd.record import TaskId
from streamd.runtime import views
from streamd.runtime.control import Look, Seen
from streamd.runtime.views import Views
from streamd.state.tables import DictTable

TASK = TaskId("app", "p", 0, 0)


class Stage:
    """Keeps numbers, and shows their doubles."""

    def __init__(self, *keys: Any) -> None:
        self.view = DictTable()
        for number, key in enumerate(keys):
            self.view[key_of(key)] = number

    def shown(self, key: Hashable, value: int) -> dict[str, int]:
        if value == 13:
            raise TransformError("thirteen cannot be shown")
        return {"twice": 2 * value}


def ask(kept: object, *, committed: bool = True, **order: Any) -> list[Seen]:
    """The answers so far, of one question."""
    answers: list[Seen] = []
    asked = Views(lambda name: kept if name == "s" else None, lambda: 7)
    asked.look(Look(1, TASK, order.pop("stage", "s"), **order), answers.append, committed=committed)
    return answers


def entries(seen: Seen) -> list[tuple[Any, Any]]:
    return [(orjson.loads(key), orjson.loads(value)) for key, value in seen.entries]


def test_a_key_and_its_value() -> None:
    [seen] = ask(Stage("ann", "bob"), key="bob")
    assert (seen.outcome, entries(seen), seen.more, seen.checkpoint) == ("ok", [("bob", {"twice": 2})], False, 7)
    [seen] = ask(Stage(7, ["eu", 1]), key='["eu",1]')
    assert entries(seen) == [(["eu", 1], {"twice": 2})]
    [seen] = ask(Stage(7), key="7")
    assert entries(seen) == [(7, {"twice": 0})]
    [seen] = ask(Stage("7", 7), key="7")
    assert entries(seen) == [("7", {"twice": 0})], "a text means itself first"


def test_asking_in_vain_leaves_nothing_behind() -> None:
    stage = Stage("ann")
    [seen] = ask(stage, key="nobody")
    assert (seen.outcome, seen.entries) == ("ok", [])
    assert not stage.view.fresh
    assert list(stage.view) == ["ann"]


def test_a_prefix_gives_keys_in_order_and_the_next_ones_after() -> None:
    stage = Stage("b2", "a", "b1", 3, "b3", ["b"])
    [seen] = ask(stage, prefix="b", limit=2)
    assert [key for key, _ in entries(seen)] == ["b1", "b2"]
    assert seen.more
    [seen] = ask(stage, prefix="b", after="b2", limit=2)
    assert [key for key, _ in entries(seen)] == ["b3"]
    assert not seen.more
    [seen] = ask(stage, limit=10)
    assert [key for key, _ in entries(seen)] == [3, ["b"], "a", "b1", "b2", "b3"]


def test_what_is_not_committed_waits_for_the_checkpoint() -> None:
    answers: list[Seen] = []
    stage = Stage("ann")
    asked = Views(lambda name: stage, lambda: 8)
    asked.look(Look(1, TASK, "s", key="ann"), answers.append, committed=False)
    stage.view["ann"] = 5
    assert answers == []
    asked.committed()
    assert [entries(seen) for seen in answers] == [[("ann", {"twice": 10})]]
    asked.committed()
    assert len(answers) == 1


def test_a_task_that_ends_answers_that_it_cannot() -> None:
    answers: list[Seen] = []
    asked = Views(lambda name: Stage(), lambda: 8)
    asked.look(Look(4, TASK, "s", key="ann"), answers.append, committed=False)
    asked.close()
    assert answers == [Seen(4, "not_ready")]


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SCANNED", 3)
    [seen] = ask(Stage("a", "b", "c", "d"), limit=1)
    assert (seen.outcome, seen.entries) == ("too_large", [])
    [seen] = ask(Stage("a", "b", "c", "d"), key="d")
    assert seen.outcome == "ok", "a key costs the same in any table"
    monkeypatch.setattr(views, "TOLD", 20)
    [seen] = ask(Stage("a", "b", "c"), limit=3)
    assert (len(seen.entries), seen.more) == (2, True)


def test_what_has_no_view_or_cannot_be_shown_is_told() -> None:
    [seen] = ask(object(), key="a")
    assert seen.outcome == "no_view"
    [seen] = ask(Stage(), key="a", stage="other")
    assert seen.outcome == "no_view"
    stage = Stage("a")
    stage.view["a"] = 13
    [seen] = ask(stage, key="a")
    assert (seen.outcome, seen.message) == ("failed", "thirteen cannot be shown")

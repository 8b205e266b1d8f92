"""Fault points: what is planned happens as often as chance wants, again under the same seed, and is logged."""

from __future__ import annotations

import asyncio
import os

import pytest

from streamd.errors import TransientError
from streamd.runtime.faults import Faults


def struck(faults, point, passings):
    """At which passings a point failed."""
    found = []
    for number in range(passings):
        try:
            faults.at(point)
        except TransientError:
            found.append(number)
    return found


def test_a_planned_point_fails_and_no_other_does():
    faults = Faults("after_flush:exception")
    faults.at("before_begin")
    with pytest.raises(TransientError, match="fault injected at after_flush"):
        faults.at("after_flush")
    assert faults.plans("after_flush")
    assert not faults.plans("commit_sent")


def test_a_seed_repeats_its_decisions_whatever_else_is_passed(tmp_path):
    text = "after_flush:exception:0.1,before_begin:exception:0.1"
    first = struck(Faults(text, "7", str(tmp_path / "one")), "after_flush", 300)
    again = Faults(text, "7", str(tmp_path / "two"))
    struck(again, "before_begin", 17)
    assert struck(again, "after_flush", 300) == first
    assert 10 < len(first) < 60
    assert struck(Faults(text, "8", str(tmp_path / "three")), "after_flush", 300) != first


def test_each_process_of_a_run_decides_otherwise(tmp_path, monkeypatch):
    text, log = "after_flush:exception:0.1", str(tmp_path / "log")
    first = struck(Faults(text, "7", log), "after_flush", 300)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert struck(Faults(text, "7", log), "after_flush", 300) != first


def test_what_happens_is_in_the_log_before_it_happens(tmp_path):
    log = tmp_path / "log"
    faults = Faults("after_flush:exception,in_open:sleep=0", "1", str(log))
    struck(faults, "after_flush", 2)
    faults.at("in_open")
    pid = os.getpid()
    assert log.read_text().splitlines() == [
        f"{pid} started -",
        f"{pid} after_flush exception",
        f"{pid} after_flush exception",
        f"{pid} in_open sleep=0",
    ]


@pytest.mark.parametrize("text", ["nowhere:kill9", "after_flush:explode", "after_flush"])
def test_what_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match=r"STREAMD_FAULT: there is no .*; the"):
        Faults(text)


class Other:
    """The other side: takes a request, answers when told."""

    def __init__(self):
        self.asked, self.answered = asyncio.Event(), asyncio.Event()
        self.read = False

    async def ask(self):
        self.asked.set()
        await self.answered.wait()
        self.read = True


async def test_work_fails_after_it_has_asked_and_before_it_reads_the_answer():
    other = Other()
    with pytest.raises(TransientError):
        await Faults("commit_sent:exception").during("commit_sent", other.ask())
    other.answered.set()
    await asyncio.sleep(0)
    assert other.asked.is_set()
    assert not other.read


async def test_work_that_waits_for_nobody_does_not_fail():
    other = Other()
    other.answered.set()
    await Faults("commit_sent:exception").during("commit_sent", other.ask())
    assert other.read


async def test_an_error_of_the_work_is_its_own():
    async def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Faults("commit_sent:exception:0").during("commit_sent", fail())


def test_a_file_says_when_and_is_taken_away_each_time(tmp_path):
    file = tmp_path / "now"
    faults = Faults(f"after_flush:exception:@{file}")
    faults.at("after_flush")
    for _ in range(2):
        file.touch()
        with pytest.raises(TransientError, match="after_flush"):
            faults.at("after_flush")
        assert not file.exists()
        faults.at("after_flush")

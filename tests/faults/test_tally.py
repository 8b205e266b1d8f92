"""The tally counts what it is told, keeps what is allowed apart, and is written as it is printed."""

from __future__ import annotations

import json

import pytest

from faults.oracle import judge
from faults.tally import Ledger
from faults.test_oracle import outputs_of


@pytest.fixture
def ledger():
    made = Ledger()
    for case, system in (("kafka", "kafka"), ("embedded", "embedded")):
        tally = made.open(f"tests/faults/test_kills.py::test_kills[{case}]", "Workers killed: nothing lost")
        tally.injected(system, "kill -9", 12)
        tally.injected(system, "exception", 0)
        tally.judged(system, judge(300, outputs_of(range(300)), {}, {}))
        made.ended(tally.test, True)
    made.open("tests/faults/test_kills.py::test_none[kafka]", "Nothing was tried")
    return made


def test_cases_of_a_test_are_one_line(ledger):
    lines = list(ledger.lines())
    [line] = [line for line in lines if "test_kills.py::test_kills" in line]
    assert line.split()[1:] == ["24", "0/0/0"]
    assert "kafka: 12 kill -9; embedded: 12 kill -9" in "\n".join(lines)
    assert "test_none" not in "\n".join(lines)
    assert lines[-1] == "total: 12 faults on kafka, 12 faults on embedded"


def test_duplicates_count_unless_they_are_allowed(ledger):
    tally = ledger.open("tests/faults/test_once.py::test_more", "Nothing lost")
    twice = judge(300, outputs_of([*range(300), 299]), {}, {})
    tally.judged("kafka", twice, at_least_once=True)
    assert (tally.duplicated, tally.repeated) == (0, 1)
    tally.judged("kafka", twice)
    assert (tally.duplicated, tally.repeated) == (1, 1)


def test_a_failed_test_is_marked(ledger):
    ledger.ended("tests/faults/test_kills.py::test_kills[kafka]", False)
    ledger.ended("tests/faults/test_kills.py::test_kills[kafka]", True)  # its teardown
    [line] = [line for line in ledger.lines() if "test_kills.py::test_kills" in line]
    assert line.endswith("FAILED")


def test_what_is_written_can_be_read(ledger, tmp_path):
    ledger.write(tmp_path / "new" / "faults.json")
    found = json.loads((tmp_path / "new" / "faults.json").read_text())
    assert found["totals"] == {"kafka": 12, "embedded": 12}
    assert [test["passed"] for test in found["tests"]] == [True, True]


def test_an_unknown_system_is_refused(ledger):
    with pytest.raises(ValueError, match="no system 'rabbit'; the systems are kafka, embedded"):
        ledger.open("a", "b").injected("rabbit", "kill -9", 1)

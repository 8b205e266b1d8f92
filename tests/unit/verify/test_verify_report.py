"""The report of a verification: its figures add up."""

from __future__ import annotations

import pytest

from streamd.errors import ConfigError
from streamd.verify.report import Report, check_file, text


def test_the_kinds_of_kills_add_up():
    kills = {"node": 1, "after_commit": 2, "worker": 2, "in_open": 1}
    report = Report("orders", "orders.yaml", "the embedded log", 1, 1, 1, kills=kills)
    lines = [line.strip() for line in text(report)]
    assert "kills          6: worker 2, node 1, at points 3" in lines
    assert "at points      after_commit 2, in_open 1" in lines


def test_a_run_without_a_kill_says_that_it_tried_nothing():
    none = Report("orders", "orders.yaml", "the embedded log", 1, 1, 1, planned_kills=0)
    assert any("Nothing was killed (--kills 0): that tried nothing" in line for line in text(none))
    missed = Report("orders", "orders.yaml", "the embedded log", 1, 1, 1, planned_kills=3, not_reached={"in_open": 3})
    assert any("Nothing was killed: that tried nothing" in line for line in text(missed))
    some = Report("orders", "orders.yaml", "the embedded log", 1, 1, 1, planned_kills=3, kills={"worker": 1})
    assert not any("Nothing was killed" in line for line in text(some))


def test_a_report_that_could_not_be_written_is_refused_before(tmp_path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match=r"--report: cannot write .*folder.json: Is a directory"):
        check_file(tmp_path / "folder.json")
    with pytest.raises(ConfigError, match=r"--report: cannot write .*: File name too long"):
        check_file(tmp_path / f"{'x' * 300}.json")
    check_file(tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists(), "it only tries"
    (tmp_path / "old.md").write_text("of the last run")
    check_file(tmp_path / "old.md")
    assert (tmp_path / "old.md").read_text() == "of the last run"

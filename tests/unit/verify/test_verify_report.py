"""The report of a verification: its figures add up."""

from __future__ import annotations

from streamd.verify.report import Report, text


def test_the_kinds_of_kills_add_up():
    kills = {"node": 1, "after_commit": 2, "worker": 2, "in_open": 1}
    report = Report("orders", "orders.yaml", "the embedded log", 1, 1, 1, kills=kills)
    lines = [line.strip() for line in text(report)]
    assert "kills          6: worker 2, node 1, at points 3" in lines
    assert "at points      after_commit 2, in_open 1" in lines

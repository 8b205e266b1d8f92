"""Cycles are collected, and what stays is not walked again and again."""

from __future__ import annotations

import gc
import weakref

import pytest

from streamd.runtime import garbage
from streamd.runtime.garbage import Garbage, keep_many


class Node:
    def __init__(self):
        self.other = None


def cycle():
    node = Node()
    node.other = node
    return weakref.ref(node)


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()
    gc.enable()


def test_cycles_are_collected():
    collector = Garbage()
    seen = cycle()
    assert seen() is not None
    collector.collect()
    assert seen() is None


def test_cycles_are_collected_before_what_stays_is_frozen(monkeypatch):
    Garbage()
    monkeypatch.setattr(garbage, "MANY", 0)
    seen, before = cycle(), gc.get_freeze_count()
    state = [[] for _ in range(1000)]
    keep_many()
    assert seen() is None
    assert gc.get_freeze_count() >= before + len(state)


def test_a_restore_of_little_freezes_nothing():
    Garbage()
    before = gc.get_freeze_count()
    keep_many()
    assert gc.get_freeze_count() == before


def test_what_takes_long_to_walk_is_frozen(monkeypatch):
    collector = Garbage()
    collector.collect()
    monkeypatch.setattr(garbage, "LONG", 0.0)
    monkeypatch.setattr(garbage, "MANY", 1000)
    before = gc.get_freeze_count()
    state = [[] for _ in range(1000)]
    collector.collect()
    assert gc.get_freeze_count() >= before + len(state)


def test_little_is_not_frozen(monkeypatch):
    collector = Garbage()
    monkeypatch.setattr(garbage, "LONG", 1e9)
    monkeypatch.setattr(garbage, "MANY", 0)
    before = gc.get_freeze_count()
    state = [[] for _ in range(1000)]
    for _ in range(3):
        collector.collect()
    assert gc.get_freeze_count() <= before
    assert state


def test_frozen_lists_are_freed_like_all_others(monkeypatch):
    monkeypatch.setattr(garbage, "MANY", 0)

    class Row(list):
        pass

    row = Row()
    seen = weakref.ref(row)
    keep_many()
    del row
    assert seen() is None

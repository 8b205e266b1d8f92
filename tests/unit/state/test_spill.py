"""Tables larger than memory: what leaves, what comes back, and what is left on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamd.errors import TransientError
from streamd.state.cold import ColdTier
from streamd.state.spill import Spill
from streamd.state.store import TableStore

ENTRY = 300  # bytes of an entry of these tests, and more


class Kept:
    """A store within a budget, with its checkpoints."""

    def __init__(self, folder):
        self.folder, self.budget = folder / "cold", 0
        self.spill = Spill(ColdTier(self.folder, "app.p.0.0"), lambda: self.budget)
        self.store = TableStore("s", self.spill)

    def checkpoint(self):
        changes = self.store.changes()
        self.spill.settle()
        self.spill.fit()
        self.store.committed()
        return changes


@pytest.fixture
def kept(tmp_path):
    made = Kept(tmp_path)
    yield made
    made.spill.close()


def put(table, **values):
    for key, value in values.items():
        table[key]
        table[key] = value
        table.dirty.add(key)


def test_what_has_left_comes_back_when_it_is_asked_for(kept):
    table = kept.store.table("t", sorted, set)
    put(table, a={1, 2}, b={3})
    kept.checkpoint()
    assert len(table) == 0
    assert len(kept.store) == 2
    assert table["a"] == {1, 2}
    table["a"].add(5)
    table.dirty.add("a")
    assert dict(table.scan()) == {"a": {1, 2, 5}, "b": {3}}
    assert kept.checkpoint() == [(b't:"a"', b"[1,2,5]")]
    assert table["a"] == {1, 2, 5}
    assert table["c"] is None
    assert len(kept.store) == 2


def test_within_the_budget_nothing_is_put_on_disk(kept):
    kept.budget = 10_000
    table = kept.store.table("t")
    put(table, a=1, b=2)
    kept.checkpoint()
    assert dict(table) == {"a": 1, "b": 2}
    assert not kept.folder.exists()


def test_what_did_not_change_of_late_leaves_first(kept):
    kept.budget = 50 * ENTRY
    table = kept.store.table("t")
    put(table, **{f"k{n}": [n] for n in range(40)})
    kept.checkpoint()
    for n in range(40, 200, 10):
        put(table, **{f"k{m}": [m] for m in (0, 1, 2, *range(n, n + 10))})
        kept.checkpoint()
    assert len(table) < 100
    assert {"k0", "k1", "k2", "k199"} <= table.keys()
    assert "k20" not in table
    assert {key: value[0] for key, value in table.scan()} == {f"k{n}": n for n in range(200)}


def test_windows_that_rest_leave_before_those_that_change(kept):
    kept.budget = 10 * ENTRY
    times = kept.store.times("w")
    for time in range(3):
        put(times[time], **{f"k{n}": [n] for n in range(10)})
        kept.checkpoint()
    assert len(times[2]) >= 9
    assert len(times[0]) == 0
    assert list(times) == [0, 1, 2]


def test_what_is_removed_does_not_come_back(kept):
    table, times = kept.store.table("t"), kept.store.times("w")
    put(table, a=1, b=2, c=3)
    put(times[1], a=1, b=2)
    put(times[2], c=3)
    kept.checkpoint()
    table.remove("a")
    assert table["b"] == 2
    table.remove("b")
    times.drop(1)
    assert table["a"] is None is table["b"]
    assert times[1]["a"] is None
    gone = [(b't:"a"', None), (b't:"b"', None), (b'w:8000000000000001"a"', None), (b'w:8000000000000001"b"', None)]
    assert sorted(kept.checkpoint(), key=str) == gone
    put(table, d=4)
    put(times[1], d=4)
    kept.checkpoint()
    assert dict(table.scan()) == {"c": 3, "d": 4}
    assert {time: dict(found.scan()) for time, found in times.items()} == {1: {"d": 4}, 2: {"c": 3}}


def test_a_key_that_is_marked_but_never_looked_at_stays(kept):
    table = kept.store.table("t")
    put(table, a=1)
    kept.checkpoint()
    table.dirty.add("a")
    assert kept.checkpoint() == []
    assert table["a"] == 1


def test_a_changelog_larger_than_memory_is_restored(kept):
    table, times = kept.store.table("t"), kept.store.times("w")
    for changes in ([(b"t:1", b"1"), (b"t:2", b"2"), (b"w:8000000000000001:1"[:18] + b"1", b"1")], [(b"t:1", b"5")]):
        kept.store.load(dict(changes))
        kept.spill.fit()
    for change in (b"t:2", None), (b"w:80000000000000021", b"7"), (b"w:80000000000000021", None):
        kept.store.load(dict([change]))
    kept.store.loaded()
    assert dict(table.scan()) == {1: 5}
    assert {time: dict(found.scan()) for time, found in times.items()} == {1: {1: 1}}


def test_a_folder_that_cannot_be_written_is_named(kept):
    kept.folder.write_text("")
    put(kept.store.table("t"), a=1)
    with pytest.raises(
        TransientError, match=r"cannot put state of task app\.p\.0\.0 in .*, which does not fit in memory"
    ):
        kept.checkpoint()


KILLED = """
import os, sys
from pathlib import Path
from streamd.state.cold import ColdTier
tier = ColdTier(Path(sys.argv[1]), "t")
tier.write([(b"a", b"1")])
os._exit(9)
"""


def test_what_a_killed_process_has_left_is_deleted_and_what_lives_is_not(tmp_path):
    living = ColdTier(tmp_path, "t")
    living.write([(b"a", b"1")])
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    assert len(list(tmp_path.iterdir())) == 4
    another = ColdTier(tmp_path, "t")
    another.write([(b"a", b"2")])
    assert living.get(b"a") == b"1"
    assert another.get(b"a") == b"2"
    assert len(list(tmp_path.iterdir())) == 4
    living.close()
    another.close()
    assert not list(tmp_path.iterdir())


GROWING = """
import gc, resource, sys
from pathlib import Path
from streamd.state.cold import ColdTier
from streamd.state.spill import Spill
from streamd.state.store import TableStore

gc.disable()
budget = int(sys.argv[2])
spill = Spill(ColdTier(Path(sys.argv[1]), "t"), lambda: budget) if budget else None
store = TableStore("s", spill)
table = store.table("t")

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

before = resident()
for start in range(0, 200_000, 10_000):
    for n in range(start, start + 10_000):
        key = f"key-{n}"
        row = table[key]
        if row is None:
            row = table[key] = [n, 1.5, "a text of some length"]
        table.dirty.add(key)
    store.changes()
    if spill is not None:
        spill.settle()
        spill.fit()
    store.committed()
assert len(store) == 200_000
assert table["key-77"] == [77, 1.5, "a text of some length"]
print(resident() - before)
"""


def test_a_process_stays_within_its_budget(tmp_path):
    def grown(budget: int) -> int:
        run = [sys.executable, "-c", GROWING, str(tmp_path), str(budget)]
        return int(subprocess.run(run, check=True, capture_output=True, timeout=120).stdout)

    assert Path("/proc/self/statm").exists()
    assert grown(0) > 40_000_000
    # Beside the budget: what RocksDB holds in memory, and what a checkpoint needs.
    assert grown(4_000_000) < 35_000_000

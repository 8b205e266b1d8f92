"""What fields could serve as."""

from __future__ import annotations

import pytest

from streamd.profile import Bounds, Values
from streamd.profile.candidates import candidates

START = 1_767_603_605_918


def found(documents, partitions=None):
    values, bounds = Values(), Bounds()
    for at, document in enumerate(documents):
        bounds.partition = partitions[at] if partitions else 0
        values.add(document, bounds)
    return candidates(values)


@pytest.mark.parametrize(
    ("values", "unit", "expression"),
    [
        ([START, START + 5], "ms", "at"),
        ([START // 1000, START / 1000 + 1], "s", "at * 1000"),
        (["2026-01-05T09:00:05Z", "2026-01-05 10:00:06+01:00"], "iso", "at"),
    ],
)
def test_times_by_unit(values, unit, expression):
    [(path, times)] = found([{"at": value} for value in values]).times
    assert (path, times.unit, times.expression(path)) == ("at", unit, expression)


@pytest.mark.parametrize("values", [[START, 5], [START, START // 1000], ["2026-01-05T09:00:05Z", "soon"], ["20260105"]])
def test_no_times(values):
    assert found([{"at": value} for value in values]).times == ()


def test_out_of_order_is_within_a_partition():
    documents = [{"ts": START}, {"ts": START - 60_000}, {"ts": START + 10}, {"ts": START - 60_000 - 7}]
    [(_, times)] = found(documents, partitions=[0, 1, 0, 1]).times
    assert times.behind == 7
    [(_, times)] = found(documents).times
    assert times.behind == 60_017


def test_the_likeliest_time_is_first_and_what_some_lack_is_told():
    seen = found([{"shipped": START, "ts": START, "meta": {"ts": START}}, {"ts": START, "meta": {"ts": START}}])
    assert [path for path, _ in seen.times] == ["ts", "meta.ts", "shipped"]
    assert seen.always == {"ts", "meta.ts"}


def test_keys_and_enums():
    seen = found([{"id": f"o{n}", "kind": "ab"[n % 2], "n": n, "x": n / 3, "tags": ["a"]} for n in range(40)])
    assert (seen.keys, seen.enums) == (("id", "n"), ("kind",))

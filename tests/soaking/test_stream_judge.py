"""The oracle that goes with the stream, against the one that keeps everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from faults.oracle import KEYS, document, judge, partition_of
from soaking.stream_judge import StreamJudge

IN, OUT = 6, 4


def output(fed):
    """What must come out, by output partition."""
    partitions = [[] for _ in range(OUT)]
    for n in range(fed):
        found = document(n)
        partitions[found["key"] % OUT].append({**found, "double": 2 * found["number"]})
    return partitions


def both(fed, partitions):
    stream = StreamJudge(IN)
    for number, documents in enumerate(partitions):
        stream.saw(number, documents)
    return stream.verdict(fed, {0: 5}, {0: 5}), judge(fed, partitions, {0: 5}, {0: 5})


def test_what_is_exact_is_found_exact():
    found, expected = both(1000, output(1000))
    assert found == expected
    assert found.exact


@given(st.integers(1, 400), st.data())
def test_both_oracles_agree_on_what_is_wrong(fed, data):
    partitions = output(fed)
    for _ in range(data.draw(st.integers(0, 6))):
        documents = data.draw(st.sampled_from([one for one in partitions if one] or [[]]))
        if not documents:
            break
        at = data.draw(st.integers(0, len(documents) - 1))
        match data.draw(st.sampled_from(["lose", "twice", "late", "elsewhere", "wrong", "invented"])):
            case "lose":
                del documents[at]
            case "twice":
                documents.insert(data.draw(st.integers(at, len(documents))), documents[at])
            case "late":
                documents.insert(data.draw(st.integers(0, len(documents) - 1)), documents.pop(at))
            case "elsewhere":
                data.draw(st.sampled_from(partitions)).append(documents.pop(at))
            case "wrong":
                documents[at] = {**documents[at], "double": -1}
            case "invented":
                documents.append({**document(fed + data.draw(st.integers(0, 200))), "double": -1})
    found, expected = both(fed, partitions)
    assert found.exact == expected.exact
    assert (found.came, found.lost) == (expected.came, expected.lost)
    assert (found.duplicated, found.disordered, found.scattered) == (
        expected.duplicated, expected.disordered, expected.scattered,
    )  # fmt: skip
    assert (found.wrong > 0) == (expected.wrong > 0)


def test_an_unread_input_is_told():
    assert StreamJudge(IN).verdict(0, {0: 3}, {0: 5}).unread == {0: (3, 5)}


def test_running_totals_are_those_of_all_numbers_so_far():
    judged = StreamJudge(IN, running=True)
    judged.saw(0, [{"key": 1, "number": n, "double": 2 * n, "seen": n + 1, "total": n * (n + 1) // 2} for n in (0, 1)])
    assert judged.faults == 0
    judged.saw(0, [{"key": 1, "number": 2, "double": 4, "seen": 3, "total": 2}])
    assert judged.faults == 1


def test_the_newest_is_by_input_partition():
    judged = StreamJudge(IN)
    judged.saw(0, [{**document(n), "double": 2 * document(n)["number"]} for n in range(2 * KEYS + 8)])
    assert judged.newest[partition_of(2 * KEYS + 7, IN)] == 2 * KEYS + 7

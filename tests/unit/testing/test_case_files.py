"""What is wrong with a test file is said with its place, and with what was probably meant."""

from __future__ import annotations

import pytest

from streamd.testing.case_file import Move, parse_move, parse_time

CASE = "cases:\n  one:\n"


def said(result) -> list[str]:
    assert result.results == []
    return [
        f"{problem.place.line}:{problem.place.column} {problem.message} {problem.help}" for problem in result.problems
    ]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", "the file is empty"),
        ("- 1\n", "1:1", "must be a mapping"),
        ("casess: {}\n", "1:1", "did you mean `cases`?"),
        ("cases: []\n", "1:1", "not a mapping of names to cases"),
        ("cases: {one: 5}\n", "1:9", "must be a list of steps"),
        ("cases:\n  one: []\n", "2:3", "must be a list of steps"),
        (CASE + "    - inptu: []\n", "3:7", "did you mean `input`?"),
        (CASE + "    - input: 5\n", "3:7", "`input` has the number 5"),
        (CASE + "    - input: [{value: 1, partition: -1}]\n", "3:37", "`partition` must be"),
        (CASE + "    - input: [{value: 1, timestamp: noon}]\n", "3:37", "`timestamp` must be a time"),
        (CASE + "    - advance: 5\n", "3:16", "`advance` must be a duration"),
        (CASE + "    - advance: {to: 5, by: 5s}\n", "3:24", "both say where"),
        (CASE + "    - advance: {}\n", "3:7", "says nothing"),
        (CASE + "    - crash: soon\n", "3:14", "`crash` must be nothing or before_commit"),
        (CASE + "    - idle: long\n", "3:13", "`idle` must be a duration"),
        (CASE + "    - end: [1]\n", "3:7", "`end` must be nothing"),
        (CASE + "    - expect: true\n", "3:7", "`expect` has true"),
        (CASE + "    - expect: {sink: {record: []}}\n", "3:23", "did you mean `records`?"),
        (CASE + "    - expect: {sink: {records: [], contains: []}}\n", "3:16", "or twice"),
        (CASE + "    - expect: {dead_letters: [{stage: x}]}\n", "3:32", "unknown key `stage`"),
        (CASE + "    - expect: {late: -1}\n", "3:16", "must be a number of records"),
        (CASE + "    steps: []\n    input: []\n", "4:5", "has `steps:`, and `input` beside it"),
        (CASE + "    input: []\n    clok: 5\n", "4:5", "did you mean `clock`?"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place(attempt, text, place, words):
    result = attempt(text)
    assert [line for line in said(result) if line.startswith(f"{place} ") and words in line], said(result)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("- input: {ordres: [{a: 1}]}\n", "no source `ordres`"),
        ("- expect: {snk: []}\n", "did you mean `sink`?"),
        ("- expect: {late: {filtr: 1}}\n", "did you mean `filter`?"),
        ("- end: orders\n", "no source `orders`"),
        ("- end\n    - input: [{amount: 1}]\n", "has ended before this"),
        ("- input: nowhere.ndjson\n", "cannot read the file `nowhere.ndjson`"),
    ],
)
def test_a_name_that_the_pipeline_does_not_have(attempt, steps, words):
    [problem] = said(attempt(f"{CASE}    {steps}"))
    assert words in problem


def test_all_mistakes_are_found_at_once(attempt):
    text = "clok: 1\ncases:\n  one:\n    - inptu: []\n    - advance: 5\n  two: 3\n"
    assert len(said(attempt(text))) == 4


def test_a_broken_pipeline_is_shown_with_its_own_place(attempt):
    result = attempt("cases: {one: {input: [], expect: []}}", "name: p\nsource: {log: {topic: a}}\nsink: {lgo: {}}\n")
    [problem] = result.problems
    assert problem.place.file.endswith("p.yaml")
    assert problem.help == "did you mean `log`?"


def test_a_missing_pipeline_is_named(attempt):
    [problem] = said(attempt("pipeline: other.yaml\ncases: {one: {input: [], expect: []}}"))
    assert problem.startswith("1:11 there is no pipeline")


@pytest.mark.parametrize("value", [5, "soon", "5 parsecs", None, True])
def test_what_is_no_move(value):
    with pytest.raises(ValueError, match="a duration such as"):
        parse_move(value)


def test_moves_and_times():
    assert parse_move("1m30s") == Move(by=90_000)
    assert parse_move("2030-01-01T00:00:00Z") == Move(to=parse_time("2030-01-01T00:00:00"))
    assert parse_time(17) == 17

"""`--update` writes what came, touches nothing else, and leaves a file that passes."""

from __future__ import annotations

import pytest

from streamd.testing.update import updated

BEFORE = """\
# A comment at the top.
cases:
  # One about order.
  in order:
    - input: [{user: ada, amount: 20}, {user: bob, amount: 30}, {user: cyd, amount: 40}]   # three
    - expect:
        # what is right stays as it is written
        - { user: "ada",   amount: 20, double: 40.0 }  # right
        - {user: bob, amount: 30, double: 61}  # wrong
        # the third is not here yet

  too many:
    - input: [{user: ada, amount: 20}]
    - expect:
      - {user: nobody}
      - user: ada
        amount: 20
        double: 41
      - {user: nobody, at: all}
    - expect:   # nothing more
        - {user: nobody}
"""
AFTER = """\
# A comment at the top.
cases:
  # One about order.
  in order:
    - input: [{user: ada, amount: 20}, {user: bob, amount: 30}, {user: cyd, amount: 40}]   # three
    - expect:
        # what is right stays as it is written
        - { user: "ada",   amount: 20, double: 40.0 }  # right
        - {user: bob, amount: 30, double: 60}  # wrong
        - {user: cyd, amount: 40, double: 80}
        # the third is not here yet

  too many:
    - input: [{user: ada, amount: 20}]
    - expect:
      - {user: ada, amount: 20, double: 40}
    - expect:   # nothing more
        []
"""


def update(attempt, text: str) -> str:
    """The file after `--update`; it passes then."""
    result = attempt(text)
    new, left = updated(result.file, result.results)
    assert left == []
    again = attempt(new)
    assert again.ok, new
    return new


def test_only_what_differs_is_written(attempt):
    assert update(attempt, BEFORE) == AFTER


def test_a_file_that_passes_stays_as_it_is(attempt):
    result = attempt(AFTER)
    assert updated(result.file, result.results) == (AFTER, [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("- expect", "- expect:\n        - {user: ada, amount: 20, double: 40}"),
        ("- expect:", "- expect:\n        - {user: ada, amount: 20, double: 40}"),
        ("- expect: []", "- expect:\n        - {user: ada, amount: 20, double: 40}"),
        ("- expect: [{user: x}]", "- expect: [{user: ada, amount: 20, double: 40}]"),
        ("- expect: {sink: []}", "- expect: {sink: [{user: ada, amount: 20, double: 40}]}"),
        ("- expect: {sink: }", "- expect: {sink: [{user: ada, amount: 20, double: 40}]}"),
        ("- expect: 5", "- expect: 1"),
        ("- expect: {count: 5}", "- expect: {count: 1}"),
        ("- expect: [{key: x, value: {}}]", "- expect: [{key: ada, value: {user: ada, amount: 20, double: 40}}]"),
        ("- expect: {fields: [user], records: [{}]}", "- expect: {fields: [user], records: [{user: ada}]}"),
        ("- expect: {sink: 1, skipped: 4}", "- expect: {sink: 1, skipped: 0}"),
        (
            "- expect:\n        sink:\n          records:\n          fields: [user]",
            "- expect:\n        sink:\n          records:\n            - {user: ada}\n          fields: [user]",
        ),
    ],
)
def test_forms_of_what_is_expected(attempt, before, after):
    start = "cases:\n  one:\n    - input: [{user: ada, amount: 20}]\n    "
    assert update(attempt, f"{start}{before}\n") == f"{start}{after}\n"


def test_dead_letters_and_sinks_are_written_where_nothing_is(attempt):
    start = "cases:\n  one:\n    - input: [{user: ada, amount: 20}, {user: bob}]\n    - expect:"
    letter = "{component: filter, error: MissingFieldError, message: \"field 'amount' is missing\", value: {user: bob}}"
    record = "{user: ada, amount: 20, double: 40}"
    wanted = f"{start}\n        sink:\n          - {record}\n        dead_letters:\n          - {letter}\n"
    assert update(attempt, f"{start}\n") == wanted


def test_what_cannot_be_written_is_left(attempt):
    text = "cases:\n  one:\n    - input: [{user: ada, amount: 20}]\n    - expect: {contains: [{user: x}]}\n"
    result = attempt(text)
    new, left = updated(result.file, result.results)
    assert new == text
    assert [problem.message for problem in left] == ["sink `sink`: 1 did not come"]


def test_hard_values_come_back_as_they_were(attempt):
    pipeline = "name: p\nsource: {log: {topic: a}}\nstages: [{filter: n > 0}]\nsink: {log: {topic: b}}\n"
    text = """\
cases:
  one:
    - input:
        - '{"n":1,"yes":"yes","no":"no","null":"null","t":"true","d":"2026-01-01","x":"1e5","e":"","s":" a","c":"a: b"}'
        - '{"n":1,"hash":"a #b","quote":"it''s","double":"a\\"b","both":"it''s \\"b\\""}'
        - '{"n":1,"line":"a\\nb","uni":"ü☃","f":1e300}'
        - '{"n":1,"value":5,"key":"k"}'
        - '{"n":1,"deep":{"list":[1,[2,{"a":null}],[]],"empty":{}},"9":9,"a b":1,"-":2,"long":"%s"}'
    - expect:
""" % ("x" * 150)
    result = attempt(text, pipeline)
    new, left = updated(result.file, result.results)
    assert left == []
    assert attempt(new, pipeline).ok, new


def test_views_are_written(attempt):
    pipeline = (
        "name: p\nsource: {log: {topic: a}}\nstages: [{aggregate: {by: user, values: {n: count()}}}]\n"
        "sink: {log: {topic: b}}\n"
    )
    start = (
        "cases:\n  one:\n    - input: [{user: ada}, {user: b c}]\n    - expect:\n        views:\n          aggregate:"
    )
    for before in ("", "\n            ada: {user: ada, n: 5}\n            b c: null"):
        result = attempt(f"{start}{before}\n", pipeline)
        new, left = updated(result.file, result.results)
        assert left == []
        assert new == f"{start}\n            ada: {{user: ada, n: 1}}\n            b c: {{user: b c, n: 1}}\n"
        assert attempt(new, pipeline).ok

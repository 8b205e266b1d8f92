"""What the steps of a case do to a pipeline, and what is found out about it."""

from __future__ import annotations

import pytest

KEPT = """\
name: kept
source: {log: {topic: orders}}
stages:
  - aggregate: {by: user, values: {n: count(), total: sum(amount)}}
sink: {log: {topic: totals}}
"""
WINDOWS = """\
name: windows
source: {log: {topic: orders, event_time: {field: ts, out_of_order: 2s, idle: 30s}}}
stages:
  - window: {by: user, tumbling: 10s, aggregate: {n: count()}}
sink: {log: {topic: counts}}
"""
ON_KAFKA = """\
name: moved
kafka: {bootstrap: "nowhere.invalid:9092"}
source: {kafka: {topic: orders}}
stages:
  - key_by: user
  - aggregate: {by: user, values: {n: count()}}
sink: {kafka: {topic: counts}}
"""


def test_output_as_expected(attempt, messages):
    result = attempt("""\
cases:
  in short:
    input: [{user: ada, amount: 20}, {user: bob, amount: 5}]
    expect: [{user: ada, amount: 20, double: 40}]
  with its parts:
    - input: [{key: k, value: {user: ada, amount: 20}, timestamp: 5, headers: {a: b, c: null}}]
    - expect: [{key: ada, value: {user: ada, amount: 20, double: 40.0}, timestamp: 5, headers: {a: b}}]
  some fields, some records:
    - input: [{user: ada, amount: 20, at: {x: 1, y: 2}}, {user: bob, amount: 30, at: {x: 3, y: 4}}]
    - expect: {contains: [{double: 60, at: {x: 3}}], fields: [double, at.x]}
  in any order, by number:
    - input: [{user: ada, amount: 20}, {user: bob, amount: 30}]
    - expect: {unordered: true, fields: [user], records: [{user: bob}, {user: ada}]}
    - input: [{user: ada, amount: 20}]
    - expect: 1
""")
    assert messages(result) == []
    assert len(result.results) == 4


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("[{user: ada, amount: 20, double: 41}]", "sink `sink`: 1 of 1 differs"),
        ("[]", "sink `sink`: 1 too many"),
        ("[{user: ada, amount: 20, double: 40}, {user: bob}]", "sink `sink`: 1 did not come"),
        ("[{user: ada, amount: true, double: 40}]", "sink `sink`: 1 of 1 differs"),
        ("{contains: [{user: bob}]}", "sink `sink`: 1 did not come"),
        ("3", "sink `sink`: 3 records expected, 1 came"),
        ("{error: boom}", "the pipeline works; it was expected to stop with: boom"),
        ("{sink: 1, late: 1}", "`late`: 1 expected, 0 counted"),
        ("{sink: 1, skipped: {filter: 2}}", "`skipped` of `filter`: 2 expected, 0 counted"),
    ],
)
def test_output_that_is_not_as_expected(attempt, messages, expected, said):
    result = attempt(f"cases:\n  one:\n    input: [{{user: ada, amount: 20}}]\n    expect: {expected}\n")
    assert messages(result) == [said]


def test_what_nobody_expected_is_told(attempt, messages):
    result = attempt("""\
cases:
  a late one:
    - expect: []
    - input: [{user: ada, amount: 20}]
  a broken one:
    - input: [{user: ada, amount: x}, "{"]
    - expect: []
""")
    assert messages(result) == [
        "1 record more came to `sink` after the last `expect` of it",
        "2 records went to the dead letters, and no `expect` says so",
    ]


def test_dead_letters_say_where_and_why(attempt, messages):
    result = attempt("""\
cases:
  broken ones:
    - input: [{user: ada}, "{", {key: k, value: [1]}]
    - expect:
        sink: []
        dead_letters:
          - {component: filter, error: MissingFieldError, message: amount, value: {user: ada}}
          - {component: source, phase: extract, message: not JSON}
          - {component: source, key: k}
""")
    assert messages(result) == []


def test_a_pipeline_that_stops(attempt, messages):
    strict = "name: p\nsource: {log: {topic: a}}\nstages: [{filter: amount > 1}]\nsink: {log: {topic: b}}\n"
    result = attempt(
        """\
cases:
  expected:
    - input: [{amount: x}]
    - expect: {error: "stage 'filter' failed"}
  with another message:
    - input: [{amount: x}]
    - expect: {error: boom}
  not expected:
    - input: [{amount: 2}]
    - input: [{amount: x}]
    - expect: [{amount: 2}]
""",
        strict,
    )
    first, second, third = result.results
    assert first.ok
    assert second.problems[0].message.startswith("the pipeline stopped with another message: ")
    [stopped] = third.problems
    assert stopped.message.startswith("the pipeline stopped: ")
    assert stopped.help.endswith("p.test.yaml:10:15")


def test_a_pipeline_that_is_refused(attempt, messages):
    broken = "name: p\nsource: {log: {topic: a}}\nstages: [{filtr: amount > 1}]\nsink: {log: {topic: b}}\n"
    cases = "cases:\n  one: [{expect: {error: unknown stage `filtr`}}]\n  two: [{expect: {error: boom}}]\n"
    result = attempt(cases, broken)
    assert [case.ok for case in result.results] == [True, False]


def test_a_pipeline_that_does_not_start(attempt, messages):
    unfit = "name: p\nsource: {log: {topic: a}}\nstages: [{map: {a: x}}, {filter: b > 1}]\nsink: {log: {topic: b}}\n"
    cases = "cases:\n  one: [{expect: {error: there is no field 'b'}}]\n  two: [{expect: 1}]\n"
    first, second = attempt(cases, unfit).results
    assert first.ok
    [problem] = second.problems
    assert problem.message.startswith("the pipeline does not start: ")
    assert "p.yaml:3:26: error[unknown-field]: filter: there is no field 'b' here" in problem.message


def test_variables_come_from_the_case_alone(attempt, messages, monkeypatch):
    monkeypatch.setenv("LIMIT", "1000")
    pipeline = 'name: p\nsource: {log: {topic: a}}\nstages: [{filter: "n > ${LIMIT:5}"}]\nsink: {log: {topic: b}}\n'
    cases = """\
env: {LIMIT: 10}
cases:
  the file's: {input: [{n: 7}, {n: 11}], expect: [{n: 11}]}
  its own: {env: {LIMIT: 6}, input: [{n: 7}], expect: [{n: 7}]}
"""
    assert messages(attempt(cases, pipeline)) == []
    assert messages(attempt(cases.replace("env: {LIMIT: 10}\n", ""), pipeline)) == ["sink `sink`: 1 too many"]
    assert len(messages(attempt(cases, pipeline, variables={"LIMIT": "20"}))) == 2


@pytest.mark.parametrize("crash", [False, True])
def test_what_is_kept_outlives_crash_and_restart(attempt, messages, crash):
    cases = """\
cases:
  one:
    - input: [{user: ada, amount: 1}]
    - crash
    - input: [{user: ada, amount: 2}]
    - crash: before_commit
    - input: [{user: ada, amount: 3}]
    - restart
    - input: [{user: ada, amount: 4}]
    - expect:
      - {user: ada, n: 1, total: 1}
      - {user: ada, n: 2, total: 3}
      - {user: ada, n: 3, total: 6}
      - {user: ada, n: 4, total: 10}
"""
    assert messages(attempt(cases, KEPT, crash=crash)) == []


@pytest.mark.parametrize("crash", [False, True])
def test_event_time_goes_on_without_a_record(attempt, messages, crash):
    cases = """\
cases:
  by hand:
    - input: [{user: ada, ts: 1000}, {user: ada, ts: 9000}, {user: ada, ts: 11998}]
    - expect: []
    - advance: 0.001s
    - expect: []
    - advance: {by: 1ms}
    - expect: {fields: [n, window_end], records: [{n: 2, window_end: 10000}]}
    - input: [{user: ada, ts: 9999}]
    - expect: {late: 1}
    - advance: {to: 20000}
    - expect: {fields: [n], records: [{n: 1}]}
    - input: [{user: bob, ts: 30000}]
    - end
    - expect: {fields: [user, n], records: [{user: bob, n: 1}]}
"""
    assert messages(attempt(cases, WINDOWS, crash=crash)) == []


def test_silence_closes_windows(attempt, messages):
    cases = """\
cases:
  quiet:
    - input: [{user: ada, ts: 1000}]
    - idle: 29s
    - expect: []
    - idle
    - expect: {count: 1}
"""
    assert messages(attempt(cases, WINDOWS)) == []


def test_time_does_not_go_back(attempt, messages):
    cases = """\
cases:
  one:
    - advance: 5s
    - input: [{user: ada, ts: 10000}]
    - advance: {to: 7999}
    - advance: {clock: 2029-12-31T23:59:59Z}
    - idle: 1s
    - expect: []
"""
    assert messages(attempt(cases, WINDOWS)) == [
        "there is no event time yet that could go on",
        "the watermark is 1 ms beyond that already",
        "the wall clock is 1000 ms beyond that already",
    ]


def test_idle_without_a_setting_of_it(attempt, messages):
    assert messages(attempt("cases:\n  one:\n    - idle\n    - expect: []\n")) == [
        "no source of the pipeline has an `idle`"
    ]


def test_the_clock_stands_still_and_chance_is_always_the_same(attempt, messages):
    pipeline = (
        "name: p\nsource: {log: {topic: a}}\nstages: [{map: {at: now(), r: random(), id: uuid()}}]\n"
        "sink: {log: {topic: b}}\n"
    )
    steps = "    - input: [{n: 1}]\n    - advance: {clock: 90s}\n    - input: [{n: 2}]\n    - expect: []\n"
    looks = [attempt(f"clock: 1000\ncases:\n  one:\n{steps}", pipeline).results[0].looks[0].got for _ in range(2)]
    assert looks[0] == looks[1]
    first, second = (record["value"] for record in looks[0])
    assert (first["at"], second["at"]) == (1000, 91_000)
    assert first["id"] != second["id"]


@pytest.mark.parametrize("crash", [False, True])
def test_kafka_with_an_exchange_needs_no_broker(attempt, messages, crash):
    cases = """\
cases:
  one:
    - input:
      - {partition: 0, value: {user: ada}}
      - {partition: 1, value: {user: bob}}
      - {partition: 2, value: {user: ada}}
    - expect: {unordered: true, records: [{user: ada, n: 1}, {user: ada, n: 2}, {user: bob, n: 1}]}
    - input: [{partition: 1, value: {user: ada}}]
    - expect: [{user: ada, n: 3}]
"""
    assert messages(attempt(cases, ON_KAFKA, crash=crash)) == []


def test_waits_take_no_time(attempt, messages):
    pipeline = (
        "name: p\nsource: {log: {topic: a}}\nstages: [{rate_limit: 1/1m}, {filter: n > 0}]\n"
        "sink: {log: {topic: b}}\n"
        "on_error: {retry: {backoff: 1m, max_backoff: 1h, deadline: 1d}, dead_letter: {log: {topic: c}}}\n"
    )
    cases = """\
cases:
  one:
    - input: [{n: 1}, {n: 2}, {n: x}, {n: 3}]
    - expect: {sink: [{n: 1}, {n: 2}, {n: 3}], dead_letters: 1}
"""
    assert messages(attempt(cases, pipeline)) == []


def test_own_code_that_fails_unexpectedly_shows_where(attempt, tmp_path):
    (tmp_path / "broken_stage.py").write_text(
        "class Broken:\n    async def open(self):\n        raise ZeroDivisionError('by hand')\n"
        "    def process(self, batch):\n        return batch\n"
    )
    pipeline = (
        "name: p\nsource: {log: {topic: a}}\nstages: [{python: 'broken_stage:Broken'}]\nsink: {log: {topic: b}}\n"
    )
    [case] = attempt("cases: {one: {input: [{n: 1}], expect: [{n: 1}]}}", pipeline).results
    assert not case.ok


def test_only_cases_of_a_name_and_only_to_the_first_failure(attempt):
    cases = "cases:\n  One: {input: [], expect: 1}\n  two: {input: [], expect: 1}\n"
    assert [r.case.name for r in attempt(cases, only="ONE").results] == ["One"]
    assert [r.case.name for r in attempt(cases, only="p.test").results] == ["One", "two"]
    assert [r.case.name for r in attempt(cases, fail_fast=True).results] == ["One"]


@pytest.mark.parametrize("crash", [False, True])
def test_what_a_view_holds(attempt, messages, crash):
    cases = """\
cases:
  one:
    - input: [{user: ada, amount: 1}, {user: bob, amount: 2}, {user: ada, amount: 3}]
    - expect: {views: {aggregate: {ada: {user: ada, n: 2, total: 4}, nobody: null}}}
    - expect: {views: {aggregate: {bob: {user: bob, n: 1, total: 3}}}}
"""
    assert messages(attempt(cases, KEPT, crash=crash)) == ["view of `aggregate`: `bob` differs"]


def test_a_stage_without_a_view(attempt, messages):
    cases = "cases:\n  one:\n    - expect: {views: {filter: {a: 1}}}\n"
    assert messages(attempt(cases)) == ["stage `filter` keeps no view that could be looked at"]


def test_what_is_waited_for_in_threads_does_not_move_the_clock(attempt, messages, tmp_path):
    (tmp_path / "names.csv").write_text("id,name\nada,Ada\n")
    pipeline = WINDOWS.replace(
        "stages:", "stages:\n  - enrich: {file: names.csv, key: user, match: id, as: found}\n"
    ).replace("sink:", "  - set: {at: now()}\nsink:")
    cases = """\
clock: 0
cases:
  quiet:
    - input: [{user: ada, ts: 1000}]
    - crash
    - idle
    - expect: 1
"""
    runs = [attempt(cases, pipeline) for _ in range(2)]
    assert messages(runs[0]) == []
    first, second = (run.results[0].looks[0].got[0]["value"]["at"] for run in runs)
    # A little behind the half minute: a commit came before the crash.
    assert first == second
    assert 30_000 <= first < 30_100


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ("drop", "{late: {window: 1}}"),
        ("dead_letter", "{late: 1, dead_letters: [{component: window, error: LateRecordError, key: null}]}"),
        ("{log: {topic: late-ones}}", "{late: 1, window_late: [{user: bob, ts: 1000}]}"),
    ],
)
def test_late_records(attempt, messages, late, expected):
    pipeline = WINDOWS.replace("tumbling: 10s,", f"tumbling: 10s, late: {late},")
    pipeline += "on_error: {dead_letter: {log: {topic: failed}}}\n"
    cases = f"""\
cases:
  one:
    - input: [{{user: ada, ts: 20000}}, {{user: bob, ts: 1000}}]
    - expect: {expected}
"""
    assert messages(attempt(cases, pipeline)) == []

"""`on_error`, on pipelines and on components."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demo.components import Load, Problems
from streamd.config.pipeline import ErrorPolicy


def pipeline(on_error: str, stage_on_error: str = "skip") -> str:
    return (
        "name: p\nsource: {topic: {topic: x}}\n"
        f"stages: [{{id: f, filter: a, on_error: {stage_on_error}}}]\nsink: discard\non_error: {on_error}\n"
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("fail", ErrorPolicy("fail")),
        ("skip", ErrorPolicy("skip")),
        ("{skip: }", ErrorPolicy("skip")),
        ("retry", ErrorPolicy("retry")),
        ("{retry: }", ErrorPolicy("retry")),
        ("{retry: {backoff: 1s, max_backoff: 2s, deadline: 1m}}", ErrorPolicy("retry", 1.0, 2.0, 60.0)),
        ("{retry: {attempts: 3, then: skip}}", ErrorPolicy("retry", attempts=3, then="skip")),
        ("{retry: {backoff: 30s}}", ErrorPolicy("retry", 30.0, 30.0)),
        ("{dead_letter: {file: x}}", ErrorPolicy("dead_letter", dead_letter="dead_letter")),
        ("{dead_letter: discard}", ErrorPolicy("dead_letter", dead_letter="dead_letter")),
        (
            "{dead_letter: {file: x, include_details: true}}",
            ErrorPolicy("dead_letter", dead_letter="dead_letter", include_details=True),
        ),
        (
            "{retry: {deadline: 5s}, dead_letter: {file: x, include_details: true}}",
            ErrorPolicy("retry", deadline=5.0, then="dead_letter", dead_letter="dead_letter", include_details=True),
        ),
        (
            "{retry: {deadline: 5s, then: {dead_letter: {file: x, include_details: true}}}}",
            ErrorPolicy("retry", deadline=5.0, then="dead_letter", dead_letter="dead_letter", include_details=True),
        ),
    ],
)
def test_every_form(load: Load, text: str, policy: ErrorPolicy) -> None:
    """Short and long forms mean the same."""
    config = load(pipeline(text))

    assert config.on_error == policy
    assert [sink.id for sink in config.dead_letters] == ([policy.dead_letter] if policy.dead_letter else [])


def test_components_have_their_own(load: Load) -> None:
    """With a dead-letter sink of their own; without a policy they take the pipeline's."""
    config = load(pipeline("{dead_letter: {file: all}}", "{dead_letter: {file: f}}"))

    assert config.stages[0].on_error == ErrorPolicy("dead_letter", dead_letter="f_dead_letter")
    assert config.sources[0].on_error is None
    assert [(sink.id, str(sink.settings.path)) for sink in config.dead_letters] == [  # type: ignore[attr-defined]
        ("dead_letter", "all"),
        ("f_dead_letter", "f"),
    ]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("{retry: {attempts: 3, then: dead_letter}}", ErrorPolicy("retry", attempts=3, then="dead_letter")),
        ("{retry: {attempts: 3, then: {dead_letter: }}}", ErrorPolicy("retry", attempts=3, then="dead_letter")),
        ("{retry: {attempts: 3}, dead_letter: }", ErrorPolicy("retry", attempts=3, then="dead_letter")),
        ("dead_letter", ErrorPolicy("dead_letter")),
    ],
)
def test_a_component_without_a_sink_takes_the_pipelines(load: Load, text: str, policy: ErrorPolicy) -> None:
    """With what is written there."""
    config = load(pipeline("{retry: , dead_letter: {file: all, include_details: true}}", text))

    assert config.stages[0].on_error == replace(policy, dead_letter="dead_letter", include_details=True)
    assert [sink.id for sink in config.dead_letters] == ["dead_letter"]


def test_there_is_no_sink_to_take(problems: Problems) -> None:
    """The help shows the whole of what can be written."""
    for general in ("skip", "{retry: {then: dead_letter}}", "dead_letter"):
        found = problems(pipeline(general, "{retry: {then: dead_letter}}"))

        assert {d.code for d in found} == {"missing-key"}
        assert 3 in {d.place.line for d in found}
        assert "on_error: {retry: {attempts: 5}, dead_letter: {file: {path: failed.ndjson}}}" in found[0].help


def test_a_dead_letter_id_avoids_those_of_components(load: Load) -> None:
    """A stage may be called dead_letter."""
    text = pipeline("{dead_letter: discard}").replace("id: f", "id: dead_letter")

    assert load(text).on_error.dead_letter == "dead_letter_2"


@pytest.mark.parametrize(
    ("text", "code", "column", "words"),
    [
        ("sikp", "wrong-value", 11, "one of fail, skip, retry, dead_letter"),
        ("5", "wrong-type", 1, "`on_error` must be"),
        ("[skip]", "wrong-type", 1, "got a list"),
        ("{dead_leter: {file: x}}", "unknown-key", 12, "`dead_leter`"),
        ("{skip: , fail: }", "several-actions", 20, "not several"),
        ("{retry: , skip: }", "several-actions", 21, "not several"),
        ("{retry: {then: skip}, dead_letter: {file: x}}", "several-actions", 20, "twice"),
        ("{retry: {backof: 1s}}", "unknown-key", 20, "`backof`"),
        ("{retry: {backoff: soon}}", "wrong-value", 29, "a duration"),
        ("{retry: {attempts: 0}}", "wrong-value", 30, "greater than or equal to 1"),
        ("{retry: {then: retry}}", "wrong-value", 26, "one of fail, skip, dead_letter"),
        ("{retry: 5}", "wrong-type", 12, "a mapping"),
        ("{dead_letter: }", "missing-key", 1, "needs a sink"),
        ("{dead_letter: {}}", "wrong-type", 1, "a sink must be"),
        ("{dead_letter: {flie: x}}", "unknown-component", 26, "`flie`"),
        ("{dead_letter: {file: {pth: x}}}", "unknown-key", 33, "`pth`"),
        ("{dead_letter: {file: x, include_details: maybe}}", "wrong-type", 52, "true or false"),
        ("{dead_letter: {file: x, from: f}}", "unknown-key", 35, "`from`"),
    ],
)
def test_mistakes(problems: Problems, text: str, code: str, column: int, words: str) -> None:
    """Each at its place."""
    found = [d for d in problems(pipeline(text)) if d.code != "missing-key" or code == "missing-key"]

    assert [(d.code, d.place.line, d.place.column) for d in found] == [(code, 5, column)]
    assert words in found[0].message


def test_suggestions(problems: Problems) -> None:
    """For actions and for settings."""
    assert problems(pipeline("sikp"))[0].help == "did you mean `skip`?"
    assert problems(pipeline("{dead_leter: {file: x}}"))[0].help == "did you mean `dead_letter`?"
    assert problems(pipeline("{retry: {thn: skip}}"))[0].help == "did you mean `then`?"

"""Ids, inputs, cycles and loose ends."""

from __future__ import annotations

import pytest

from demo.components import Load, Problems, Spots


def pipeline(stages: str = "[]", sinks: str = "[discard]", sources: str = "{in: {topic: {topic: x}}}") -> str:
    return f"name: p\nsources: {sources}\nstages: {stages}\nsinks: {sinks}\n"


def inputs(load: Load, text: str) -> dict[str, tuple[str, ...]]:
    config = load(text)
    return {component.id: component.inputs for component in (*config.stages, *config.sinks)}


def test_a_linear_list_needs_no_wiring(load: Load) -> None:
    """The first stage reads all sources, each other the one before it, all sinks the last; ids are generated."""
    text = pipeline(
        "[{filter: a}, {filter: b}, {set: {c: 1}}]",
        "[discard, {file: x}]",
        "{one: {topic: {topic: x}}, two: {topic: {topic: y}}}",
    )
    assert inputs(load, text) == {
        "filter": ("one", "two"),
        "filter_2": ("filter",),
        "set": ("filter_2",),
        "sink": ("set",),
        "sink_2": ("set",),
    }


def test_without_stages_sinks_read_the_sources(load: Load) -> None:
    """A pipeline may only move records."""
    assert inputs(load, pipeline()) == {"sink": ("in",)}


@pytest.mark.parametrize("stages", ["", "~", "[]"])
def test_stages_may_be_empty(load: Load, stages: str) -> None:
    """Also as a key without a value."""
    assert load(pipeline(stages)).stages == ()


def test_from_names_other_inputs(load: Load) -> None:
    """One id, several ids, and named outputs."""
    text = pipeline(
        "[{id: f, filter: a}, {id: g, from: in, filter: b}, {id: r, from: [f, g], route: {when: {x: a, y: b}}}]",
        "[{from: r.x, discard: }, {from: [r.y, in], file: y}]",
    )
    assert inputs(load, text) == {
        "f": ("in",),
        "g": ("in",),
        "r": ("f", "g"),
        "sink": ("r.x",),
        "sink_2": ("r.y", "in"),
    }


def test_one_source_and_several(load: Load, spots: Spots) -> None:
    """`source`, a list and a mapping of ids give the same components; both keys at once, or neither, do not."""
    assert [s.id for s in load("name: p\nsource: {topic: {topic: x}}\nsink: discard\n").sources] == ["source"]
    both = "name: p\nsource: {topic: {topic: x}}\nsources: [{topic: {topic: x}}]\nsink: discard\n"
    assert spots(both) == [("several-keys", 3, 1)]
    listed = pipeline(sources="[{id: a, topic: {topic: x}}, {topic: {topic: y}}]")
    assert [s.id for s in load(listed).sources] == ["a", "source"]


@pytest.mark.parametrize("sources", ["{topic: {topic: x}}", "[]", "{}", "x", "5", "[[]]", "[5]", "{in: 5}"])
def test_sources_that_are_none(problems: Problems, sources: str) -> None:
    """Every wrong shape is one problem in its line."""
    found = problems(pipeline(sources=sources))

    assert [d.place.line for d in found] == [2]


def test_a_single_component_below_the_plural_key(problems: Problems) -> None:
    """The commonest slip: `sources: {kafka: …}`."""
    (problem,) = problems(pipeline(sources="{topic: {format: json}}"))

    assert "`sources` maps ids to sources" in problem.message
    assert "write `source:`" in problem.help


def test_duplicate_ids(problems: Problems) -> None:
    """Over sources, stages and sinks; the message names the first line."""
    (problem,) = problems(pipeline("[{id: in, filter: a}]"))

    assert (problem.code, problem.place.line) == ("duplicate-id", 3)
    assert "line 2" in problem.message


def test_generated_ids_avoid_given_ones(load: Load) -> None:
    """Whatever the order."""
    assert [s.id for s in load(pipeline("[{filter: a}, {id: filter, filter: b}]")).stages] == ["filter_2", "filter"]


@pytest.mark.parametrize("id_", ["a.b", "1a", '""', "[x]", "a b"])
def test_ids_that_cannot_be(spots: Spots, id_: str) -> None:
    """A dot divides stage and output, so an id has none."""
    assert [code for code, _, _ in spots(pipeline(f"[{{id: {id_}, filter: a}}]"))] == ["wrong-value"]


def test_an_unknown_input(problems: Problems) -> None:
    """With a suggestion, and everything that could be named."""
    (problem,) = problems(pipeline("[{id: clean, filter: a}]", "[{from: claen, discard: }]"))

    assert (problem.code, problem.place.line, problem.place.column) == ("unknown-input", 4, 16)
    assert problem.help == "did you mean `clean`?"
    assert problem.expected == "one of in, clean"


def test_a_sink_is_no_input(problems: Problems) -> None:
    """Nothing can be read from where records end."""
    (problem,) = problems(pipeline("[]", "[{id: a, discard: }, {from: a, file: x}]"))

    assert problem.help == "`a` is a sink; nothing can be read from it"


@pytest.mark.parametrize(
    ("from_", "code", "words"),
    [
        ("r", "unknown-output", "several outputs"),
        ("r.z", "unknown-output", "no output `z`"),
        ("in.x", "unknown-output", "no named outputs"),
        ("[]", "wrong-type", "`from` must be"),
        ("{a: b}", "wrong-type", "`from` must be"),
    ],
)
def test_inputs_that_cannot_be(problems: Problems, from_: str, code: str, words: str) -> None:
    """Named outputs have to be named, and to exist."""
    stages = "[{id: r, route: {when: {x: a, y: b}}}]"
    found = problems(pipeline(stages, f"[{{from: r.x, discard: }}, {{from: {from_}, file: x}}]"))

    assert [d.code for d in found] == [code]
    assert words in found[0].message


def test_the_stage_after_one_with_outputs_says_which(problems: Problems) -> None:
    """There is no default among named outputs."""
    (problem,) = problems(pipeline("[{id: r, route: {when: {x: a, y: b}}}]"))

    assert problem.code == "missing-output"
    assert problem.expected == "one of from: r.x, from: r.y"


def test_cycles(problems: Problems) -> None:
    """Each is one problem that shows the way round."""
    (problem,) = problems(
        pipeline(
            "[{id: a, from: c, filter: x}, {id: b, filter: x}, {id: c, filter: x}]", "[{from: [in, c], discard: }]"
        )
    )
    assert (problem.code, problem.place.line, problem.place.column) == ("cycle", 3, 24)
    assert "a → b → c → a" in problem.message

    (itself,) = problems(pipeline("[{id: a, from: [in, a], filter: x}]"))
    assert itself.message == "stage `a` reads itself"


def test_two_cycles_are_two_problems(problems: Problems) -> None:
    """None hides the other."""
    stages = "[{id: a, from: b, filter: x}, {id: b, from: a, filter: x}, {id: c, from: [in, c], filter: x}]"

    assert [d.code for d in problems(pipeline(stages))] == ["cycle", "cycle"]


def test_what_nobody_reads(problems: Problems) -> None:
    """A stage or source that leads nowhere loses records, so it is a mistake."""
    (stage,) = problems(pipeline("[{id: dead, filter: a}, {id: b, from: in, filter: b}]"))
    assert (stage.code, stage.place.line, stage.place.column) == ("unused", 3, 21)
    assert "stage `dead`" in stage.message

    (source,) = problems(pipeline("[{from: a, filter: x}]", sources="{a: {topic: {topic: x}}, b: {topic: {topic: x}}}"))
    assert "source `b`" in source.message


def test_an_output_may_be_left_unread(load: Load) -> None:
    """`route` drops what goes to an output that nobody reads."""
    stages = "[{id: r, route: {when: {x: a, y: b}}}]"

    assert load(pipeline(stages, "[{from: r.x, discard: }]")).sinks[0].inputs == ("r.x",)


@pytest.mark.parametrize(
    ("stage", "code", "words"),
    [
        ("{filter: a, where: b}", "unknown-key", "beside stage `filter`"),
        ("{filter: a, set: {b: 1}}", "several-components", "2 stages in one mapping"),
        ("{id: x}", "missing-key", "own key is missing"),
        ("{fron: in, filter: a}", "unknown-key", "`fron`"),
        ("{id: x, flter: a}", "unknown-component", "`flter`"),
        ("{topic: {topic: x}}", "unknown-component", "`topic`"),
        ("5", "wrong-type", "a stage must be"),
        ("{}", "wrong-type", "a stage must be"),
        ("[]", "wrong-type", "a stage must be"),
    ],
)
def test_shapes_that_cannot_be(problems: Problems, stage: str, code: str, words: str) -> None:
    """One component per mapping, and beside it only what is reserved."""
    (problem,) = problems(pipeline(f"[{stage}]"))

    assert (problem.code, problem.place.line) == (code, 3)
    assert words in problem.message


def test_help_for_shapes(problems: Problems) -> None:
    """Settings beside instead of below, misspelt reserved keys, components of another kind."""
    (below,) = problems(pipeline("[{filter: a, where: b}]"))
    assert below.help == "`where` is a setting of `filter`: indent it below `filter:`"
    (misspelt,) = problems(pipeline("[{fron: in, filter: a}]"))
    assert misspelt.help == "did you mean `from`?"
    (other,) = problems(pipeline("[{topic: {topic: x}}]"))
    assert other.help == "`topic` is a source, not a stage"
    (source,) = problems(pipeline(sources="[{topic: {topic: x}, from: y}]"))
    assert source.help == "a source has no input"


def test_one_mistake_does_not_hide_another(problems: Problems) -> None:
    """An id used twice, an input that is not there and a stage that nobody reads, all at once."""
    text = (
        "name: p\nsource: {topic: {topic: x}}\nstages:\n  - {id: lonely, filter: a}\n"
        "  - {id: twice, filter: a, from: source}\n"
        "  - {id: twice, filter: a}\n  - {id: last, filter: a, from: nowhere}\nsink: discard\n"
    )
    found = [(d.code, d.place.line) for d in problems(text)]

    assert {("unused", 4), ("duplicate-id", 6), ("unknown-input", 7)} <= set(found)

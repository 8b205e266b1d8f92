"""Where dead letters enter a pipeline again, and what of it is run for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.dlq.entry import Entry, LetterSettings, Route, pipeline_from
from streamd.dlq.letter import Letter
from streamd.dlq.prepare import placeholder
from streamd.errors import ConfigError
from streamd.plan.graph import build_plan

TWO = """\
name: p
sources:
  - {id: eu, log: {topic: orders-eu}}
  - {id: us, log: {topic: orders-us}}
stages:
  - {id: tax, from: eu, set: {tax: amount * 2}}
  - {id: all, from: [tax, us], set: {sum: amount + 1}}
  - {id: points, python: "own:Points"}
  - {id: rounded, set: {sum: round(sum)}}
sinks:
  - {id: out, log: {topic: out}}
  - {id: raw, from: us, log: {topic: raw}}
on_error: {dead_letter: {log: {topic: dlq}}}
"""
SPEC = placeholder("source", LetterSettings, "dead_letters")


def config_of(text: str) -> PipelineConfig:
    return load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig.model_validate({}))


def letter(stage: str, entry: str | None, topic: str = "orders-eu", value: bytes = b"{}", whole: bool = True) -> Letter:
    return Letter(
        0, 0, None, value, 0, (), "p", stage, "transform", "X", "", topic, 0, 0, 0, 1, entry, whole=whole
    )  # fmt: skip


def route(to_stage: str | None = None, *, to_source: bool = False, text: str = TWO) -> Route:
    return Route(build_plan(config_of(text)), to_stage, to_source)


@pytest.mark.parametrize(
    ("failed", "entry", "way"),
    [
        ("tax", "eu", Entry("source", "eu")),
        ("all", "us", Entry("source", "us")),
        ("points", "points", Entry("into", "points")),
        ("rounded", "points", Entry("behind", "points")),
        ("out", "points", Entry("behind", "points")),
        ("tax", None, Entry("source", "eu")),
        ("all", None, Entry("source", "eu")),
        ("rounded", None, Entry("behind", "points")),
    ],
)
def test_a_letter_enters_where_it_was_kept(failed: str, entry: str | None, way: Entry) -> None:
    assert route().of(letter(failed, entry)) == (way, None)


def test_letters_that_say_no_entry_are_told_apart_by_their_topic() -> None:
    assert route().of(letter("all", None, "orders-us")) == (Entry("source", "us"), None)
    found = route().of(letter("all", None, "elsewhere"))
    assert isinstance(found, str)
    assert "not to be told" in found


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (letter("gone", "eu"), "the pipeline has no gone any more"),
        (letter("tax", "gone"), "not in the pipeline any more"),
        (letter("tax", "eu", whole=False), "only a part of the record was kept"),
        (letter("rounded", "points", value=b"[1]"), "is no JSON object"),
    ],
)
def test_what_cannot_go_stays_and_it_is_said_why(found: Letter, said: str) -> None:
    way = route().of(found)
    assert isinstance(way, str)
    assert said in way


@pytest.mark.parametrize("to_source", [False, True])
def test_a_row_that_a_source_of_documents_could_not_read_stays(to_source: bool) -> None:
    text = TWO.replace("log: {topic: orders-eu}", "file: {path: in.csv, format: csv}")
    unread = replace(letter("eu", "eu", value=b"1,1,true"), phase="extract")
    said = route(to_source=to_source, text=text).of(unread)
    assert said == "source eu could not read it, and it is kept as it was found, not as a document"
    assert route(text=text).of(letter("tax", "eu")) == (Entry("behind", "eu"), None)


def test_a_stage_is_entered_only_from_before_it() -> None:
    assert route("all").of(letter("tax", "eu")) == (Entry("source", "eu"), "all")
    assert route("rounded").of(letter("points", "points")) == (Entry("into", "rounded"), None)
    assert "is not behind the place" in str(route("tax").of(letter("all", "us")))
    assert "is not behind the place" in str(route("tax").of(letter("rounded", "points")))
    with pytest.raises(ConfigError, match="has no stage 'tex'; it has: tax, all, points, rounded"):
        route("tex").check()


def test_back_to_the_source_goes_what_it_read() -> None:
    assert route(to_source=True).of(letter("tax", "eu")) == (Entry("inject", "eu"), None)
    assert "is not what the source read" in str(route(to_source=True).of(letter("rounded", "points")))


@pytest.mark.parametrize(
    ("entry", "to_stage", "stages", "sinks"),
    [
        (Entry("source", "eu"), None, {"tax": ("eu",), "all": ("tax",), "points": ("all",), "rounded": ("points",)},
         {"out": ("rounded",)}),
        (Entry("source", "us"), None, {"all": ("us",), "points": ("all",), "rounded": ("points",)},
         {"out": ("rounded",), "raw": ("us",)}),
        (Entry("source", "us"), "all", {"all": ("us",), "points": ("all",), "rounded": ("points",)},
         {"out": ("rounded",)}),
        (Entry("behind", "points"), None, {"rounded": ("points",)}, {"out": ("rounded",)}),
        (Entry("into", "points"), None, {"points": ("dead_letters",), "rounded": ("points",)}, {"out": ("rounded",)}),
    ],
)  # fmt: skip
def test_only_what_is_behind_is_run(
    entry: Entry, to_stage: str | None, stages: dict[str, tuple[str, ...]], sinks: dict[str, tuple[str, ...]]
) -> None:
    found = pipeline_from(config_of(TWO), entry, to_stage, SPEC)
    assert {stage.id: stage.inputs for stage in found.stages} == stages
    assert {sink.id: sink.inputs for sink in found.sinks} == sinks
    [part] = build_plan(found).parts
    assert len(part.sources) == 1


def test_state_on_the_way_is_refused_and_behind_it_is_not() -> None:
    text = TWO.replace('python: "own:Points"', "aggregate: {by: user, values: {sum: count()}}")
    with pytest.raises(ConfigError, match="stage `points` \\(aggregate\\) remembers what came before"):
        pipeline_from(config_of(text), Entry("source", "eu"), None, SPEC)
    found = pipeline_from(config_of(text), Entry("behind", "points"), None, SPEC)
    assert [stage.id for stage in found.stages] == ["rounded"]
    refused = route(text=text).of(letter("points", "points"))
    assert isinstance(refused, str)
    assert "out of its own state" in refused

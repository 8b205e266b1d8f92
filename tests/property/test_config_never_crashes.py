"""Whatever stands in a file: it loads, or there are problems with places. Nothing else is ever raised."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from demo.components import demo_registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

REGISTRY = demo_registry()
SERVICE = ServiceConfig.model_validate({})

WHOLE = """\
name: orders
sources:
  a: {topic: {topic: "${T:x}", time: {field: ts}}}
  b: {topic: {topic: y, limit: 5}, on_error: skip}
stages:
  - filter: type != "refund" and amount > 50
  - set:
      eur: round(amount * 1.1, 2)
      name: >-
        upper(user.name)
        + "x"
  - {id: r, route: {when: {big: eur > 5, small: eur <= 5}}}
  - {id: w, from: r.big, window: {size: 10s, late: {file: late}}, on_error: {retry: {then: {dead_letter: discard}}}}
sinks:
  - {from: [w, r.small], file: out}
on_error: {dead_letter: {file: {path: x}, include_details: true}}
delivery: at_least_once
error_threshold: {rate: 0.5}
"""
PIECES = (
    *(
        "\n",
        " ",
        "  ",
        "\t",
        ":",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "'",
        '"',
        "|",
        ">",
        "&a ",
        "*a",
        "!x ",
        "#",
        "%",
        "@",
    ),
    *(
        "${",
        "${X}",
        "${X:1}",
        "$${",
        "<<: ",
        "? ",
        "---\n",
        "~",
        "null",
        "true",
        "5",
        "-1",
        ".nan",
        "9" * 400,
        "\\",
        "é",
        "\x00",
    ),
    *("id: ", "from: ", "on_error: ", "filter", "topic", "name: x\n", "stages:\n"),
)


def check(text: str) -> None:
    problems: tuple[object, ...] = ()
    try:
        config = load_pipeline_text(text, Path("p.yaml"), REGISTRY, {"X": "hidden-value"}, SERVICE)
    except ConfigError as error:
        problems = error.diagnostics
    else:
        assert config.name
        assert config.sources
        assert config.sinks
        return
    assert problems
    for problem in problems:
        assert isinstance(problem, Diagnostic)
        assert 1 <= problem.place.line <= len(text.splitlines()) + 1
        assert problem.place.column >= 1
        assert "hidden-value" not in problem.render()


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=4)
)
def test_a_damaged_pipeline(damages: list[tuple[int, int, str]]) -> None:
    """A few characters replaced by others, anywhere."""
    text = WHOLE
    for at, length, piece in damages:
        text = text[:at] + piece + text[at + length :]
    check(text)


VALUES = st.recursive(
    st.sampled_from(["", "~", "5", "x", "'q'", '"${X}"', "'${U}'", "1.5", "true", "a > 1", "10s"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(item or "~" for item in items) + "]")
        | st.dictionaries(
            st.sampled_from(["id", "from", "topic", "filter", "route", "when", "retry", "dead_letter", "file", "x"]),
            inner,
            max_size=3,
        ).map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}")
    ),
    max_leaves=8,
)
KEYS = ("name", "source", "sources", "stages", "sink", "sinks", "on_error", "batch", "error_threshold", "delivery", "x")


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_value_under_any_key(entries: dict[str, str]) -> None:
    """Valid YAML of the wrong shape."""
    check("".join(f"{key}: {value}\n" for key, value in entries.items()))


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """No text at all is too strange."""
    check(text)

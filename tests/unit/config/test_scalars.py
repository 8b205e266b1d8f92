"""Plain scalars in the YAML 1.2 core schema, and the way from a value's character back to the file."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamd.config.file_text import FileText
from streamd.config.scalars import character_index, resolve_plain
from streamd.config.yaml_nodes import Mapping, Scalar, parse_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("2024-01-01", "2024-01-01"),
        ("1" * 5000, "1" * 5000),
        ("=", "="),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    """Only what YAML 1.2 says; none of the surprises of 1.1."""
    got = resolve_plain(text)

    assert got == value
    assert type(got) is type(value)


def test_not_a_number() -> None:
    """`.nan` is the one number that is not itself."""
    got = resolve_plain(".nan")
    assert isinstance(got, float)
    assert math.isnan(got)


def scalar(text: str) -> tuple[str, Scalar]:
    """The raw text and the node of the value of the only key."""
    document = parse_document(FileText("x", text))
    assert isinstance(document.root, Mapping), document.problems
    node = document.root.get("k")
    assert isinstance(node, Scalar)
    return text[node.start : node.end], node


@pytest.mark.parametrize(
    "text",
    [
        "k: amount > BAD\n",
        "k: amount\n  > BAD\n",
        "k: 'it''s > BAD'\n",
        "k: '''''x'''' BAD'\n",
        'k: "a \\u00e9\\n\\" \\\\ BAD"\n',
        'k: "a \\\n   BAD"\n',
        "k: |\n  first\n    second BAD\n",
        "k: |2\n   first\n  BAD\n",
        "k: >-  # why\n  first\n  second\n\n  BAD\n",
        "k:\n    >\n    x\n      y\n    BAD\n",
    ],
)
def test_a_character_is_found_in_every_style(text: str) -> None:
    """The place of BAD in the value leads to the place of BAD in the file."""
    raw, node = scalar(text)

    index = character_index(raw, node.text, node.style, node.text.index("BAD"))

    assert raw[index : index + 3] == "BAD"


@given(
    st.text(st.sampled_from("ab 'é\"\\\n:#-"), min_size=1, max_size=60),
    st.sampled_from([None, "'", '"', "|", ">"]),
    st.integers(4, 40),
)
def test_every_visible_character_is_found(value: str, style: str | None, width: int) -> None:
    """For any text in any style, each character that is no blank is found as itself, in order."""
    text = yaml.safe_dump({"k": value}, default_style=style, width=width, allow_unicode=True).replace('"k"', "k")
    text = text.replace("'k'", "k", 1).removeprefix("? |-\n  k\n: ").removeprefix("? >-\n  k\n: ")
    if not text.startswith("k:"):
        text = f"k: {text}"
    raw, node = scalar(text)
    assert node.text == value

    before = -1
    for offset, character in enumerate(value):
        index = character_index(raw, value, node.style, offset)
        assert index >= before
        before = index
        if not character.isspace() and (node.style != '"' or raw[index] != "\\"):
            assert raw[index] == character


def test_past_the_end_is_the_end() -> None:
    """An error at the end of a text points behind its last character."""
    raw, node = scalar("k: 'a + '\n")

    assert character_index(raw, node.text, node.style, len(node.text)) == len("'a + ")

"""Lines of a file as they may be shown."""

from __future__ import annotations

import pytest

from streamd.config.file_text import FileText, is_secret_name


def test_places_count_from_one_in_characters() -> None:
    """Whatever the line breaks; a tab and an é are one column each."""
    file = FileText("f", "ab\r\né\tx\rz\n")

    places = [file.place(file.text.index(character)) for character in "béxz"]
    assert [(p.line, p.column) for p in places] == [(1, 2), (2, 1), (2, 3), (3, 1)]
    assert str(file.place(1)) == "f:1:2"
    assert file.place(len(file.text)).line == 4


def test_a_snippet_has_the_line_before_and_a_caret() -> None:
    """Numbers are aligned, the caret stands below the span."""
    text = "".join(f"line {number}\n" for number in range(1, 12))
    start = text.index("line 10") + 5

    assert FileText("f", text).snippet(start, start + 2) == [
        "  9 | line 9",
        " 10 | line 10",
        "    |      ^^",
    ]


def test_a_span_over_several_lines_ends_with_the_first() -> None:
    """Only one line is underlined."""
    assert FileText("f", "a: b\n  c\n").snippet(3, 9) == [" 1 | a: b", "   |    ^"]


def test_the_end_of_the_file_can_be_pointed_at() -> None:
    """Also when the file is empty or ends without a line break."""
    assert FileText("f", "a: [").snippet(4, 5) == [" 1 | a: [", "   |     ^"]
    assert FileText("f", "a\n").snippet(2, 3)[-1] == "   | ^"
    assert FileText("f", "").snippet(0, 1)[-1] == "   | ^"


def test_long_lines_are_cut_around_the_caret() -> None:
    """Neither the line's start nor its end has to be shown."""
    text = "a" * 500 + "X" + "b" * 500
    line, caret = FileText("f", text).snippet(500, 501)

    assert len(line) < 200
    assert line[caret.index("^")] == "X"


def test_control_characters_do_not_reach_the_terminal() -> None:
    """An escape sequence in a broken file is shown as blanks."""
    assert "\x1b" not in "".join(FileText("f", "\x1b[31mred\n").snippet(0, 1))


def test_masked_spans() -> None:
    """A mask has the same length whatever it hides, and the caret moves with it."""
    text = "password: hunter2, next: bad"
    file = FileText("f", text)
    file.mask(10, 17)
    start = text.index("bad")

    assert file.snippet(start, start + 3) == [" 1 | password: ***, next: bad", "   |                      ^^^"]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "sasl.password",
        "key_password",
        "PASSWD",
        "client_secret",
        "token",
        "api_key",
        "private_key",
        "DB_PASS",
        "PW",
    ],
)
def test_secret_names(name: str) -> None:
    """Names under which secrets are written."""
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["key", "topic", "path", "pass", "pwned", "user", "keys", "partition_key"])
def test_ordinary_names(name: str) -> None:
    """Names that are shown."""
    assert not is_secret_name(name)

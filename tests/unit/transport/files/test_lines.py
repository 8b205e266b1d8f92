"""Lines are found whatever the chunks, with their places; long ones become errors, not memory."""

from __future__ import annotations

import pytest

from streamd.codecs import Undecodable
from streamd.transport.files.lines import LineCutter


def cut(data, size=7, **settings):
    """All (start, value) of the data fed in pieces of `size`, and where reading ended."""
    settings.setdefault("max_bytes", 1000)
    cutter = LineCutter(settings.pop("offset", 0), settings.pop("max_bytes"), **settings)
    found = []
    for at in range(0, len(data), size):
        lines = cutter.feed(data[at : at + size])
        found += zip(lines.starts, lines.values, strict=True)
    lines = cutter.finish()
    return [*found, *zip(lines.starts, lines.values, strict=True)], lines.end


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_and_where_they_begin(size):
    found, end = cut(b"one\r\n\n  \ntwo\nthree", size)
    assert found == [(0, b"one"), (9, b"two"), (13, b"three")]
    assert end == 18


def test_blank_lines_are_kept_on_demand():
    assert cut(b"a\n\n b\n", keep_blank=True)[0] == [(0, b"a"), (2, b""), (3, b" b")]


def test_places_go_on_from_where_the_reader_began():
    assert cut(b"x\ny\n", offset=100) == ([(100, b"x"), (102, b"y")], 104)


def test_the_end_is_behind_complete_lines_only():
    cutter = LineCutter(0, 100)
    assert cutter.feed(b"one\ntw").end == 4
    assert cutter.feed(b"o").end == 4
    assert cutter.feed(b"\n").end == 8


def test_a_byte_order_mark_is_left_out():
    assert cut(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")[0] == [(0, b"a"), (5, b"\xef\xbb\xbfb")]


@pytest.mark.parametrize("size", [1, 4, 9, 1000])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_line_that_is_too_long_is_one_error_and_the_next_is_fine(size, quoted):
    found, end = cut(b"a\n" + b"x" * 50 + b"\nb\n" + b"y" * 50, size, max_bytes=20, quoted=quoted)
    assert [start for start, _ in found] == [0, 2, 53, 55]
    assert [value for _, value in found if isinstance(value, bytes)] == [b"a", b"b"]
    assert end == 105
    assert "more than 20 bytes" in found[1][1].reason
    assert "it has 50, of which the first 20 are kept" in found[1][1].reason
    assert [value.raw for _, value in found if isinstance(value, Undecodable)] == [b"x" * 20, b"y" * 20]


def test_what_is_kept_of_a_long_line_is_bounded():
    cutter = LineCutter(0, 100)
    for _ in range(100):
        assert cutter.feed(b"z" * 1000).end == 0
        assert len(cutter._rest) <= 100


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_line_end_inside_quotes_belongs_to_the_row(size):
    data = b'1,"a\nb ""c"" \n"\n2,"d"\n3,"e\n'
    found, _ = cut(data, size, quoted=True)
    assert found[:2] == [(0, b'1,"a\nb ""c"" \n"'), (16, b'2,"d"')]
    assert found[2] == (22, Undecodable("the file ends inside double quotes"))


@pytest.mark.parametrize("size", [1, 16, 1000])
def test_a_quote_that_nobody_closes_costs_one_line(size):
    data = b'1,"open\n' + b"".join(b"%03d,fine\n" % n for n in range(30))
    found, _ = cut(data, size, max_bytes=64, quoted=True)
    assert found[0] == (0, b'1,"open')
    assert [value for _, value in found[1:]] == [b"%03d,fine" % n for n in range(30)]

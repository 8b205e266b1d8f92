"""However the bytes come in, the lines are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.transport.files.lines import LineCutter

alphabet = st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b'"', b" ", b"\xef\xbb\xbf", b"\xff"])


def lines_of(pieces, **settings):
    cutter = LineCutter(0, 12, **settings)
    found = []
    for piece in pieces:
        lines = cutter.feed(piece)
        found += zip(lines.starts, lines.values, strict=True)
    lines = cutter.finish()
    return [*found, *zip(lines.starts, lines.values, strict=True)], lines.end


@given(st.lists(alphabet, max_size=60).map(b"".join), st.data(), st.booleans())
def test_chunks_make_no_difference_without_quotes(data, draws, keep_blank):
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole, end = lines_of([data], keep_blank=keep_blank)
    assert lines_of(pieces, keep_blank=keep_blank) == (whole, end)
    assert end == len(data)
    assert [start for start, _ in whole] == sorted({start for start, _ in whole})


@given(st.lists(alphabet, max_size=60).map(b"".join), st.data())
def test_nothing_is_lost_with_quotes(data, draws):
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    found, end = lines_of(pieces, quoted=True, keep_blank=True)
    assert end == len(data)
    for start, value in found:
        if isinstance(value, bytes) and start:
            assert data[start : start + len(value)] == value


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("size", [11, 12, 13, 30])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r", b"\r\r\n"])
def test_neither_a_mark_nor_the_end_counts_wherever_it_is_cut(mark, size, end):
    data = mark + b"a" * size + end
    whole = lines_of([data])
    for cut in range(3 if mark else 0, len(data) + 1):
        assert lines_of([data[:cut], data[cut:]]) == whole
        assert lines_of([data[:cut], *(data[at : at + 1] for at in range(cut, len(data)))]) == whole

"""Compressed files are read as they come, and what is damaged says so."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import zstandard

from streamd.errors import FatalError
from streamd.transport.files.compression import compressed, compression_of, decompressed

DATA = b"".join(b"line %d\n" % n for n in range(50_000))
PATH = Path("a.gz")


def read(raw, compression, size=10_000):
    stream = decompressed(io.BytesIO(raw), compression, PATH)
    pieces = []
    while piece := stream.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.ndjson", "none"), ("a.csv.gz", "gzip"), ("a.GZ", "gzip"), ("a.zst", "zstd"), ("a.b.zstd", "zstd")],
)
def test_the_ending_says_how_a_file_is_compressed(name, expected):
    assert compression_of(Path(name), "auto") == expected
    assert compression_of(Path(name), "none") == "none"


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_frames_one_behind_the_other_read_as_one(compression):
    raw = b"".join(compressed(DATA[at : at + 100_000], compression) for at in range(0, len(DATA), 100_000))
    assert read(raw, compression) == DATA


def test_what_other_programs_write_is_read():
    assert read(gzip.compress(DATA), "gzip") == DATA
    assert read(zstandard.ZstdCompressor(level=19, write_checksum=True).compress(DATA), "zstd") == DATA


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_empty_file_has_nothing(compression):
    assert read(b"", compression) == b""


@pytest.mark.parametrize(("compression", "message"), [("gzip", "not a whole gzip"), ("zstd", "not a whole zstd")])
def test_a_file_that_was_cut_off_gives_what_is_there_and_then_an_error(compression, message):
    raw = compressed(DATA, compression)
    stream = decompressed(io.BytesIO(raw[: len(raw) - 20]), compression, PATH)
    found = b""

    def read_on():
        nonlocal found
        while piece := stream.read(10_000):
            found += piece

    with pytest.raises(FatalError, match=f"a.gz is {message}"):
        read_on()
    assert DATA.startswith(found)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_is_not_compressed_is_an_error(compression):
    with pytest.raises(FatalError, match="is not a"):
        read(b"not compressed at all, whatever the name says", compression)


def test_a_zstd_bomb_comes_in_pieces():
    raw = compressed(bytes(300_000_000), "zstd")
    assert len(raw) < 100_000
    stream = decompressed(io.BytesIO(raw), "zstd", PATH)
    assert len(stream.read(1000)) == 1000
    assert len(stream._ready) < 64 * 1024 * 1024

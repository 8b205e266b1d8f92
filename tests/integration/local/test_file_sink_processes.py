"""A real process that writes files and is killed in the middle of it, again and again: every record is there once."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
from pathlib import Path

import fastavro
import msgpack
import pytest
from google.protobuf.proto import parse_length_prefixed

from demo.number import number_class, number_descriptor

WRITER = Path(__file__).with_name("file_writer.py")
COUNT = 1500
NUMBER = {"type": "record", "name": "Number", "fields": [{"name": "n", "type": "long"}]}


def run_until_done(folder, settings, chance):
    """Start the writer until it ends by itself; gives how often it was killed."""
    kills = 0
    while True:
        command = [sys.executable, WRITER, folder, str(COUNT), json.dumps(settings)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            # The kill falls wherever the process is by then: writing, syncing, committing, renaming.
            if kills < 6 and all(process.stdout.readline() for _ in range(chance.randint(1, 8))):
                process.kill()
                kills += 1
            process.stdout.read()
        if process.returncode == 0:
            return kills
        assert process.returncode == -9


def numbers(data):
    return [json.loads(line)["n"] for line in data.splitlines()]


@pytest.mark.parametrize(("path", "unpack"), [("out.ndjson", bytes), ("out.ndjson.gz", gzip.decompress)])
def test_one_file(tmp_path, path, unpack):
    assert run_until_done(tmp_path, {"path": path}, random.Random(3)) >= 3
    assert numbers(unpack((tmp_path / path).read_bytes())) == list(range(COUNT))


def test_a_row_of_files(tmp_path):
    settings = {"path": "out/o.ndjson", "rotate": {"records": 10}}
    assert run_until_done(tmp_path, settings, random.Random(4)) >= 3
    files = sorted(path for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert [numbers(path.read_bytes()) for path in files] == [list(range(n, n + 10)) for n in range(0, COUNT, 10)]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(".part")] == []


def in_blocks(path):
    return [record["n"] for record in fastavro.reader(io.BytesIO(path.read_bytes()))]


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_one_file_of_avro(tmp_path, compression):
    settings = {"path": "out.avro", "format": {"avro": {"schema": NUMBER}}, "compression": compression}
    assert run_until_done(tmp_path, settings, random.Random(5)) >= 3
    assert in_blocks(tmp_path / "out.avro") == list(range(COUNT))


def test_a_row_of_files_of_avro(tmp_path):
    settings = {"path": "out/o.avro", "format": {"avro": {"schema": NUMBER}}, "rotate": {"records": 10}}
    assert run_until_done(tmp_path, settings, random.Random(6)) >= 3
    files = sorted(path for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert [in_blocks(path) for path in files] == [list(range(n, n + 10)) for n in range(0, COUNT, 10)]


def unpacked(path):
    return [document["n"] for document in msgpack.Unpacker(io.BytesIO(path.read_bytes()))]


def parsed(path):
    stream, found = io.BytesIO(path.read_bytes()), []
    while (message := parse_length_prefixed(number_class(), stream)) is not None:
        found.append(message.n)
    return found


@pytest.mark.parametrize(("form", "read"), [("msgpack", unpacked), ("protobuf", parsed)])
@pytest.mark.parametrize("rotate", [None, {"records": 10}])
def test_files_of_records_one_behind_the_other(tmp_path, form, read, rotate):
    given = {} if form == "msgpack" else {"descriptor": str(number_descriptor(tmp_path)), "message": "Number"}
    settings = {"path": "out/o", "format": {form: given}, "rotate": rotate}
    assert run_until_done(tmp_path, settings, random.Random(8)) >= 3
    files = sorted(path for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert len(files) == (1 if rotate is None else COUNT // 10)
    assert [n for path in files for n in read(path)] == list(range(COUNT))

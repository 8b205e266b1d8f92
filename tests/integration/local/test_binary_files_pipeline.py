"""From files to files of the same binary format through the whole program, also when it is killed in their middle."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys

import fastavro
import msgpack
import pytest
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from demo.number import number_class, number_descriptor

# So many that what comes of them does not fit into a pipe several times over.
COUNTS = {"avro": 6000, "msgpack": 60_000, "protobuf": 60_000}
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["sale", "gift"]}},
    ],
}
SALE = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["sale"]}},
        {"name": "shop", "type": "string", "default": "main"},
    ],
}
PIPELINE = """
name: files
source: {file: {path: in, format: FORMAT}}
stages:
  - filter: n % 2 == 0
sinks:
  - {id: kept, file: {path: out, format: FORMAT}}
  - {id: screen, stdout: {}}
on_error: {dead_letter: {file: {path: bad.ndjson}}}
"""
FORMATS = {
    "avro": "{avro: {schema_file: sale.avsc}}",
    "msgpack": "msgpack",
    "protobuf": "{protobuf: {descriptor: number.desc, message: Number}}",
}


def prepare(folder, form, given):
    """The command that reads the file, which is given as its bytes."""
    (folder / "in").write_bytes(given)
    (folder / "sale.avsc").write_text(json.dumps(SALE))
    number_descriptor(folder)
    (folder / "files.yaml").write_text(PIPELINE.replace("FORMAT", FORMATS[form]))
    (folder / "streamd.yaml").write_text("http: {enabled: false}\n")
    return [sys.executable, "-m", "streamd.cli.main", "run", "files.yaml", "--until-idle"]


def file_of(form, numbers, gifts=()):
    """A file as the format's own library writes it."""
    out = io.BytesIO()
    if form == "avro":
        orders = [{"n": n, "kind": "gift" if n in gifts else "sale"} for n in numbers]
        fastavro.writer(out, ORDER, orders, "deflate", sync_interval=2000)
    elif form == "msgpack":
        out.writelines(msgpack.packb({"n": n}) for n in numbers)
    else:
        number = number_class()
        for n in numbers:
            serialize_length_prefixed(number(n=n), out)
    return out.getvalue()


def numbers_in(form, path):
    """What the format's own library reads."""
    with path.open("rb") as file:
        if form == "avro":
            return [record["n"] for record in fastavro.reader(file)]
        if form == "msgpack":
            return [document["n"] for document in msgpack.Unpacker(file)]
        number, found = number_class(), []
        while (message := parse_length_prefixed(number, file)) is not None:
            found.append(message.n)
        return found


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["error"] for line in (folder / "bad.ndjson").read_text().splitlines()]


def test_avro_in_avro_out_and_what_cannot_be_resolved_is_a_dead_letter(tmp_path):
    letters = run(prepare(tmp_path, "avro", file_of("avro", range(20), gifts=(4, 7))), tmp_path)
    with (tmp_path / "out").open("rb") as file:
        assert list(fastavro.reader(file)) == [
            {"n": n, "kind": "sale", "shop": "main"} for n in range(0, 20, 2) if n != 4
        ]
    assert [letter["offset"] for letter in letters] == [4, 7]
    assert all("enum `Kind` does not have the symbol" in letter["message"] for letter in letters)


@pytest.mark.parametrize(
    ("form", "bad", "said"),
    [
        ("msgpack", b"\x07", "a record must be a MessagePack map"),
        ("protobuf", b"\x02\x08\xff", "not a message Number: its bytes make no message"),
    ],
)
def test_a_record_that_cannot_be_read_and_one_that_is_not_whole_are_dead_letters(tmp_path, form, bad, said):
    before, whole = file_of(form, range(1, 11)), file_of(form, range(11, 21))
    letters = run(prepare(tmp_path, form, before + bad + whole + file_of(form, [300])[:-1]), tmp_path)
    assert numbers_in(form, tmp_path / "out") == list(range(2, 21, 2))
    start = len(before + bad + whole)
    assert [letter["offset"] for letter in letters] == [len(before), start]
    assert said in letters[0]["message"]
    assert f"the file ends inside the record that begins at byte {start}" in letters[1]["message"]


@pytest.mark.parametrize("form", FORMATS)
def test_killed_again_and_again_every_record_is_there_once(tmp_path, form):
    count, chance, kills = COUNTS[form], random.Random(7), 0
    command = prepare(tmp_path, form, file_of(form, range(count)))
    while True:
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        ) as process:
            # The pipe is full before it is read to its end: the kill falls in the middle.
            if kills < 3 and all(process.stdout.readline() for _ in range(chance.randint(1, 400))):
                os.killpg(process.pid, 9)
                kills += 1
            process.stdout.read()
        if process.returncode == 0:
            break
        assert process.returncode == -9
    assert kills >= 2
    assert numbers_in(form, tmp_path / "out") == list(range(0, count, 2))


@pytest.mark.parametrize(("form", "damage"), [("msgpack", b"\xc1"), ("protobuf", b"\xff" * 9 + b"\x01")])
def test_what_lies_before_damage_is_there_when_it_stops(tmp_path, form, damage):
    """The same in each run: the next one comes to the damage with nothing before it."""
    good = file_of(form, range(1, 11))
    command = prepare(tmp_path, form, good + damage + file_of(form, [12]))
    for _ in range(3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1, done.stderr
        assert f"byte {len(good)}" in done.stderr
        assert numbers_in(form, tmp_path / "out") == list(range(2, 11, 2))

"""From Avro files to Avro files through the whole program, also when it is killed in the middle of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import fastavro

COUNT = 6000
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
name: avro
source: {file: {path: in.avro, format: {avro: {schema_file: sale.avsc}}}}
stages:
  - filter: n % 2 == 0
sinks:
  - {id: kept, file: {path: out.avro, format: {avro: {schema_file: sale.avsc}}, compression: deflate}}
  - {id: screen, stdout: {}}
on_error: {dead_letter: {file: {path: bad.ndjson}}}
"""


def prepare(folder, count, gifts=()):
    with (folder / "in.avro").open("wb") as file:
        orders = [{"n": n, "kind": "gift" if n in gifts else "sale"} for n in range(count)]
        fastavro.writer(file, ORDER, orders, "deflate", sync_interval=2000)
    (folder / "sale.avsc").write_text(json.dumps(SALE))
    (folder / "avro.yaml").write_text(PIPELINE)
    (folder / "streamd.yaml").write_text("http: {enabled: false}\n")
    return [sys.executable, "-m", "streamd.cli.main", "run", "avro.yaml", "--until-idle"]


def read(folder):
    with (folder / "out.avro").open("rb") as file:
        return list(fastavro.reader(file))


def test_avro_in_avro_out_and_what_cannot_be_resolved_is_a_dead_letter(tmp_path):
    command = prepare(tmp_path, 20, gifts=(4, 7))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    wanted = [{"n": n, "kind": "sale", "shop": "main"} for n in range(0, 20, 2) if n != 4]
    assert read(tmp_path) == wanted
    letters = [json.loads(line) for line in (tmp_path / "bad.ndjson").read_text().splitlines()]
    assert [letter["error"]["offset"] for letter in letters] == [4, 7]
    assert all("enum `Kind` does not have the symbol" in letter["error"]["message"] for letter in letters)


def test_killed_again_and_again_every_record_is_there_once(tmp_path):
    command, chance, kills = prepare(tmp_path, COUNT), random.Random(7), 0
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
    assert [record["n"] for record in read(tmp_path)] == list(range(0, COUNT, 2))

"""From CSV to CSV and JSON lines through the whole program, as a user runs it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

PIPELINE = """
name: csv
source: {file: {path: in.csv.gz, format: csv, types: {id: int, amount: float}, max_record_bytes: 40}}
stages:
  - filter: amount > 5
  - set: {eur: amount * 2}
sinks:
  - file: {path: out.csv, format: csv, columns: [id, eur, name, amount]}
  - file: {path: "out/{partition}.ndjson", rotate: {records: 3}}
on_error: {dead_letter: {file: {path: bad.ndjson}}}
"""
SERVICE = "http: {enabled: false}\n"


def test_csv_in_csv_out(tmp_path):
    rows = [f'{n},{n * 1.5},"n, {n}"\n' for n in range(10)]
    rows[6:6] = ["x,9,y\n", "7,8," + "z" * 50 + "\n"]
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(("id,amount,name\n" + "".join(rows)).encode()))
    (tmp_path / "csv.yaml").write_text(PIPELINE)
    (tmp_path / "streamd.yaml").write_text(SERVICE)
    command = [sys.executable, "-m", "streamd.cli.main", "run", "csv.yaml", "--until-idle"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    kept = [n for n in range(10) if n * 1.5 > 5]
    lines = [f'{n},{n * 3.0},"n, {n}",{n * 1.5}' for n in kept]
    assert (tmp_path / "out.csv").read_text().splitlines() == ["id,eur,name,amount", *lines]
    files = sorted((tmp_path / "out").glob("*.ndjson"))
    assert [len(path.read_text().splitlines()) for path in files] == [3, 3]
    found = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert found == [{"id": n, "amount": n * 1.5, "name": f"n, {n}", "eur": n * 3.0} for n in kept]
    errors = [json.loads(line)["error"]["message"] for line in (tmp_path / "bad.ndjson").read_text().splitlines()]
    assert errors == [
        "column 'id' does not hold an integer",
        "the record has more than 40 bytes (max_record_bytes): it has 54, of which the first 40 are kept",
    ]

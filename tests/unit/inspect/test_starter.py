"""The pipeline that is proposed: bounds of times, and the files in config/samples taken through it."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from services.command import streamd
from streamd.inspect.starter import bound
from streamd.profile.times import Times

SAMPLES = Path(__file__).resolve().parents[3] / "config" / "samples"
LINES = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in (".ndjson", ".csv"))


@pytest.mark.parametrize(
    ("behind", "said"), [(0, "0s"), (7, "1007ms"), (1500, "3s"), (61_000, "2m"), (3_600_000, "2h")]
)
def test_bound(behind, said):
    times = Times()
    times.behind = behind
    assert bound(times) == said


@pytest.mark.parametrize("name", LINES)
def test_it_is_valid_and_runs_on_a_sample(name, tmp_path):
    shutil.copy(SAMPLES / name, tmp_path)
    made = streamd("inspect", name, "--pipeline", "--out", "starter.yaml", folder=tmp_path)
    assert made.code == 0, made.all
    valid = streamd("validate", "starter.yaml", folder=tmp_path)
    assert valid.code == 0, valid.all
    ran = streamd("run", "starter.yaml", "--until-idle", folder=tmp_path)
    assert ran.code == 0, ran.all
    broken = tmp_path / f"{name.split('.')[0]}-errors.ndjson"
    failed = len(broken.read_bytes().splitlines()) if broken.exists() else 0
    lines = len((tmp_path / name).read_bytes().splitlines()) - name.endswith(".csv")
    records = [orjson.loads(line) for line in ran.out.splitlines()]
    assert len(records) + failed == lines
    assert bool(failed) == ("errors" in name)

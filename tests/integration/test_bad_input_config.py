"""Configurations that cannot run: the command ends with code 2, says what is wrong and where, and nothing is touched.

Every single diagnostic is tested in tests/unit/config; here is what a user sees of each kind.
"""

from __future__ import annotations

import pytest

from demo.daemon import Daemon
from services.command import streamd

GOOD = """name: p
source: {file: {path: in.ndjson}}
stages:
- filter: n > 1
sink: {stdout: {}}
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
CASES = {
    "broken YAML": (GOOD.replace("n > 1", "[n > 1"), "broken-yaml", "p.yaml:"),
    "a tab": (GOOD.replace("- filter", "\t- filter"), "broken-yaml", "p.yaml:4:1"),
    "an alias bomb": (GOOD + BOMB, "too-large", "aliases of aliases multiply"),
    "a key twice": (GOOD + "name: q\n", "duplicate-key", "line 1"),
    "an unknown key": (GOOD + "colour: red\n", "unknown-key", "p.yaml:6:1"),
    "a misspelt key": (GOOD.replace("source:", "sorce:"), "unknown-key", "did you mean `source`?"),
    "a misspelt stage": (GOOD.replace("filter", "fliter"), "unknown", "did you mean `filter`?"),
    "a misspelt setting": (GOOD.replace("path", "pth"), "unknown-key", "did you mean `path`?"),
    "a wrong type": (GOOD + "batch: {max_records: many}\n", "wrong-type", "a whole number"),
    "a missing setting": (GOOD.replace("{path: in.ndjson}", "{}"), "missing-key", "`path` of source `file` is missing"),
    "no sink": (GOOD.replace("sink: {stdout: {}}\n", ""), "missing", "sink"),
    "an unset variable": (GOOD.replace("n > 1", "n > ${NOT_SET_ANYWHERE}"), "unset-variable", "--set"),
    "a missing secret": (GOOD.replace("n > 1", '"${file:/nowhere/x}"'), "unreadable-file", "/nowhere/x"),
    "a class behind a value": (GOOD.replace("n > 1", "n.__class__ == 1"), "bad-expression", "name '__class__' is not"),
    "a class behind a call": (GOOD.replace("n > 1", "'().__class__.__bases__[0]'"), "bad-expression", "p.yaml:4"),
    "an import": (GOOD.replace("n > 1", "__import__('os').system('true')"), "bad-expression", "p.yaml:4:11"),
    "an unknown function": (GOOD.replace("n > 1", "roundd(n) > 1"), "bad-expression", "round"),
    "recursion": (GOOD.replace("n > 1", "(" * 500 + "n" + ")" * 500), "bad-expression", "p.yaml:4"),
    "a lambda": (GOOD.replace("n > 1", "'(lambda f: f(f))(lambda f: f(f))'"), "bad-expression", "p.yaml:4"),
    "a field that map left out": (GOOD.replace("- filter", "- map: {m: n}\n- filter"), "unknown-field", "p.yaml:5:3"),
    "a value and a field inside it": (GOOD.replace("- filter: n > 1", "- map: {a: n, a.b: n}"), "wrong-value", "4:15"),
    "a table that is not there": (
        GOOD.replace("filter: n > 1", "enrich: {file: t.csv, key: n, match: id}"), "unusable-component", "t.csv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_its_place_before_anything_is_touched(name, tmp_path):
    text, code, said = CASES[name]
    (tmp_path / "p.yaml").write_text(text)
    (tmp_path / "in.ndjson").write_text('{"n": 2}\n')
    ended = streamd("validate", "p.yaml", folder=tmp_path, deadline=30)
    assert ended.code == 2, ended.all
    assert f"error[{code}" in ended.err, ended.all
    assert said in ended.err, ended.all
    assert "Traceback" not in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ndjson", "p.yaml"]


def test_run_refuses_all_files_when_one_is_wrong_and_runs_them_when_it_is_mended(tmp_path):
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (tmp_path / "in.ndjson").write_text('{"n": 1}\n{"n": 2}\n')
    good = GOOD.replace("in.ndjson", str(tmp_path / "in.ndjson"))
    (folder / "a.yaml").write_text(good)
    (folder / "b.yaml").write_text(good.replace("name: p", "name: q").replace("filter", "fliter"))
    (tmp_path / "streamd.yaml").write_text("state_dir: state\nhttp: {enabled: false}\nworkers: 1\n")
    arguments = ("run", "pipelines", "--config", "streamd.yaml", "--until-idle")
    ended = streamd(*arguments, folder=tmp_path, deadline=60)
    assert (ended.code, ended.out) == (2, ""), ended.all
    assert not (tmp_path / "state").exists()
    (folder / "b.yaml").write_text(good.replace("name: p", "name: q"))
    ended = streamd(*arguments, folder=tmp_path, deadline=60)
    assert ended.code == 0, ended.all
    assert ended.out.splitlines() == ['{"n": 2}'] * 2


def test_a_secret_is_in_nothing_that_is_said(tmp_path):
    """Also where an error quotes it: here it is put into the name of a file that cannot be read."""
    (tmp_path / "token").write_text("s3cr3t-t0k3n\n")
    daemon = Daemon(tmp_path, GOOD.replace("in.ndjson", "'${file:token}/in.ndjson'"), "--until-idle")
    with daemon:
        assert daemon.ended() == 1
    assert "pipeline p failed: " in daemon.text
    assert "***/in.ndjson" in daemon.text
    assert "s3cr3t-t0k3n" not in daemon.text

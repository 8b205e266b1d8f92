"""`streamd test`: what it prints, writes and returns."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

PIPELINE = "name: p\nsource: {log: {topic: a}}\nstages: [{set: {m: n * 2}}]\nsink: {log: {topic: b}}\n"
RIGHT = "cases:\n  doubles: {input: [{n: 1}], expect: [{n: 1, m: 2}]}\n"
WRONG = "cases:\n  doubles: {input: [{n: 1}], expect: [{n: 1, m: 3}]}\n  other: {input: [{n: 2}], expect: 1}\n"


@pytest.fixture
def pipeline(write):
    return write("p.yaml", PIPELINE)


def test_all_passed(cli, write, pipeline):
    write("p.test.yaml", RIGHT)
    for arguments in ((), (".",), ("p.yaml",), ("p.test.yaml", "p.yaml")):
        ended = cli("test", *arguments)
        assert ended.code == 0
        assert ended.out.startswith("PASS p.test.yaml  1 case, ")
        assert "\n1 case passed in " in ended.out


def test_a_failure_is_shown_field_by_field(cli, write, pipeline, tmp_path):
    write("p.test.yaml", WRONG)
    ended = cli("test", "--junit", "out.xml")
    assert ended.code == 1
    assert ended.out.split("\n\n")[0] == (
        "FAIL p.test.yaml  doubles\n"
        "  p.test.yaml:2:30: sink `sink`: 1 of 1 differs\n"
        "    different, record 1 (line 2):\n"
        "        n  1\n"
        "      - m  3\n"
        "      + m  2"
    )
    assert "1 case passed, 1 failed in " in ended.out
    suite = ET.parse(tmp_path / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert "+ m  2" in (suite[0][0].text or "")


def test_update_writes_what_came(cli, write, pipeline):
    test = write("p.test.yaml", WRONG)
    ended = cli("test", "--update")
    assert ended.code == 0
    assert "WRITTEN p.test.yaml" in ended.out
    assert test.read_text() == WRONG.replace("m: 3", "m: 2")


def test_options_choose_cases(cli, write, pipeline):
    write("p.test.yaml", WRONG)
    assert cli("test", "-k", "other").code == 0
    assert "1 failed in" in cli("test", "--fail-fast").out
    none = cli("test", "-k", "nothing like it")
    assert none.code == 2
    assert none.out == "nothing was run, 2 left out in 0.00 s\n"


def test_wrong_files_are_problems_of_the_configuration(cli, write, pipeline):
    write("p.test.yaml", "cases:\n  one: [{inptu: []}]\n")
    ended = cli("test")
    assert ended.code == 2
    assert "did you mean `input`?" in ended.err
    assert "1 file could not be run" in ended.out
    assert cli("test", "nowhere").code == 2
    assert "there is no file or folder q.yaml" in cli("test", "q.yaml").err
    write("q.yaml", PIPELINE)
    assert "q.yaml has no q.test.yaml beside it" in cli("test", "q.yaml").err


def test_other_files_are_run_when_one_is_wrong(cli, write, pipeline):
    write("p.test.yaml", RIGHT)
    write("q.test.yaml", "pipeline: p.yaml\ncases: 5\n")
    ended = cli("test", ".", "--crash")
    assert ended.code == 2
    assert "1 case passed, 1 file could not be run" in ended.out


def test_variables_of_the_command_line(cli, write):
    write("v.yaml", PIPELINE.replace("n * 2", "'n * ${FACTOR}'"))
    write("v.test.yaml", RIGHT)
    assert cli("test", "v.yaml").code == 2
    assert cli("test", "v.yaml", "--set", "FACTOR=2").code == 0


def test_an_expectation_that_cannot_be_filled_in_is_left_as_it_is(cli, write, pipeline, tmp_path):
    for end in ("- expect: null", "- {expect: }"):
        text = f"cases:\n  c:\n    - input: [{{n: 1}}]\n    {end}\n"
        write("p.test.yaml", text)
        ended = cli("test", "--update", "p.test.yaml")
        assert ended.code == 1
        assert "nothing was written: write `expect:` in a line of its own" in ended.out
        assert (tmp_path / "p.test.yaml").read_text() == text

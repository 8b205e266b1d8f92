"""`streamd validate` refuses files that several sinks or parts would write; `{part}` tells parts apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.command_line import Cli, Write
from demo.inline_app import InlineApp

TWO_PARTS = """\
name: p
sources:
  a: {{file: {{path: a.ndjson}}}}
  b: {{file: {{path: b.ndjson}}}}
stages:
  - {{id: of_a, from: a, set: {{twice: n * 2}}}}
  - {{id: of_b, from: b, set: {{twice: n * 2}}{own}}}
sinks:
  - {{from: of_a, file: {{path: out-a.ndjson}}}}
  - {{from: of_b, file: {{path: {second}}}}}
on_error: {{dead_letter: {{file: {{path: "{dead}"}}}}}}
"""


def text(*, second: str = "out-b.ndjson", dead: str = "bad-{part}.ndjson", own: str = "") -> str:
    return TWO_PARTS.format(second=second, dead=dead, own=own)


@pytest.mark.parametrize(
    ("pipeline", "place", "message", "way_out"),
    [
        (text(dead="bad.ndjson"), "11:26", "all of them would write bad.ndjson", 'path: "failed-{part}.ndjson"'),
        (text(dead="bad-{partition}.ndjson"), "11:26", "all of them would write bad-0.ndjson", "put {part} into"),
        (text(second="./out-a.ndjson"), "10:18", "`sink` and `sink_2` would both write out-a.ndjson", "its own"),
        (text(second='"bad-{part}.ndjson"'), "11:26", "`sink_2` and `dead_letter` would both write bad-1", "its own"),
        (
            text(own=', on_error: {dead_letter: {file: {path: "bad-{part}.ndjson"}}}'),
            "7:71", "would both write bad-1.ndjson", "name the sink once, in the pipeline's `on_error`",
        ),
    ],
    ids=["dead-letters-of-two-parts", "partition-is-not-part", "two-sinks", "sink-and-dead-letters", "twice"],
)  # fmt: skip
def test_validate_says_so(cli: Cli, write: Write, pipeline: str, place: str, message: str, way_out: str) -> None:
    write("p.yaml", pipeline)
    write("sound.yaml", "name: q\nsource: {log: {topic: t}}\nstages: [{fliter: a}]\nsink: discard\n")

    done = cli("validate", ".")

    assert done.code == 2
    assert f"p.yaml:{place}: error[shared-file]" in done.err
    assert message in done.err
    assert way_out in done.err
    assert "did you mean `filter`?" in done.err


async def test_part_in_the_path_lets_each_part_have_its_dead_letters(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"n": 1}\n{"m": "of a"}\n')
    (tmp_path / "b.ndjson").write_text('{"m": "of b"}\n{"n": 2}\n')

    await InlineApp(tmp_path).run(text())

    kept = [json.loads((tmp_path / f"bad-{part}.ndjson").read_text()) for part in range(2)]
    assert [json.loads(one["record"]["value"]) if isinstance(one["record"]["value"], str) else one["record"]["value"]
            for one in kept] == [{"m": "of a"}, {"m": "of b"}]  # fmt: skip
    assert json.loads((tmp_path / "out-a.ndjson").read_text()) == {"n": 1, "twice": 2}
    assert json.loads((tmp_path / "out-b.ndjson").read_text()) == {"n": 2, "twice": 4}

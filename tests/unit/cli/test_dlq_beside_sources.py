"""A replay of dead letters where the pipeline has tables, or says `schema_drift` beside its source."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from demo.command_line import Cli, Outcome, Write
from demo.embedded_topics import EmbeddedTopics

SERVICE = "app: shop\nhttp: {enabled: false}\nworkers: 1\nlog: {level: warning}\n"
FEED = """\
name: feed
source: {generate: {count: 20, rate: 100000, fields: {n: _offset, user: '["ann", "bob"][_offset % 2]',
  amount: '"free" if _offset % 5 == 0 else _offset'}}}
sink: {log: {topic: orders}}
"""
USERS = """\
name: users
source: {generate: {count: 2, rate: 100000, fields: {
  id: '["ann", "bob"][_offset]', tier: '["gold", "basic"][_offset]'}}}
sink: {log: {topic: users}}
"""
SPEND = """\
name: spend
sources:
  orders: {log: {topic: orders}}
  users: {log: {topic: users}, table: {key: id}}
stages:
  - {id: gross, set: {gross: AMOUNT}}
  - enrich: {table: users, key: user, fields: [tier], missing: drop}
  - map: {n: n, tier: tier}
sink: {log: {topic: out}}
on_error: {dead_letter: {log: {topic: broken}}}
"""
BROKEN = set(range(0, 20, 5))


@pytest.fixture
def topics(tmp_path: Path) -> EmbeddedTopics:
    return EmbeddedTopics(tmp_path / ".streamd", "shop")


@pytest.fixture
def fed(write: Write, cli: Cli) -> None:
    write("streamd.yaml", SERVICE)
    assert cli("run", write("feed.yaml", FEED), write("users.yaml", USERS), "--until-idle").code == 0


def ran(cli: Cli, *arguments: object) -> Outcome:
    done = cli(*arguments)
    assert done.code == 0, done
    return done


def left_open(cli: Cli, pipeline: Path) -> int:
    [found] = json.loads(ran(cli, "dlq", "ls", pipeline, "--json").out)
    return int(found["open"])


@pytest.mark.usefixtures("fed")
def test_tables_are_read_for_a_replay_and_letters_are_not_taken_for_rows(
    cli: Cli, write: Write, topics: EmbeddedTopics
) -> None:
    pipeline = write("spend.yaml", SPEND.replace("AMOUNT", "amount / 1"))
    ran(cli, "run", pipeline, "--until-idle")
    assert left_open(cli, pipeline) == 4
    write("spend.yaml", SPEND.replace("AMOUNT", 'amount if amount != "free" else 0'))
    assert ran(cli, "dlq", "replay", pipeline).out.splitlines()[-1] == "replayed 4"
    assert Counter(value["n"] for value in topics.values("out")) == Counter(range(20))
    assert {value["n"]: value["tier"] for value in topics.values("out") if value["n"] in BROKEN} == {
        0: "gold", 5: "basic", 10: "gold", 15: "basic"
    }  # fmt: skip
    assert left_open(cli, pipeline) == 0


DRIFT = """\
name: spend
source:
  log: {topic: orders}
  schema_drift: {policy: POLICY, json_schema: order.schema.json}
stages:
  - {id: gross, set: {gross: 'GROSS'}}
  - map: {n: n, gross: gross}
sink: {log: {topic: out}}
on_error: {dead_letter: {log: {topic: broken}}}
"""
MENDED = 'amount if amount != "free" else 0'
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "user": {"type": "string"}, "amount": {"type": "number"}},
}
WIDER = SCHEMA | {"properties": {**SCHEMA["properties"], "amount": {"type": ["number", "string"]}}}  # type: ignore[dict-item]


@pytest.fixture
def drifted(fed: None, write: Write, cli: Cli) -> Path:
    """A pipeline with four letters, which its schema does not have."""
    write("order.schema.json", json.dumps(SCHEMA))
    pipeline = write("spend.yaml", DRIFT.replace("POLICY", "dead_letter").replace("GROSS", MENDED))
    ran(cli, "run", pipeline, "--until-idle")
    [found] = json.loads(ran(cli, "dlq", "ls", pipeline, "--json").out)
    assert [(reason["error"], reason["open"]) for reason in found["reasons"]] == [("SchemaDriftError", 4)]
    return pipeline


def out(topics: EmbeddedTopics) -> Counter[int]:
    return Counter(value["n"] for value in topics.values("out"))


def test_letters_are_checked_against_the_schema_again(
    cli: Cli, write: Write, drifted: Path, topics: EmbeddedTopics
) -> None:
    done = ran(cli, "dlq", "replay", drifted)
    assert "schema_drift checks each against its schema, as when they came" in done.out
    assert done.out.splitlines()[-1] == "replayed 4, of which 4 failed again"
    write("order.schema.json", json.dumps(WIDER))
    assert ran(cli, "dlq", "replay", drifted).out.splitlines()[-1] == "replayed 4"
    assert out(topics) == Counter(range(20))


def test_a_stage_behind_the_source_is_entered_past_the_schema(cli: Cli, drifted: Path, topics: EmbeddedTopics) -> None:
    done = ran(cli, "dlq", "replay", drifted, "--to-stage", "gross")
    assert "schema_drift does not check them: stage gross is behind it" in done.out
    assert done.out.splitlines()[-1] == "replayed 4"
    assert out(topics) == Counter(range(20))


def test_what_goes_back_to_the_source_goes_as_it_came(cli: Cli, drifted: Path, topics: EmbeddedTopics) -> None:
    done = ran(cli, "dlq", "replay", drifted, "--to-source")
    assert "schema_drift" not in done.out, "the pipeline checks what it reads"
    assert done.out.splitlines()[-1] == "replayed 4"
    assert Counter(value["n"] for value in topics.values("orders")) == Counter(range(20)) + Counter(BROKEN)


def test_letters_are_no_sample_of_the_source(cli: Cli, write: Write, drifted: Path, topics: EmbeddedTopics) -> None:
    write("spend.yaml", DRIFT.replace("POLICY", "warn").replace("GROSS", MENDED))
    done = ran(cli, "dlq", "replay", drifted)
    assert "schema_drift looks at none of them: it had its sample when they came" in done.out
    assert done.out.splitlines()[-1] == "replayed 4"
    assert "Schema of a source changed" not in done.err
    assert out(topics) == Counter(range(20))
    [found] = json.loads(ran(cli, "dlq", "replay", drifted, "--json").out)
    assert found["groups"] == []


VALIDATED = """\
name: spend
source: {log: {topic: orders}}
stages:
  - {id: checked, validate: {rules: [{field: n, range: [0, 100]}VALIDATE}}
  - {id: gross, BEHINDset: {gross: 'GROSS'}}
  - map: {n: n, gross: gross}
sinks:
  - {from: map, log: {topic: out}}
MOREon_error: {dead_letter: {log: {topic: broken}}}
"""


def validated(validate: str, gross: str, behind: str = "", more: str = "") -> str:
    text = VALIDATED.replace("VALIDATE", validate).replace("BEHIND", behind).replace("MORE", more)
    return text.replace("GROSS", gross)


@pytest.mark.usefixtures("fed")
def test_letters_behind_a_validate_that_remembers_go_on_and_those_before_it_do_not(
    cli: Cli, write: Write, topics: EmbeddedTopics
) -> None:
    scored = "], score: {window: 1m}", "from: checked.records, ", "  - {from: checked.scores, log: {topic: scores}}\n"
    pipeline = write("spend.yaml", validated(scored[0], "amount / 1", *scored[1:]))
    ran(cli, "run", pipeline, "--until-idle")
    scores = topics.values("scores")
    write("spend.yaml", validated(scored[0], MENDED, *scored[1:]))
    done = ran(cli, "dlq", "replay", pipeline)
    assert "4 from behind stage checked on, to log out" in done.out
    assert done.out.splitlines()[-1] == "replayed 4"
    assert out(topics) == Counter(range(20))
    assert topics.values("scores") == scores


@pytest.mark.usefixtures("fed")
def test_a_validate_that_remembers_is_not_run_beside_the_pipeline(cli: Cli, write: Write) -> None:
    pipeline = write("spend.yaml", validated("]", "amount / 1"))
    ran(cli, "run", pipeline, "--until-idle")
    write("spend.yaml", validated(", {unique: n, within: 1m}]", MENDED))
    done = cli("dlq", "replay", pipeline)
    assert done.code == 2, done
    assert "stage `checked` (validate) remembers what came before" in done.err

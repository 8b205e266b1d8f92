"""`streamd validate`."""

from __future__ import annotations

import pytest

from demo.command_line import Cli, Write

GOOD = "name: {name}\nsource: {{log: {{topic: {topic}}}}}\nstages: [{{filter: a > 1}}]\nsink: discard\n"


def test_valid_pipelines(cli: Cli, write: Write) -> None:
    """Each is named, then how many there are."""
    write("a.yaml", GOOD.format(name="a", topic="t"))
    write("b.yaml", GOOD.format(name="b", topic="t"))

    outcome = cli("validate", ".")

    assert outcome.code == 0
    assert outcome.out.split("\n") == [
        "a.yaml: pipeline a: 1 source, 1 stage, 1 sink",
        "b.yaml: pipeline b: 1 source, 1 stage, 1 sink",
        "2 pipelines valid",
        "",
    ]


def test_problems_of_several_files(cli: Cli, write: Write) -> None:
    """All of them, on standard error, with exit code 2; no traceback."""
    write("a.yaml", GOOD.format(name="a", topic="t").replace("filter", "fliter"))
    write("b.yaml", "a: [\n")
    write("c.yaml", GOOD.format(name="c", topic="t"))

    outcome = cli("validate", "a.yaml", "b.yaml", "c.yaml", "missing.yaml")

    assert (outcome.code, outcome.out) == (2, "")
    assert "a.yaml:3:11: error[unknown-component]: unknown stage `fliter`" in outcome.err
    assert "did you mean `filter`?" in outcome.err
    assert "b.yaml:2:1: error[broken-yaml]" in outcome.err
    assert "missing.yaml:1:1: error[missing-file]" in outcome.err
    assert outcome.err.endswith("error: 3 problems in 3 files\n")
    assert "Traceback" not in outcome.err


def test_what_cannot_be_compiled(cli: Cli, write: Write) -> None:
    """Problems that only show when the chain is compiled or a table is loaded have their place as well."""
    write("a.yaml", "name: a\nsource: {log: {topic: t}}\nstages:\n  - map: {x: a}\n  - filter: y > 1\nsink: discard\n")
    write(
        "b.yaml",
        "name: b\nsource: {log: {topic: t}}\nstages:\n  - enrich: {file: no.csv, key: k, match: id}\nsink: discard\n",
    )

    outcome = cli("validate", ".")

    assert outcome.code == 2
    assert "a.yaml:5:5: error[" in outcome.err
    assert "b.yaml:4:5: error[unusable-component]" in outcome.err
    assert "no.csv" in outcome.err


def test_variables(cli: Cli, write: Write) -> None:
    """`--set` is for this call; it wins over the environment."""
    write("a.yaml", GOOD.format(name="a", topic='"${TOPIC_OF_THIS_TEST}"'))

    assert cli("validate", "a.yaml").code == 2
    assert cli("validate", "a.yaml", "--set", "TOPIC_OF_THIS_TEST=x").code == 0
    wrong = cli("validate", "a.yaml", "--set", "TOPIC")
    assert wrong.code == 2
    assert "NAME=VALUE" in wrong.err


def test_settings_of_the_service(cli: Cli, write: Write) -> None:
    """From --config, from STREAMD_CONFIG's file, or from ./streamd.yaml; wrong ones are problems."""
    write("a.yaml", GOOD.format(name="a", topic="t"))
    other = write("other.yaml", "http: {prot: 1}\n")

    assert "other.yaml:1:8: error[unknown-key]" in cli("validate", "a.yaml", "--config", other).err
    write("streamd.yaml", "htp: {}\n")
    assert "streamd.yaml:1:1: error[unknown-key]" in cli("validate", "a.yaml").err
    write("streamd.yaml", "http: {host: 0.0.0.0}\n")
    assert "http.token" in cli("validate", "a.yaml").err
    assert cli("validate", "a.yaml", "--config", ".").code == 2


def test_validate_touches_nothing(cli: Cli, write: Write) -> None:
    """No folder for state, no connection."""
    file = write("a.yaml", GOOD.format(name="a", topic="t"))

    assert cli("validate", file).code == 0
    assert [path.name for path in file.parent.iterdir()] == ["a.yaml"]


def test_kafka_without_a_cluster(cli: Cli, write: Write) -> None:
    """A pipeline that needs Kafka says so before it runs, also when only its dead letters do."""
    write("a.yaml", "name: a\nsource: {kafka: {topic: t}}\nsink: discard\n")
    write("b.yaml", GOOD.format(name="b", topic="t") + "on_error: {dead_letter: {kafka: {topic: t}}}\n")

    outcome = cli("validate", ".")

    assert outcome.code == 2
    assert "a.yaml:2:10: error[missing-key]: source `kafka` needs a Kafka cluster" in outcome.err
    assert "b.yaml:5:26: error[missing-key]: sink `kafka` needs a Kafka cluster" in outcome.err
    write("streamd.yaml", "kafka: {bootstrap: localhost}\n")
    assert cli("validate", ".").code == 0


def test_messages_in_plain_words(cli: Cli, write: Write) -> None:
    """No patterns, no types of Python, nothing said twice; unknown options are pointed at by their name."""
    write(
        "p.yaml",
        "name: a b\nsources: [{file: {path: 3}}, {generate: {}}]\nsink: discard\n"
        "kafka: {bootstrap: a:1, options: {lingr.ms: 5}}\n",
    )

    err = cli("validate", "p.yaml").err

    assert "`name` of the pipeline does not fit: got the text 'a b'" in err
    assert "letters, digits" in err
    assert "`path` of source `file` must be text or a list, got the number 3" in err
    assert "source `generate`: expected either `fields` or `template`" in err
    assert "p.yaml:4:35" in err


def test_own_code_is_looked_for(cli: Cli, write: Write) -> None:
    """A class that is not there is found before running, and no instance is made."""
    text = "name: p\nsource: {log: {topic: in}}\nstages: [{python: 'own_stage_code:Mine'}]\nsink: discard\n"
    write(
        "own_stage_code.py", "class Mine:\n    def __init__(self): 1 / 0\n    def process(self, batch): return batch\n"
    )
    write("p.yaml", text)
    assert cli("validate", "p.yaml").code == 0

    write("p.yaml", text.replace("Mine", "Missing"))
    outcome = cli("validate", "p.yaml")

    assert outcome.code == 2
    assert "p.yaml:3:" in outcome.err
    assert "own_stage_code:Missing" in outcome.err


def test_files_of_chains_alone(cli: Cli, write: Write) -> None:
    """They are checked, beside pipelines and alone, and what is wrong after loading is told at their place."""
    write("a.yaml", GOOD.format(name="a", topic="t") + "imports: [c.yaml]\n")
    write("c.yaml", "chains: {c: [{drop: [a]}, {filter: a > 1}]}\nfilters: {f: a > 1}\n")

    assert cli("validate", ".").out.split("\n")[1:] == [
        "c.yaml: 1 chain and 1 filter",
        "1 pipeline and 1 shared file valid",
        "",
    ]
    assert cli("validate", "c.yaml").out.endswith("\n1 shared file valid\n")

    write("a.yaml", GOOD.format(name="a", topic="t").replace("filter: a > 1", "chain: c") + "imports: [c.yaml]\n")
    outcome = cli("validate", ".")
    assert "c.yaml:1:28: error[unknown-field]: c-filter: there is no field 'a' here" in outcome.err
    assert "note: chain `c` is used at a.yaml:3:18" in outcome.err


JOIN = """\
name: paid
sources:
  orders: {log: {topic: orders, event_time: ts, partitioned_by: id, partitions: 3}}
  payments: {log: {topic: payments, event_time: ts, partitioned_by: id%s}}
stages:
  - id: both
    join: {left: orders, right: payments, on: id, within: 2h, fields: {id: orders.id}}
sink: {log: {topic: out}}
"""
FEED = """\
name: feed
source: {generate: {count: 1, fields: {id: "1", ts: "1"}}}
sink: {log: {topic: orders, partitions: 3}}
"""


def test_topics_of_the_embedded_log(cli: Cli, write: Write) -> None:
    """They have as many partitions as the log's file says, or as they would be made with."""
    write("feed.yaml", FEED)
    write("paid.yaml", JOIN % "")
    write("fits.yaml", JOIN % ", partitions: 3")
    assert "orders has 3, payments has 1" in cli("validate", "--topics", "paid.yaml").err, "they are not there yet"
    assert cli("run", "feed.yaml", "--until-idle").code == 0

    assert cli("validate", "--topics", "fits.yaml").code == 0
    done = cli("validate", "--topics", "paid.yaml")
    assert done.code == 2
    assert "paid.yaml:7:5: stage 'both' joins what does not have the same number of partitions" in done.err
    assert "orders has 3, payments has 1" in done.err
    assert cli("validate", "paid.yaml").code == 0


def test_a_topic_of_the_embedded_log_with_another_number_of_partitions(cli: Cli, write: Write) -> None:
    write("feed.yaml", FEED)
    write("p.yaml", "name: p\nsource: {log: {topic: orders, partitions: 4}}\nsink: {log: {topic: out}}\n")
    assert cli("run", "feed.yaml", "--until-idle").code == 0
    done = cli("validate", "--topics", "p.yaml")
    assert done.code == 2
    assert "p.yaml:2:10: topic 'orders' of the embedded log has 3 partitions, the settings say 4" in done.err


@pytest.mark.parametrize(
    ("schema", "said"),
    [("nothere.json", "The schema nothere.json does not exist"), ("bad.json", "bad.json:1:2: not JSON")],
)
def test_the_schema_of_schema_drift_is_looked_at(cli: Cli, write: Write, schema: str, said: str) -> None:
    write("bad.json", "{nonsense")
    write(
        "p.yaml",
        f"name: p\nsource:\n  log: {{topic: in}}\n  schema_drift: {{json_schema: {schema}}}\nsink: {{stdout: {{}}}}\n",
    )
    done = cli("validate", "p.yaml")
    assert done.code == 2, done
    assert said in done.err
    assert "p.yaml:3:3: error[unusable-component]: `schema_drift` of source `source`" in done.err

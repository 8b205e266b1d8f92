"""`streamd explain`."""

from __future__ import annotations

from demo.command_line import Cli, Write

PIPELINE = "name: p\nsource: {log: {topic: in}}\nstages: [{filter: a > 41}]\nsink: {log: {topic: out}}\n"


def test_the_plan(cli: Cli, write: Write) -> None:
    """Names, topics and what is delivered; code only where asked for."""
    write("p.yaml", PIPELINE)

    outcome = cli("explain", "p.yaml")

    assert outcome.code == 0
    for word in ("pipeline p", "topic in", "topic out", "a > 41", "exactly once"):
        assert word in outcome.out
    assert "def " not in outcome.out
    assert "> 41" in cli("explain", "p.yaml", "--code").out.partition("def ")[2]


def test_secrets_are_hidden(cli: Cli, write: Write) -> None:
    """What came from files, and from variables that are named like secrets, is shown in neither plan nor code."""
    write("sec", "it's-a-s3cret\n")
    write("short", "ab1\n")
    sink = "sink: {log: {topic: '${TOPIC}'}}"
    stages = "stages: [{map: {sec: '\"${file:sec}\"', short: '\"${file:short}\"', pin: '\"${DB_PW}\"'}}]"
    write("p.yaml", f"name: p\nsource: {{log: {{topic: in}}}}\n{stages}\n{sink}\n")

    outcome = cli("explain", "p.yaml", "--code", "--set", "DB_PW=hunter2222", "--set", "TOPIC=totals")

    assert outcome.code == 0
    for secret in ("s3cret", "ab1", "hunter2222"):
        assert secret not in outcome.out
    assert "topic totals" in outcome.out
    assert "sec = " in outcome.out
    assert "def " in outcome.out


def test_secrets_are_hidden_in_problems(cli: Cli, write: Write) -> None:
    """Also where only the compiler finds the mistake."""
    write("sec", "s3cret-thing\n")
    stages = "stages: [{python: 'nowhere_${file:sec}:Missing'}]"
    write("p.yaml", f"name: p\nsource: {{log: {{topic: in}}}}\n{stages}\nsink: discard\n")

    for command in ("explain", "validate"):
        outcome = cli(command, "p.yaml")

        assert "s3cret" not in outcome.out + outcome.err


def test_problems(cli: Cli, write: Write) -> None:
    """The same diagnostics as everywhere."""
    write("p.yaml", PIPELINE.replace("a >", "a >>>"))

    outcome = cli("explain", "p.yaml")

    assert outcome.code == 2
    assert "p.yaml:3:" in outcome.err
    assert cli("explain", "missing.yaml").code == 2


def test_at_least_once_is_what_every_sink_on_kafka_promises(cli: Cli, write: Write) -> None:
    """The embedded log commits output and position at once all the same."""
    kafka = "kafka: {bootstrap: 'kafka:9092'}\nsource: {kafka: {topic: in}}\n"
    sinks = "sinks:\n- {id: a, kafka: {topic: a}}\n- {id: b, file: {path: 'b-{partition}'}}\n- {id: c, discard: {}}\n"
    write("loose.yaml", f"name: loose\ndelivery: at_least_once\n{kafka}{sinks}")
    write("strict.yaml", f"name: strict\n{kafka}{sinks}")
    write("local.yaml", "name: local\ndelivery: at_least_once\n" + PIPELINE.removeprefix("name: p\n"))

    loose, strict, local = (cli("explain", f"{name}.yaml").out for name in ("loose", "strict", "local"))

    assert (loose.count("— at least once"), loose.count("exactly once")) == (3, 0)
    assert "delivery   at least once" in loose
    assert "checkpoint: outputs first, then positions" in loose
    assert (strict.count("— exactly once"), strict.count("at least once")) == (3, 0)
    assert "— exactly once" in local
    assert "checkpoint: one SQLite transaction" in local


def test_delivery_that_is_less_than_asked_for(cli: Cli, write: Write) -> None:
    """The head does not promise more than source and sink; paths are shown as written."""
    write("in.ndjson", "{}\n")
    write("p.yaml", "name: p\nsource: {file: {path: in.ndjson}}\nsink: stdout\n")

    out = cli("explain", "p.yaml").out

    assert "exactly once where source and sink can (see below)" in out
    assert "path in.ndjson" in out


def test_exchanges(cli: Cli, write: Write) -> None:
    """Where records move by key, through what, and why; and where they need not."""
    head = "name: p\nsource: {log: {topic: in, partitions: 4, partitioned_by: user}}\nstages:\n"
    write("moves.yaml", f"{head}- key_by: country\nsink: discard\n")
    write("stays.yaml", f"{head}- key_by: user\nsink: discard\n")
    write("wide.yaml", f"{head}- key_by: {{by: user, partitions: 8}}\nsink: discard\n")

    moves, stays, wide = (cli("explain", f"{name}.yaml").out for name in ("moves", "stays", "wide"))

    topic = "streamd.streamd.p.key_by.exchange"
    assert f"key_by: records move by country through topic {topic}, a partition for each task before it" in moves
    assert "; records are partitioned by user\n" in moves
    assert f"sink  key_by.write (exchange)  topic {topic}  key country  — exactly once" in moves
    assert f"source  key_by.read (exchange)  topic {topic}\n" in moves
    assert "  exchange   key_by: no exchange: records are partitioned by user already\n" in stays
    assert "part 1" not in stays
    assert f"through topic {topic}, 8 partitions; partitioned by user already, but 8 partitions are wanted" in wide


def test_what_keeps_windows_is_shown(cli: Cli, write: Write) -> None:
    window = "window: {by: user, hopping: {size: 1m, every: 10s}, grace: 5s, aggregate: {all: 'collect(a, 9)'}}"
    write("p.yaml", PIPELINE.replace("filter: a > 41", window))
    plan = cli("explain", "p.yaml").out
    assert "remembers each key in pieces of windows of 1 m that are not over, and 5 s of grace" in plan
    assert "start = time - time % 10000" in cli("explain", "p.yaml", "--code").out.partition("# state of window")[2]


def test_standby_copies(cli: Cli, write: Write) -> None:
    """Where copies of state are kept, and where they cannot be."""
    stages = "stages: [{aggregate: {by: user, values: {n: count()}}}]\n"
    kafka = "name: p\nkafka: {bootstrap: 'localhost:9092'}\nsource: {kafka: {topic: in}}\nsink: {kafka: {topic: out}}\n"
    write("kept.yaml", kafka + stages + "state: {standbys: 2}\n")
    write("loose.yaml", kafka + stages + "state: {standbys: 1}\ndelivery: at_least_once\n")
    write("local.yaml", "name: p\nsource: {log: {topic: in}}\nsink: discard\n" + stages + "state: {standbys: 1}\n")
    write("none.yaml", kafka + stages)
    write("wrong.yaml", kafka + stages + "state: {standbys: -1}\n")

    kept, loose, local, none = (cli("explain", f"{name}.yaml").out for name in ("kept", "loose", "local", "none"))

    assert "  standbys   copies of each task's state on 2 other nodes of the app, where there are so many\n" in kept
    assert "  standbys   none: they need state in Kafka and `delivery: exactly_once`\n" in loose
    assert "  standbys   none: they need state in Kafka and `delivery: exactly_once`\n" in local
    assert "  snapshots  a copy of each task's state in state_dir: a restart on the same node reads" in kept
    assert "  snapshots  none: they are for state in Kafka with `delivery: exactly_once`" in local
    assert "standbys" not in none
    wrong = cli("validate", "wrong.yaml")
    assert wrong.code == 2
    assert "standbys" in wrong.err


def test_chains_are_shown_as_the_stages_they_stand_for(cli: Cli, write: Write) -> None:
    chains = "chains: {large: {parameters: {limit: number}, stages: [{filter: a > $limit}]}}\n"
    write("p.yaml", chains + PIPELINE.replace("filter: a > 41", "chain: {name: large, with: {limit: 41}}"))

    outcome = cli("explain", "p.yaml", "--code")

    assert "chain      large: limit 41 → large-filter" in outcome.out
    assert "stage  large-filter (filter)  a > 41" in outcome.out
    assert "> 41" in outcome.out.partition("def ")[2]


def test_a_file_of_chains_is_nothing_to_explain(cli: Cli, write: Write) -> None:
    write("c.yaml", "chains: {c: [{filter: a > 1}]}\n")

    outcome = cli("explain", "c.yaml")

    assert outcome.code == 2
    assert "holds no pipeline" in outcome.err


def test_a_table_is_said_to_be_whole_in_each_worker(cli: Cli, write: Write) -> None:
    """And what a lookup sees; the sources alone have tasks."""
    sources = "sources: {in: {log: {topic: in}}, users: {log: {topic: u}, table: {key: id}}}"
    write("p.yaml", f"name: p\n{sources}\nstages: [{{enrich: {{table: users, key: k, as: u}}}}]\nsink: discard\n")

    outcome = cli("explain", "p.yaml")

    assert outcome.code == 0
    assert "users (log, topic u), key id: each worker holds all of it in memory" in outcome.out
    assert "lookups take the newest row at hand" in outcome.out
    assert "one task for each partition of in\n" in outcome.out
    assert "stage  enrich  table users" in outcome.out


def test_formats_of_keys_are_told(cli: Cli, write: Write) -> None:
    """At the source what they are, at the sink what they become."""
    ends = (
        "source: {log: {topic: in, key_format: json}}\nsink: {log: {topic: out, key: a, key_format: {msgpack: {}}}}\n"
    )
    write("p.yaml", f"name: p\n{ends}")

    outcome = cli("explain", "p.yaml")

    assert "topic in  keys json" in outcome.out
    assert "key a  as msgpack" in outcome.out

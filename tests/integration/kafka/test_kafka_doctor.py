"""`streamd doctor` against real brokers: what is wrong is found and named, and hanging transactions are ended."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from faults.daemon import Daemon
from services.command import service_file, streamd
from services.kafka import KafkaBroker, Topics
from streamd.transport.kafka import doctor_transactions
from streamd.transport.kafka.doctor import TopicUse, Use
from streamd.transport.kafka.doctor_transactions import abort, judge, open_transactions
from streamd.transport.kafka.inspection import Inspection
from streamd.transport.kafka.protocol import InitProducerId, Produce
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

APP = "doctors"


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A broker with a short limit for transactions, which it never enforces, and that believes every producer."""
    made = KafkaBroker(
        tmp_path_factory.mktemp("strict-kafka"),
        properties={
            "transaction.max.timeout.ms": 5000,
            "transaction.partition.verification.enable": "false",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 3_600_000,
        },
    )
    try:
        made.start()
        yield made
    finally:
        made.discard()


@pytest.fixture
async def topics(strict):
    made = Topics(strict.bootstrap)
    yield made
    await made.delete_all()


def pipeline(folder: Path, bootstrap: str, source: str, sink: str, *, name: str = "p", more: str = "") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nkafka: {{bootstrap: '{bootstrap}'{more}}}\n"
        f"source: {{kafka: {{topic: {source}, partitioned_by: key}}}}\nsink: {{kafka: {{topic: {sink}}}}}\n"
    )
    return path


async def doctor(folder: Path, *arguments: object, app: str = APP, **options: str) -> tuple[int, dict]:
    """Exit code and JSON."""
    folder.mkdir(exist_ok=True)
    config = service_file(folder, app, **options)
    done = await asyncio.to_thread(streamd, "doctor", *map(str, arguments), "--config", config, "--json")
    assert done.code in (0, 1), done.all
    return done.code, json.loads(done.out)


def of(found: dict, level: str) -> dict[tuple[str, str], str]:
    return {(one["check"], one["subject"]): one["seen"] for one in found["findings"] if one["level"] == level}


async def test_a_cluster_of_one_is_fit_and_its_lack_of_replicas_is_told(kafka, make_topic, tmp_path):
    source, sink = await make_topic(2), await make_topic(3)
    path = pipeline(tmp_path, kafka.bootstrap, source, sink)
    code, found = await doctor(tmp_path, path)
    assert (code, of(found, "problem")) == (0, {})
    warned = of(found, "warning")
    assert warned["replication", f"topic {sink}"] == "1 replica"
    assert {check for check, _ in warned} == {"replication", "broker settings"}
    fine = of(found, "ok")
    [version] = [seen for (check, _), seen in fine.items() if check == "broker"]
    assert version == "Kafka 4.0 or newer"
    assert fine["topic", f"topic {source}"] == "2 partitions, all led"
    assert "transaction was begun and aborted" in fine["permission", f"transactional id streamd.{APP}.*"]
    [clock] = [seen for (check, _), seen in fine.items() if check == "clock"]
    assert float(clock.split()[0]) < 1.0
    assert found["transactions"] == []


async def test_the_table_for_people_says_what_to_do(strict, tmp_path):
    """One that asks for longer transactions than the broker allows, of a topic that nobody may make."""
    path = pipeline(tmp_path, strict.bootstrap, "nowhere", "nowhere-else")
    config = service_file(tmp_path, APP, create_topics="false")
    done = await asyncio.to_thread(streamd, "doctor", path, "--config", config)
    assert done.code == 1, done.all
    lines = done.out.splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith("PROBLEM  transaction timeout")]
    assert lines[at].endswith("transaction.max.timeout.ms is 5000")
    assert lines[at + 1].strip() == "needed: 10000, which p asks for"
    assert "the option `transaction.timeout.ms`" in lines[at + 2]
    assert "topic nowhere: does not exist" in done.out
    assert "INVALID_TRANSACTION_TIMEOUT" in done.out
    assert lines[-1].startswith("4 problems,")


async def test_wrong_arguments_are_a_usage_error(tmp_path):
    for arguments in (["--yes"], ["missing.yaml"]):
        done = await asyncio.to_thread(streamd, "doctor", *arguments, folder=tmp_path)
        assert done.code == 2, done.all


async def test_a_broker_that_is_not_there(tmp_path):
    path = pipeline(tmp_path, "127.0.0.1:1", "a", "b")
    code, found = await doctor(tmp_path, path)
    assert code == 1
    [(place, seen)] = of(found, "problem").items()
    assert place == ("connection", "127.0.0.1:1")
    assert "cannot be reached" in seen
    [remedy] = [one["remedy"] for one in found["findings"] if one["check"] == "connection"]
    assert f"put `kafka.bootstrap` right in {path}: host and port of a listener that speaks PLAINTEXT" in remedy
    assert remedy.startswith("See that a broker runs there")


async def test_changelogs_and_sizes_that_do_not_fit(strict, topics, tmp_path):
    source, sink = await topics.make(2), await topics.make(1, **{"max.message.bytes": 1000})
    path = pipeline(tmp_path, strict.bootstrap, source, sink, more=", options: {transaction.timeout.ms: 4000}")
    name = f"p{uuid.uuid4().hex[:8]}"
    text = path.read_text().replace("name: p\n", f"name: {name}\n")
    path.write_text(text + "stages:\n  - aggregate: {by: key, values: {seen: count()}}\n")
    await named(strict, f"streamd.{APP}.{name}.aggregate.changelog", 1)
    code, found = await doctor(tmp_path, path)
    problems, warned = of(found, "problem"), of(found, "warning")
    changelog = f"topic streamd.{APP}.{name}.aggregate.changelog"
    assert code == 1
    assert problems == {("partitions", changelog): "1 partition", ("cleanup", changelog): "cleanup.policy=delete"}
    assert warned["record size", f"topic {sink}"] == "takes 1000 bytes (max.message.bytes)"


async def test_topics_of_ours_that_may_not_be_made_are_asked_for(strict, topics, tmp_path):
    """The changelog of a stateful stage, and the positions of a pipeline without a Kafka source."""
    source, sink = await topics.make(3), await topics.make(1)
    more = ", options: {transaction.timeout.ms: 4000}"
    path = pipeline(tmp_path, strict.bootstrap, source, sink, name="kept", more=more)
    path.write_text(path.read_text() + "stages:\n  - aggregate: {by: key, values: {seen: count()}}\n")
    feed = pipeline(tmp_path, strict.bootstrap, source, sink, name="feed", more=more)
    feed.write_text(
        feed.read_text().replace(
            f"source: {{kafka: {{topic: {source}, partitioned_by: key}}}}", "source: {generate: {fields: {n: _offset}}}"
        )
    )
    changelog, positions = f"streamd.{APP}.kept.aggregate.changelog", f"streamd.{APP}.feed.positions"
    code, found = await doctor(tmp_path, path, feed, create_topics="false")
    assert code == 1
    assert of(found, "problem") == {("topic", f"topic {name}"): "does not exist" for name in (changelog, positions)}
    remedies = {one["subject"]: one["remedy"] for one in found["findings"]}
    assert remedies[f"topic {changelog}"].startswith(
        "Create it with 3 partitions, one for each task, and cleanup.policy=compact, or"
    )
    assert remedies[f"topic {positions}"].startswith("Create it with 1 partition and cleanup.policy=compact, or")
    code, found = await doctor(tmp_path, path, feed)
    assert (code, of(found, "problem")) == (0, {}), "streamd makes them"


async def named(broker, topic, partitions):
    from streamd.transport.kafka.admin import open_admin

    async with open_admin(KafkaSettings.model_validate({"bootstrap": broker.bootstrap})) as admin:
        await admin.create_topic(topic, partitions)


async def left_open(bootstrap: str, transactional_id: str, topic: str, timeout_ms: int = 4000) -> AIOKafkaProducer:
    """A producer that has written a record, and ends its transaction only when it is told to."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=transactional_id, transaction_timeout_ms=timeout_ms
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"{}", partition=0)
    return producer


async def unstable(bootstrap: str, topic: str) -> dict[tuple[str, int], int]:
    inspection = Inspection(KafkaSettings.model_validate({"bootstrap": bootstrap}))
    await inspection.open()
    try:
        found, _ = await inspection.topics([topic])
        return await inspection.unstable(found)
    finally:
        await inspection.close()


async def test_a_transaction_that_nobody_runs_is_listed_and_aborted(strict, topics, tmp_path):
    """What a node leaves behind that was switched off: its successor would end it, and so does the doctor."""
    source, sink = await topics.make(1), await topics.make(1)
    path = pipeline(tmp_path, strict.bootstrap, source, sink, more=", options: {transaction.timeout.ms: 4000}")
    transactional_id = f"streamd.{APP}.p.0.0"
    left = await left_open(strict.bootstrap, transactional_id, sink)
    try:
        code, found = await doctor(tmp_path, path)
        [one] = found["transactions"]
        assert code == 0, of(found, "problem")
        assert (one["id"], one["verdict"], one["partitions"]) == (transactional_id, "open", [f"{sink}[0]"])
        assert one["members"] == []
        assert "its pipeline has no member in its group" in of(found, "warning")["open transaction", transactional_id]
        assert await unstable(strict.bootstrap, sink) == {(sink, 0): 1}
        code, found = await doctor(tmp_path, path, "--abort")
        assert code == 0, of(found, "problem")
        assert of(found, "ok")["abort", transactional_id].startswith("aborted, after ")
        assert "open transaction" not in {check for check, _ in of(found, "warning")}, "it is ended"
        assert found["transactions"] == []
        assert await unstable(strict.bootstrap, sink) == {}
        with pytest.raises(ProducerFenced):
            await left.commit_transaction()
    finally:
        await stop(left)
    code, found = await doctor(tmp_path, path)
    assert found["transactions"] == []


async def test_without_its_pipelines_file_nobody_can_tell_that_a_transaction_is_left(strict, topics, tmp_path):
    """Its source may have a group of its own, whose members are at work."""
    sink = await topics.make(1)
    transactional_id = f"streamd.{APP}.own-group.0.0"
    left = await left_open(strict.bootstrap, transactional_id, sink)
    kafka = f"{{bootstrap: '{strict.bootstrap}', options: {{transaction.timeout.ms: 4000}}}}"
    try:
        _, found = await doctor(tmp_path, "--abort", kafka=kafka)
        seen = of(found, "warning")["abort", transactional_id]
        assert seen == "left alone: whether its pipeline runs cannot be told, and it is within its timeout"
        assert await unstable(strict.bootstrap, sink) == {(sink, 0): 1}
        _, found = await doctor(tmp_path, "--abort", "--yes", kafka=kafka)
        assert of(found, "ok")["abort", transactional_id].startswith("aborted, after ")
    finally:
        await stop(left)


async def stop(producer):
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except (KafkaError, TimeoutError):
        pass


async def test_one_beyond_its_timeout_hangs(strict, topics, monkeypatch):
    """The coordinator should have aborted it; this one is told never to look."""
    monkeypatch.setattr(doctor_transactions, "GRACE", 0.0)
    sink = await topics.make(1)
    settings = KafkaSettings.model_validate({"bootstrap": strict.bootstrap})
    use = Use(settings, "late", True, {sink: TopicUse(frozenset({"output"}), frozenset({"p"}))}, {}, {"p": 1.0})
    left = await left_open(strict.bootstrap, "streamd.late.p.0.0", sink, timeout_ms=1)
    inspection = Inspection(settings)
    await inspection.open()
    try:
        found, _ = await inspection.topics([sink])
        async with asyncio.timeout(20):
            held = await open_transactions(inspection, use, found)
            while not held or held[0].verdict != "overdue":
                await asyncio.sleep(0.02)
                held = await open_transactions(inspection, use, found)
        assert held[0].live is None, "it has no group to ask"
        [finding] = judge(held, use)
        assert finding.level == "problem"
        assert f"producer {held[0].producer_id}, epoch 0, in {sink}[0]" in finding.seen
        [done] = await abort(inspection, found, held, force=False)
        assert done.level == "ok"
        assert await open_transactions(inspection, use, found) == []
    finally:
        await inspection.close()
        await stop(left)


async def orphaned(bootstrap: str, topic: str, timestamp: int) -> None:
    """Records of a transaction that no coordinator was told of."""
    inspection = Inspection(KafkaSettings.model_validate({"bootstrap": bootstrap}))
    await inspection.open()
    try:
        client = inspection.client
        await client.partition_count(topic)
        node = client.leader(topic, 0)
        async with asyncio.timeout(30):
            # A broker that has just started has no numbers for producers yet, and there is no event to wait for.
            opened = await inspection.send(await client.any_node(5), InitProducerId(None, 1000))
            while opened.error_code:
                await asyncio.sleep(0.05)
                opened = await inspection.send(await client.any_node(5), InitProducerId(None, 1000))
        batch = DefaultRecordBatchBuilder(2, 0, True, opened.producer_id, opened.producer_epoch, 0, 1 << 14)
        batch.append(0, timestamp=timestamp, key=None, value=b"{}", headers=[])
        data = bytes(batch.build())
        answer = await inspection.send(node, Produce("nobody", 5000, {topic: [(0, len(data), [data])]}))
        assert answer.topics[0][1][0][1] == 0, answer
    finally:
        await inspection.close()


async def test_a_transaction_that_no_coordinator_knows_is_ended_by_a_marker(strict, topics, tmp_path):
    source, sink = await topics.make(1), await topics.make(1)
    path = pipeline(tmp_path, strict.bootstrap, source, sink, more=", options: {transaction.timeout.ms: 4000}")
    await orphaned(strict.bootstrap, sink, int(time.time() * 1000) - 3_600_000)
    assert await unstable(strict.bootstrap, sink) == {(sink, 0): 1}
    code, found = await doctor(tmp_path, path)
    assert code == 1
    [((check, producer), seen)] = of(found, "problem").items()
    assert (check, "no coordinator knows of it" in seen) == ("hanging transaction", True)
    assert f"{sink}[0]" in seen
    [one] = found["transactions"]
    assert (one["id"], one["verdict"]) == (None, "orphaned")
    code, found = await doctor(tmp_path, path, "--abort")
    assert of(found, "ok")["abort", producer].startswith("aborted, after 36")
    assert (code, of(found, "problem"), found["transactions"]) == (0, {}, []), "it is ended"
    assert await unstable(strict.bootstrap, sink) == {}
    code, found = await doctor(tmp_path, path)
    assert (code, found["transactions"]) == (0, [])


async def test_a_young_one_that_no_coordinator_names_is_left_alone(strict, topics, tmp_path):
    """Its id may be one that we must not see: another app's, at work."""
    source, sink = await topics.make(1), await topics.make(1)
    path = pipeline(tmp_path, strict.bootstrap, source, sink, more=", options: {transaction.timeout.ms: 4000}")
    await orphaned(strict.bootstrap, sink, int(time.time() * 1000))
    code, found = await doctor(tmp_path, path, "--abort", "--yes")
    [one] = found["transactions"]
    assert (code, one["id"], one["verdict"], one["partitions"]) == (0, None, "foreign", [f"{sink}[0]"])
    [seen] = [seen for (check, _), seen in of(found, "warning").items() if check == "open transaction"]
    assert seen.endswith("Its transactional id is not shown to us, or no coordinator knows of it")
    assert await unstable(strict.bootstrap, sink) == {(sink, 0): 1}


async def test_other_programs_that_hold_topics_back_are_named_and_left_alone(strict, topics, tmp_path):
    source, sink = await topics.make(1), await topics.make(1)
    path = pipeline(tmp_path, strict.bootstrap, source, sink, more=", options: {transaction.timeout.ms: 4000}")
    service, app = f"order-service-{uuid.uuid4().hex[:8]}", f"other-{uuid.uuid4().hex[:8]}"
    holders = {service: (source, "input"), f"streamd.{app}.q.0.0": (sink, "output")}
    left = [await left_open(strict.bootstrap, name, topic) for name, (topic, _) in holders.items()]
    try:
        for options in ([], ["--abort", "--yes"]):
            code, found = await doctor(tmp_path, path, *options)
            assert code == 0, of(found, "problem")
            listed = {one["id"]: (one["verdict"], one["partitions"]) for one in found["transactions"]}
            assert listed == {name: ("foreign", [f"{topic}[0]"]) for name, (topic, _) in holders.items()}
            warned = of(found, "warning")
            for name, (topic, role) in holders.items():
                seen = warned["open transaction", name]
                assert seen.startswith("open for ")
                assert seen.endswith(f"s, not of app {APP}; holds back {topic}[0], {role} of p")
                assert await unstable(strict.bootstrap, topic) == {(topic, 0): 1}
            remedies = {one["subject"]: one["remedy"] for one in found["findings"]}
            assert f"`streamd doctor --app {app}`" in remedies[f"streamd.{app}.q.0.0"]
            assert "abort" not in {check for check, _ in warned}
    finally:
        for producer in left:
            await stop(producer)


async def test_what_runs_is_aborted_only_when_told_twice(kafka, make_topic, tmp_path):
    """A live node holds a transaction open: its worker stands still before the commit."""
    source, sink = await make_topic(1), await make_topic(1)
    app = f"live-{uuid.uuid4().hex[:8]}"
    folder = tmp_path / "pipelines"
    folder.mkdir()
    path = pipeline(folder, kafka.bootstrap, source, sink, more=", options: {transaction.timeout.ms: 120000}")
    stands_still = {"STREAMD_FAULT": "before_commit:sleep=300"}
    daemon = Daemon(tmp_path, app=app, workers=1, env=stands_still, stall_timeout="300s")
    await daemon.start()
    try:
        async with asyncio.timeout(60):
            found: dict = {"transactions": []}
            while not found["transactions"]:
                daemon.check()
                _, found = await doctor(tmp_path / "other", path, app=app)
        code, found = await doctor(tmp_path / "other", path, "--abort", app=app)
        assert code == 0, of(found, "problem")
        left = of(found, "warning")["abort", f"streamd.{app}.p.0.0"]
        assert left.startswith("left alone: its pipeline is run by streamd at 127.0.0.1")
        without_file = await doctor(tmp_path / "other", "--abort", app=app, kafka=f"{{bootstrap: '{kafka.bootstrap}'}}")
        assert of(without_file[1], "warning")["abort", f"streamd.{app}.p.0.0"] == left
        code, found = await doctor(tmp_path / "other", path, "--abort", "--yes", app=app)
        assert of(found, "ok")["abort", f"streamd.{app}.p.0.0"].startswith("aborted")
    finally:
        daemon.kill()

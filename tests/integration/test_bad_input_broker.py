"""Brokers that are not there, topics that are missing, logins without rights, topics that refuse."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from demo.daemon import Daemon
from services.kafka import KafkaBroker, Topics, produce, read_topic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

VALUES = [json.dumps({"n": n}).encode() for n in range(200)]
COPY = """
name: copy
kafka: {bootstrap: "BOOTSTRAP"}
source: {kafka: {topic: IN}}
stages:
- filter: n % 2 == 0
sink: {kafka: {topic: OUT}}
"""
EVEN = list(range(0, 200, 2))


def copy(bootstrap, into, out, extra=""):
    return COPY.replace("BOOTSTRAP", bootstrap).replace("IN", into).replace("OUT", out) + extra


async def numbers(bootstrap, topic):
    return [json.loads(r.value)["n"] for r in await read_topic(bootstrap, topic)]


async def set_config(bootstrap, topic, **config):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        named = {key.replace("_", "."): str(value) for key, value in config.items()}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])
    finally:
        await admin.close()


async def test_a_broker_out_of_reach_is_waited_for_and_then_everything_comes(tmp_path):
    broker = KafkaBroker(tmp_path / "kafka")
    daemon = Daemon(tmp_path, copy(broker.bootstrap, "in", "out"), "--until-idle")
    try:
        with daemon:
            waits = await asyncio.to_thread(daemon.wait_lines, "Pipeline waits for a server", 4)
            assert {line["error"] for line in waits} == {"UnavailableError"}
            message = waits[0]["message"]
            assert f"Kafka cannot be reached at {broker.bootstrap}" in message
            assert "Check that a broker runs there" in message
            delays = [line["delay_seconds"] for line in waits[:4]]
            assert delays[0] < delays[1] < delays[3] <= 0.4
            status, ready = await asyncio.to_thread(daemon.get, "/health/ready")
            assert status == 503
            assert "Kafka cannot be reached" in json.dumps(ready)
            assert (await asyncio.to_thread(daemon.get, "/health/live"))[0] == 200
            assert daemon.running
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(daemon.finishes)
        assert await numbers(broker.bootstrap, "out") == []
        # It has made its topics. What comes now is there for the next run.
        await produce(broker.bootstrap, "in", VALUES, partition=0)
        with daemon:
            await asyncio.to_thread(daemon.finishes)
        assert await numbers(broker.bootstrap, "out") == EVEN
    finally:
        broker.discard()


async def test_sigterm_ends_the_waiting(tmp_path):
    daemon = Daemon(tmp_path, copy("127.0.0.1:1", "in", "out"))
    with daemon:
        await asyncio.to_thread(daemon.wait_lines, "Pipeline waits for a server", 2)
        daemon.process.stop()
        assert daemon.ended() == 0


async def test_a_missing_topic_is_a_clear_error_where_it_may_not_be_made(kafka, make_topic, tmp_path):
    into = await make_topic()
    out = f"{into}-out"
    await produce(kafka.bootstrap, into, VALUES)
    daemon = Daemon(tmp_path, copy(kafka.bootstrap, into, out), "--until-idle", settings="create_topics: false\n")
    with daemon:
        assert await asyncio.to_thread(daemon.ended) == 1
    assert f"pipeline copy failed: topic {out} does not exist at {kafka.bootstrap}: create it, or let" in daemon.text
    daemon.write(copy(kafka.bootstrap, into, out))
    with daemon:
        await asyncio.to_thread(daemon.finishes)
    assert await numbers(kafka.bootstrap, out) == EVEN
    await _delete(kafka.bootstrap, out)


async def _delete(bootstrap, topic):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()


async def test_a_missing_topic_without_until_idle_is_failed_and_not_ready_but_does_not_end(kafka, make_topic, tmp_path):
    into = await make_topic()
    daemon = Daemon(tmp_path, copy(kafka.bootstrap, into, f"{into}-out"), settings="create_topics: false\n")
    with daemon:
        await asyncio.to_thread(daemon.wait_lines, "Pipeline failed", 1)
        status, body = await asyncio.to_thread(daemon.get, "/health/ready")
        assert (status, daemon.running) == (503, True)
        assert "does not exist" in json.dumps(body)
    daemon.write(copy(kafka.bootstrap, into, f"{into}-out"), "create_topics: false\nexit_on_failure: true\n")
    with daemon:
        assert await asyncio.to_thread(daemon.ended) == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A broker that lets bob log in and do nothing, and alice do everything."""
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required "
    broker = KafkaBroker(
        tmp_path_factory.mktemp("guarded"),
        listeners={"SASL": "SASL_PLAINTEXT"},
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:alice",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": plain + 'user_alice="pass-of-alice" user_bob="pass-of-bob";',
        },
    )
    broker.start()
    yield broker
    broker.discard()


@pytest.mark.parametrize(
    ("user", "password", "message"),
    [
        ("bob", "pass-of-bob", "does not allow as user bob with PLAIN to"),
        ("alice", "wrong-password", "refused the login as user alice with PLAIN"),
    ],
)
async def test_without_rights_it_fails_clearly_and_with_them_nothing_is_missing(
    guarded, tmp_path, user, password, message
):
    topics = Topics(guarded.bootstrap)
    into, out = await topics.make(), await topics.make()
    await produce(guarded.bootstrap, into, VALUES)

    def pipeline(user, password):
        login = f"sasl: {{mechanism: PLAIN, username: {user}, password: {password}}}"
        address = guarded.address("SASL")
        return copy(address, into, out).replace(f'"{address}"}}', f'"{address}", {login}}}')

    daemon = Daemon(tmp_path, pipeline(user, password), "--until-idle")
    with daemon:
        assert await asyncio.to_thread(daemon.ended) == 1
    assert message in daemon.text
    assert password not in daemon.text
    assert await numbers(guarded.bootstrap, out) == []
    daemon.write(pipeline("alice", "pass-of-alice"))
    with daemon:
        await asyncio.to_thread(daemon.finishes)
    assert await numbers(guarded.bootstrap, out) == EVEN


async def test_too_few_replicas_in_sync_are_waited_for(kafka_cluster, tmp_path):
    topics = Topics(kafka_cluster.bootstrap)
    into, out = await topics.make(), await topics.make(min_insync_replicas=3)
    await produce(kafka_cluster.bootstrap, into, VALUES)
    down = kafka_cluster.broker(3)
    await asyncio.to_thread(down.stop)
    try:
        daemon = Daemon(tmp_path, copy(kafka_cluster.bootstrap, into, out), "--until-idle")
        with daemon:
            await asyncio.to_thread(daemon.wait_for, "NOT_ENOUGH_REPLICAS")
            assert daemon.running
            assert await numbers(kafka_cluster.bootstrap, out) == []
            await asyncio.to_thread(down.start)
            await asyncio.to_thread(daemon.finishes)
    finally:
        if not down.running:
            await asyncio.to_thread(down.start)
    assert await numbers(kafka_cluster.bootstrap, out) == EVEN
    await topics.delete_all()


async def test_a_compacted_topic_refuses_records_without_key_and_with_keys_nothing_is_missing(
    kafka, make_topic, tmp_path
):
    into, out = await make_topic(), await make_topic(cleanup_policy="compact")
    await produce(kafka.bootstrap, into, VALUES)
    daemon = Daemon(tmp_path, copy(kafka.bootstrap, into, out), "--until-idle")
    with daemon:
        assert await asyncio.to_thread(daemon.ended) == 1
    assert "INVALID_RECORD" in daemon.text
    assert await numbers(kafka.bootstrap, out) == []
    daemon.write(copy(kafka.bootstrap, into, out).replace(f"{{topic: {out}}}", f"{{topic: {out}, key: n}}"))
    with daemon:
        await asyncio.to_thread(daemon.finishes)
    assert await numbers(kafka.bootstrap, out) == EVEN


BIG = [VALUES[0], json.dumps({"n": 4, "pad": "x" * 200_000}).encode(), *VALUES[1:9]]


@pytest.mark.parametrize("limit", ["topic", "client"])
async def test_a_record_too_large_stops_the_pipeline_and_nothing_is_lost(kafka, make_topic, tmp_path, limit):
    into = await make_topic()
    out = await make_topic(**({"max_message_bytes": 100_000} if limit == "topic" else {}))
    await produce(kafka.bootstrap, into, BIG)
    small = copy(kafka.bootstrap, into, out)
    if limit == "client":
        small = small.replace('"}', '", options: {max.request.size: 100000}}')
    daemon = Daemon(tmp_path, small, "--until-idle")
    with daemon:
        assert await asyncio.to_thread(daemon.ended) == 1
    assert "sink 'sink' failed on the record at offset 1" in daemon.text, daemon.text[-3000:]
    assert await numbers(kafka.bootstrap, out) == []
    await set_config(kafka.bootstrap, out, max_message_bytes=1_000_000)
    daemon.write(copy(kafka.bootstrap, into, out))
    with daemon:
        await asyncio.to_thread(daemon.finishes)
    assert await numbers(kafka.bootstrap, out) == [0, 4, 2, 4, 6, 8]


@pytest.mark.parametrize("limit", ["topic", "client"])
async def test_a_record_too_large_goes_to_the_dead_letters(kafka, make_topic, tmp_path, limit):
    into, dead = await make_topic(), await make_topic()
    out = await make_topic(**({"max_message_bytes": 100_000} if limit == "topic" else {}))
    await produce(kafka.bootstrap, into, BIG)
    text = copy(kafka.bootstrap, into, out, f"on_error: {{dead_letter: {{file: {{path: {tmp_path}/dead.ndjson}}}}}}\n")
    if limit == "client":
        text = text.replace('"}', '", options: {max.request.size: 100000}}')
    daemon = Daemon(tmp_path, text, "--until-idle")
    with daemon:
        await asyncio.to_thread(daemon.finishes)
    assert await numbers(kafka.bootstrap, out) == [0, 2, 4, 6, 8]
    [envelope] = [json.loads(line) for line in (tmp_path / "dead.ndjson").read_text().splitlines()]
    assert envelope["error"]["phase"] == "load"
    assert envelope["error"]["offset"] == 1
    assert len(envelope["record"]["value"]["pad"]) == 200_000
    assert "9 records processed" not in daemon.text
    assert "1 error in" in daemon.text
    assert await numbers(kafka.bootstrap, dead) == []

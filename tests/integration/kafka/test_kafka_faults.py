"""The data plane when answers are lost or wrong, and when the broker goes away: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from integration.kafka.workbench import SOURCE, Workbench, commit, read_to_end, read_until, settled
from services.kafka import KafkaBroker, Topics, produce, read_topic
from streamd.errors import AccessDeniedError, UnavailableError
from streamd.transport.kafka.client import KafkaClient

pytestmark = pytest.mark.kafka

LOADING, NOT_COORDINATOR, GROUP_DENIED = 14, 16, 30


@pytest.mark.parametrize("code", [LOADING, NOT_COORDINATOR])
async def test_an_error_of_the_whole_offset_fetch_is_never_taken_for_no_offset(proxied, bench, make_topic, code):
    """Stock aiokafka starts at `auto_offset_reset` here."""
    client, proxy = proxied
    source = await make_topic()
    first = bench.transaction(source)
    await first.open()
    await commit(first, 42)
    proxy.spoil("offset_fetch", code, code)
    assert (await bench.transaction(source, client=client).open()).positions == {SOURCE: 42}
    assert proxy.done


async def test_a_group_that_is_not_ours_is_access_denied(proxied, bench, make_topic):
    client, proxy = proxied
    proxy.spoil("offset_fetch", GROUP_DENIED)
    with pytest.raises(AccessDeniedError, match="GROUP_AUTHORIZATION_FAILED"):
        await bench.transaction(await make_topic(), client=client).open()


@pytest.mark.parametrize("lost", ["lose_request", "lose_answer"])
async def test_a_commit_without_an_answer_is_unknown_and_the_next_open_tells(kafka, proxied, bench, make_topic, lost):
    client, proxy = proxied
    source, out = await make_topic(), await make_topic()
    transaction = bench.transaction(source, client=client)
    await transaction.open()
    transaction.append(out, 0, None, b"first", 1, ())
    await commit(transaction, 1)
    transaction.append(out, 0, None, b"second", 1, ())
    await transaction.flush()
    await transaction.put_positions({SOURCE: 2}, {})
    proxy.spoil("end_txn", lost)
    with pytest.raises(UnavailableError, match="cannot tell whether"):
        await transaction.commit()
    transaction.abandon()
    again = bench.transaction(source, client=client)
    offset = (await again.open()).positions[SOURCE]
    assert offset == (2 if lost == "lose_answer" else 1)
    if offset == 1:
        again.append(out, 0, None, b"second", 1, ())
        await commit(again, 2)
    assert [r.value for r in await read_until(bench.reader(out), 2)] == [b"first", b"second"]


@pytest.mark.parametrize("request_name", ["produce", "add_partitions", "add_offsets"])
@pytest.mark.parametrize("lost", ["lose_request", "lose_answer"])
async def test_what_may_be_repeated_is_repeated(kafka, proxied, bench, make_topic, request_name, lost):
    client, proxy = proxied
    source, out = await make_topic(), await make_topic()
    transaction = bench.transaction(source, client=client)
    await transaction.open()
    for number in range(3):
        transaction.append(out, 0, None, b"%d" % number, 1, ())
        proxy.spoil(request_name, lost)
        await commit(transaction, number)
        assert proxy.done
    assert [r.value for r in await read_until(bench.reader(out), 3)] == [b"0", b"1", b"2"]
    await settled(bench.client, out, 6)
    assert len(await read_topic(kafka.bootstrap, out, committed=False)) == 3, "a repeated batch is written once"


async def test_lost_positions_spend_the_transaction(proxied, bench, make_topic):
    client, proxy = proxied
    source = await make_topic()
    transaction = bench.transaction(source, client=client)
    await transaction.open()
    await commit(transaction, 1)
    proxy.spoil("offsets", "lose_answer")
    with pytest.raises(UnavailableError, match="cannot tell whether"):
        await commit(transaction, 2)
    transaction.abandon()
    assert (await bench.transaction(source).open()).positions == {SOURCE: 1}


async def test_an_answer_that_makes_no_sense_fails_the_batch_and_hangs_nobody(proxied, bench, make_topic):
    client, proxy = proxied
    out = await make_topic()
    transaction = bench.transaction(await make_topic(), client=client)
    await transaction.open()
    transaction.append(out, 0, None, b"first", 1, ())
    no_topics = b"\xff" * 4
    proxy.spoil("produce", lambda answer: answer[:4] + no_topics + answer[-4:])
    with pytest.raises(TypeError):
        await asyncio.wait_for(transaction.flush(), 5)
    with pytest.raises(TypeError):
        await transaction.commit()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory) -> Iterator[KafkaBroker]:
    """A broker that the tests here stop and pause."""
    broker = KafkaBroker(tmp_path_factory.mktemp("own-broker"))
    try:
        broker.start()
        yield broker
    finally:
        broker.discard()


@pytest.fixture
async def own(own_broker: KafkaBroker) -> AsyncIterator[Workbench]:
    client = KafkaClient({"bootstrap_servers": own_broker.bootstrap, "request_timeout_ms": 5000})
    await client.start()
    bench = Workbench(client)
    yield bench
    await bench.close()
    await client.close()


@pytest.mark.parametrize("crash", [False, True])
async def test_reading_and_writing_outlive_a_restart_of_the_broker(own_broker, own, crash):
    topics = Topics(own_broker.bootstrap)
    source, out = await topics.make(), await topics.make()
    reader = own.reader(out)
    transaction = own.transaction(source, timeout=60.0)
    await transaction.open()
    transaction.append(out, 0, None, b"before", 1, ())
    await commit(transaction, 1)
    found = await read_until(reader, 1)
    transaction.append(out, 0, None, b"while", 1, ())
    await transaction.flush()
    await asyncio.to_thread(own_broker.restart, crash=crash)
    transaction.append(out, 0, None, b"after", 1, ())
    try:
        await commit(transaction, 2)
    except UnavailableError:
        # In doubt, after a crash: the task opens anew and goes on from what is committed.
        transaction.abandon()
        transaction = own.transaction(source)
        if (await transaction.open()).positions[SOURCE] == 1:
            transaction.append(out, 0, None, b"while", 1, ())
            transaction.append(out, 0, None, b"after", 1, ())
            await commit(transaction, 2)
    found += await read_until(reader, 2, deadline=60)
    assert [r.value for r in found] == [b"before", b"while", b"after"]
    assert (await own.transaction(source).open()).positions == {SOURCE: 2}
    await topics.delete_all()


async def test_an_outage_is_reported_after_its_deadline_and_passes(own_broker, own):
    topics = Topics(own_broker.bootstrap)
    topic = await topics.make()
    await produce(own_broker.bootstrap, topic, [b"x"])
    reader = own.reader(topic, outage=0.5)
    assert len(await read_until(reader, 1)) == 1
    await asyncio.to_thread(own_broker.stop)
    with pytest.raises(UnavailableError):
        await read_until(reader, 1)
    with pytest.raises(UnavailableError, match="cannot be reached within"):
        await KafkaClient({"bootstrap_servers": own_broker.bootstrap}).start(0.3)
    await asyncio.to_thread(own_broker.start)
    await produce(own_broker.bootstrap, topic, [b"y"])
    found: list[object] = []
    async with asyncio.timeout(60):
        while not found:
            try:
                found += await reader.read(10, 1)
            except UnavailableError:
                continue
    assert [r.value for r in found] == [b"y"]
    await topics.delete_all()


async def test_a_broker_that_stands_still_bounds_every_call(own_broker, own):
    topics = Topics(own_broker.bootstrap)
    source, out = await topics.make(), await topics.make()
    transaction = own.transaction(source, step=0.5)
    await transaction.open()
    await commit(transaction, 1)
    own_broker.pause()
    try:
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(transaction.put_positions({SOURCE: 2}, {}), 10)
        await asyncio.wait_for(transaction.close(), 10)
    finally:
        own_broker.resume()
    again = own.transaction(source)
    assert (await again.open()).positions == {SOURCE: 1}
    again.append(out, 0, None, b"x", 1, ())
    await commit(again, 2)
    assert len(await read_to_end(own.reader(out), 1)) == 1
    await topics.delete_all()

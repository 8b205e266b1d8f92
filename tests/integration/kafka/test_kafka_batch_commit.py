"""At least once: outputs first, then positions, without a transaction."""

from __future__ import annotations

import pytest

from integration.kafka.workbench import SOURCE, commit
from services.kafka import read_topic
from streamd.component.transaction import Committed
from streamd.errors import NotMemberError
from streamd.transport.kafka.membership import Membership

pytestmark = pytest.mark.kafka


async def test_outputs_are_seen_at_once_and_positions_after_the_commit(kafka, make_topic, bench):
    source, out = await make_topic(), await make_topic()
    ours = bench.batch_commit(source)
    assert await ours.open() == Committed()
    ours.append(out, 0, b"k", b"1", 1, [("h", b"v")])
    await ours.flush()
    await ours.put_positions({SOURCE: 1}, {"file": 1})
    assert [r.value for r in await read_topic(kafka.bootstrap, out)] == [b"1"]
    assert await bench.batch_commit(source).open() == Committed(), "not committed yet"
    await ours.commit()
    assert await bench.batch_commit(source).open() == Committed({SOURCE: 1}, {"file": 1})
    ours.append(out, 0, b"k", b"2", 1, ())
    await ours.flush()
    await ours.put_positions({SOURCE: 2}, {})
    await ours.abort()
    assert await bench.batch_commit(source).open() == Committed({SOURCE: 1}, {"file": 1})
    assert [r.value for r in await read_topic(kafka.bootstrap, out)] == [b"1", b"2"], "what was written stays"


async def test_exactly_once_goes_on_where_at_least_once_was(make_topic, bench):
    source = await make_topic()
    before = bench.batch_commit(source)
    await before.open()
    await commit(before, 5, {"file": 2})
    after = bench.transaction(source)
    assert await after.open() == Committed({SOURCE: 5}, {"file": 2})
    await commit(after, 6)
    assert (await bench.batch_commit(source).open()).positions == {SOURCE: 6}


async def test_a_stranger_cannot_commit_positions(make_topic, bench):
    ours = bench.batch_commit(await make_topic())
    await ours.open()
    ours.update_membership(Membership(bench.group, "stranger", 3))
    with pytest.raises(NotMemberError, match=r"UNKNOWN_MEMBER_ID|ILLEGAL_GENERATION"):
        await commit(ours, 1)
    again = bench.batch_commit(await make_topic())
    again.update_membership(Membership(bench.group, "stranger", 3))
    with pytest.raises(NotMemberError, match=r"UNKNOWN_MEMBER_ID|ILLEGAL_GENERATION"):
        await again.open()


async def test_positions_of_other_sources_lie_in_a_topic(kafka, bench):
    from streamd.transport.kafka.admin import open_admin
    from streamd.transport.kafka.settings import KafkaSettings

    try:
        for number in range(2):
            ours = bench.batch_commit()
            committed = await ours.open()
            assert committed.positions == ({("ticks", 0): 0} if number else {})
            await ours.flush()
            await ours.put_positions({("ticks", 0): number}, {})
            await ours.commit()
            await ours.close()
    finally:
        async with open_admin(KafkaSettings(bootstrap=(kafka.bootstrap,))) as admin:
            await admin.delete_topics([f"streamd.test.{bench.task.pipeline}.positions"])

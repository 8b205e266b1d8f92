"""A pipeline whose state does not fit in the memory that it is given."""

from __future__ import annotations

import pytest

from streamd.errors import ConfigError

KEYS = 12_000
STAGES = "stages: [{aggregate: {by: user, values: {orders: count(), total: sum(amount)}}}]\n"


async def test_it_counts_as_if_all_were_there_and_leaves_nothing_on_disk(app):
    users = [{"user": f"u{n}", "amount": n} for n in range(KEYS)]
    await app.seed(users)
    await app.run("state: {memory: 1MB}\n" + STAGES)
    await app.seed(users)
    await app.run("state: {memory: 1MB}\n" + STAGES)
    last = (await app.values())[-KEYS:]
    assert last == [{"user": f"u{n}", "orders": 2, "total": 2 * n} for n in range(KEYS)]
    assert app.total("streamd_restored_records_total") == KEYS + 1
    [place] = app.folder.rglob("cold")
    assert not list(place.iterdir())


async def test_too_little_memory_is_refused(app):
    await app.seed([])
    with pytest.raises(ConfigError, match="memory"):
        await app.run("state: {memory: 10}\n" + STAGES)

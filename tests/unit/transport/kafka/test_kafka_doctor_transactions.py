"""Which of an app's open transactions somebody runs, as far as that can be told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from streamd.errors import UnavailableError
from streamd.transport.kafka.doctor import Use
from streamd.transport.kafka.doctor_transactions import abort, open_transactions
from streamd.transport.kafka.inspection import Transaction
from streamd.transport.kafka.settings import KafkaSettings

SETTINGS = KafkaSettings.model_validate({"bootstrap": "kafka:9092"})
ID = "streamd.shop.orders.0.3"


class Cluster:
    """One open transaction, and groups with members."""

    def __init__(self, **groups):
        self.groups, self.ended = groups, []

    async def transactions(self, prefix=None, producer_ids=()):
        return [Transaction(ID, "Ongoing", 60_000, 0, 7, 1, (("out", 3),))] if prefix else []

    async def unstable(self, topics):
        return {}

    async def open_producers(self, topics, places):
        return []

    async def group(self, name):
        found = self.groups.get(name.replace(".", "_"), ())
        if found is None:
            raise UnavailableError("no answer")
        return SimpleNamespace(members=found)

    async def end_transaction(self, transaction):
        self.ended.append(transaction.id)


def use(**known):
    return Use(SETTINGS, "shop", True, {}, known.get("groups", {}), known.get("timeouts", {}))


async def aborted(cluster, use):
    """(who runs it, what was ended) of `--abort`."""
    [held] = await open_transactions(cluster, use, {})
    await abort(cluster, {}, [held], force=False)
    return held.live, cluster.ended


async def test_without_the_file_nobody_in_the_usual_group_says_nothing():
    """Its source may have a group of its own, whose members run it."""
    assert await aborted(Cluster(mine=("streamd at a",)), use()) == (None, [])


async def test_without_the_file_members_of_the_usual_group_run_it():
    assert await aborted(Cluster(streamd_shop_orders=("streamd at a",)), use()) == (("streamd at a",), [])


async def test_with_the_file_its_own_group_tells():
    known = {"groups": {"orders": "mine"}, "timeouts": {"orders": 60.0}}
    assert await aborted(Cluster(mine=("streamd at a",)), use(**known)) == (("streamd at a",), [])
    assert await aborted(Cluster(), use(**known)) == ((), [ID])


@pytest.mark.parametrize("known", [{"timeouts": {"orders": 60.0}}, {"groups": {"orders": "mine"}}])
async def test_what_has_no_group_or_is_not_answered_cannot_be_told(known):
    assert await aborted(Cluster(mine=None), use(**known)) == (None, [])

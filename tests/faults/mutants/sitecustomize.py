"""Plants a bug into a node and its workers: `STREAMD_MUTANT=name`, with this folder on PYTHONPATH.

Each mutant takes one step of the protocol away, by changing a class right after its module was imported. Product code
knows nothing of it. `tests/faults/test_mutations.py` has the scenario that must find each one.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import uuid

MUTANTS = {}


def mutant(module):
    """Register a function that gets `module` when it has been imported; its name is the mutant's."""

    def register(plant):
        MUTANTS.setdefault(plant.__name__, []).append((module, plant))
        return plant

    return register


# What Kafka's protocol holds.


@mutant("streamd.transport.kafka.transactional")
def no_fencing(module):
    """Each instance of a task has a transactional id of its own: nobody settles what the one before left."""
    init = module.KafkaTransaction.__init__

    def begin(self, client, *args, **options):
        init(self, client, *args, **options)
        self._id = f"{self._id}.{uuid.uuid4().hex}"
        self._coordinator = module.Coordinator(client, module.TRANSACTION, self._id, self._connections[1])

    module.KafkaTransaction.__init__ = begin


@mutant("streamd.transport.kafka.position_store")
def offsets_outside(module):
    """Positions are committed at once, and not with the transaction."""

    async def put(self, producer, positions, cursors, deadline):
        await self.commit(self.prepare(positions, cursors), deadline)

    module.GroupPositions.put = put


@mutant("streamd.transport.kafka.position_store")
def no_require_stable(module):
    """Positions are read without waiting for transactions that have others pending."""
    fetch = module.OffsetFetch
    module.OffsetFetch = lambda group, topics, require_stable, tags: fetch(group, topics, False, tags)


@mutant("streamd.transport.kafka.position_store")
def no_generation(module):
    """Positions are committed without the member and the generation that would show a lost membership."""
    within, outside = module.TxnOffsetCommit, module.OffsetCommitRequest
    module.TxnOffsetCommit = lambda i, group, p, e, generation, member, *rest: within(i, group, p, e, -1, "", *rest)
    module.OffsetCommitRequest = lambda group, generation, member, *rest: outside(group, -1, "", *rest)


@mutant("streamd.transport.kafka.outbox")
def failed_produce_ignored(module):
    """A batch that a broker refuses for good counts as written."""
    settle = module.Outbox._settle

    async def _settle(self, lane, code, message):
        await settle(self, lane, code if module.meaning(code).retriable else 0, message)

    module.Outbox._settle = _settle


@mutant("streamd.transport.kafka.outbox")
def no_flush(module):
    """A commit does not wait until what was produced is acknowledged."""

    async def flush(self):
        self._seal_all()

    module.Outbox.flush = flush


@mutant("streamd.transport.kafka.reader")
def aborted_records_read(module):
    """The source hands out what transactions have aborted."""
    init = module.PartitionReader.__init__

    def begin(self, *args, isolation="read_committed", **options):
        init(self, *args, isolation="read_uncommitted", **options)

    module.PartitionReader.__init__ = begin


# What the checkpoint holds, on every transport.


@mutant("streamd.transport.embedded.transaction")
def positions_at_once(module):
    """Positions are written at once, and not with the outputs."""

    async def put_positions(self, positions, cursors):
        job = module.Commit(self._task, self._epoch, [], {}, dict(positions), None, {}, self._clock.now_ms())
        await self._opened().write(job)
        self._cursors = dict(cursors)

    module.EmbeddedTransaction.put_positions = put_positions


@mutant("streamd.runtime.checkpoint")
def positions_behind(module):
    """Positions are those before the last batches, as of the checkpoint before."""
    commit = module.Checkpoint._commit

    async def _commit(self):
        now = dict(self._positions)
        self._positions = getattr(self, "before", now)
        self.before = now
        try:
            await commit(self)
        finally:
            self._positions = self.live

    init = module.Checkpoint.__init__

    def begin(self, task, transaction, positions, *rest, **options):
        init(self, task, transaction, positions, *rest, **options)
        self.live = positions

    module.Checkpoint.__init__, module.Checkpoint._commit = begin, _commit


@mutant("streamd.runtime.checkpoint")
def positions_too_far(module):
    """Positions are one record beyond the last one that was processed."""
    commit = module.Checkpoint._commit

    async def _commit(self):
        live = self._positions
        self._positions = {place: position + 1 for place, position in live.items()}
        try:
            await commit(self)
        finally:
            self._positions = live

    module.Checkpoint._commit = _commit


@mutant("streamd.runtime.checkpoint")
def changelog_after_commit(module):
    """State is written in a transaction of its own, after that of the outputs and positions."""
    init, commit = module.Checkpoint.__init__, module.Checkpoint._commit

    class Late:
        def __init__(self, stores):
            self.stores = stores
            self.changes = []
            self.put_state = lambda changelog, changes: self.changes.append((changelog, changes))

        def write(self, transaction, positions):
            return self.stores.write(self, positions)

        def committed(self):
            self.stores.committed()

        def __bool__(self):
            return bool(self.stores)

    def begin(self, *args, **options):
        init(self, *args, **options)
        self._state = Late(self._state)

    async def _commit(self):
        await commit(self)
        changes, self._state.changes = self._state.changes, []
        for changelog, of_it in changes:
            self._transaction.put_state(changelog, of_it)
        await self._transaction.flush()
        await self._transaction.commit()

    module.Checkpoint.__init__, module.Checkpoint._commit = begin, _commit


@mutant("streamd.state.task_stores")
def state_forgotten(module):
    """A task begins with empty stores, whatever the changelog says."""

    async def restore(self, transaction, committed, restored):
        for changelog in self._changelogs.values():
            await transaction.restore(changelog, lambda changes: None)
        self._number = max((committed.cursors.get(stage, 0) for stage in self._changelogs), default=0)

    module.TaskStores.restore = restore


@mutant("streamd.transport.files.output")
def no_cut_off(module):
    """A file keeps what lies behind the last checkpoint."""
    module.AppendedFile.cut = lambda self, length: None


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds the modules of one mutant as everybody would, and has them changed after they have run."""

    def __init__(self, plants):
        self._plants = dict(plants)

    def find_spec(self, name, path=None, target=None):
        if name not in self._plants:
            return None
        plant = self._plants.pop(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            plant(module)

        spec.loader.exec_module = exec_module
        return spec


if _name := os.environ.get("STREAMD_MUTANT"):
    sys.meta_path.insert(0, _AfterImport(MUTANTS[_name]))

"""Pipelines built in code, run for real."""

from __future__ import annotations

import asyncio
import json

import pytest

from streamd import DataSink, DataSource, Pipeline, PipelineStage
from streamd.config.pipeline import ErrorPolicy
from streamd.errors import FatalError
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

GOOD = [{"n": n} for n in range(5)]


class Numbers(DataSource):
    """Gives the numbers below `count`; `given` says how many were asked for, `closed` that it was ended."""

    def __init__(self, count=5, fail_at=None, pause=None):
        self.count, self.fail_at, self.pause = count, fail_at, pause
        self.given, self.closed = 0, False

    async def read(self):
        try:
            for n in range(self.count):
                if n == self.fail_at:
                    raise OSError("the line is dead")
                if self.pause is not None and n == self.pause[0]:
                    await self.pause[1].wait()
                self.given += 1
                yield {"n": n}
        finally:
            self.closed = True


class Kept(DataSink):
    """Keeps what it gets; fails on the numbers of `refuse`, and takes a record only when `gate` is open."""

    def __init__(self, refuse=(), gate=None):
        self.records, self.refuse, self.gate = [], refuse, gate
        self.closed = 0
        self.writing = False

    async def write(self, record):
        assert not self.writing, "one record at a time"
        self.writing = True
        try:
            await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
            if record["n"] in self.refuse:
                raise ValueError(f"no room for {record['n']}")
            self.records.append(record)
        finally:
            self.writing = False

    async def close(self):
        self.closed += 1


class Twice(PipelineStage):
    async def process(self, record):
        return [record, {**record, "again": True}]


class Odd(PipelineStage):
    async def process(self, record):
        return record if record["n"] % 2 else None


async def _seed(state_dir, count, partitions=1):
    """Topic `in` of the embedded log with the numbers below `count`, in turn over the partitions."""
    (state_dir / "streamd").mkdir()
    path = log_path(state_dir / "streamd", "streamd")
    log = EmbeddedLog.acquire(path)
    await log.create_topic("in", partitions)
    transaction = EmbeddedTransaction(path, "seed")
    await transaction.open()
    for n in range(count):
        transaction.append("in", n % partitions, None, json.dumps({"n": n}).encode(), 1, ())
    await transaction.commit()
    await transaction.close()
    await log.release()


async def _numbers(state_dir):
    """What is in partition 0 of topic `out`."""
    log = EmbeddedLog.acquire(log_path(state_dir / "streamd", "streamd"))
    stream = await log.stream("out", 0)
    found = await log.fetch(stream.id, 0, 10_000, 1 << 24)
    await log.release()
    return [json.loads(record.value)["n"] for record in found]


@pytest.fixture
def pipeline(tmp_path):
    def make(source, sink, **options):
        return Pipeline("api", source, sink, state_dir=tmp_path, **options)

    return make


async def test_own_source_stages_and_sink(pipeline):
    source, sink = Numbers(), Kept()
    metrics = await (
        pipeline(source, sink)
        .filter(lambda r: r["n"] > 1)
        .transform(lambda r: {**r, "m": r["n"] * 2})
        .enrich(lambda r: {"big": True} if r["n"] > 3 else None)
        .run()
    )
    assert sink.records == [{"n": 2, "m": 4}, {"n": 3, "m": 6}, {"n": 4, "m": 8, "big": True}]
    assert (source.closed, sink.closed) == (True, 1)
    assert (metrics.records_processed, metrics.records_filtered, metrics.errors) == (5, 2, 0)
    assert metrics["records_processed"] == 5
    assert metrics.duration_seconds > 0
    assert metrics.throughput == pytest.approx(5 / metrics.duration_seconds)
    with pytest.raises(KeyError):
        metrics["records"]


async def test_async_functions_and_stage_classes(pipeline):
    async def keep(record):
        await asyncio.sleep(0)
        return record["n"] < 4

    async def change(record):
        await asyncio.sleep(0)
        return {**record, "m": 1}

    async def look_up(record):
        await asyncio.sleep(0)
        return {"o": record["n"]}

    sink = Kept()
    await (
        pipeline(Numbers(), sink)
        .filter(keep)
        .transform(change)
        .enrich(look_up)
        .add_stage(Odd())
        .add_stage(Twice())
        .run()
    )
    one, three = {"n": 1, "m": 1, "o": 1}, {"n": 3, "m": 1, "o": 3}
    assert sink.records == [one, {**one, "again": True}, three, {**three, "again": True}]


async def test_order_is_kept_over_many_batches(pipeline):
    sink = Kept()
    metrics = await pipeline(Numbers(2000), sink, batch_size=64).run()
    assert [r["n"] for r in sink.records] == list(range(2000))
    assert metrics.records_processed == 2000


async def test_a_pipeline_can_be_run_again(pipeline):
    sink = Kept()
    own = pipeline(Numbers(2), sink).transform(lambda r: {**r, "m": 1})
    first, second = await own.run(), await own.run()
    assert [r["n"] for r in sink.records] == [0, 1, 0, 1]
    assert (first.records_processed, second.records_processed) == (2, 2)


async def test_built_in_components_by_name(pipeline, tmp_path):
    (tmp_path / "in.ndjson").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(4)))
    own = (
        pipeline({"file": {"path": str(tmp_path / "in.ndjson")}}, {"file": {"path": str(tmp_path / "out.ndjson")}})
        .add_stage("filter", "n > 0")
        .add_stage("set", {"m": "n * 10"})
        .add_stage("set", {"o": "m + 1"})
    )
    metrics = await own.run()
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"n": n, "m": n * 10, "o": n * 10 + 1} for n in (1, 2, 3)]
    assert (metrics.records_processed, metrics.records_filtered) == (4, 1)


async def test_own_and_built_in_stages_mix(pipeline):
    sink = Kept()
    own = pipeline(Numbers(), sink).add_stage("filter", {"where": "n > 2"}).transform(lambda r: {**r, "m": 1})
    await own.add_stage("drop", ["m"]).run()
    assert sink.records == [{"n": 3}, {"n": 4}]


def test_what_does_not_exist_or_fit_is_refused(pipeline):
    with pytest.raises(ValueError, match="there is no source 'flie'; did you mean 'file'"):
        pipeline("flie", Kept())
    with pytest.raises(TypeError, match=r"sink: expected a DataSink, a name, or .*, got int"):
        pipeline(Numbers(), 3)
    with pytest.raises(ValueError, match=r"stage 'filter': .*where"):
        pipeline(Numbers(), Kept()).add_stage("filter", {})
    with pytest.raises(ValueError, match="sink 'file': pth: "):
        pipeline(Numbers(), {"file": {"path": "x", "pth": "y"}})
    with pytest.raises(ValueError, match="on_error: expected fail, skip"):
        pipeline(Numbers(), Kept(), on_error="ignore")


# Failures.


async def test_a_failing_function_stops_the_run_and_is_the_cause(pipeline):
    sink = Kept()
    with pytest.raises(FatalError, match="stage 'transform' failed on the record at offset 2") as caught:
        await pipeline(Numbers(), sink).transform(lambda r: {"n": 1 / (r["n"] - 2)}).run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert sink.records == [{"n": -0.5}, {"n": -1.0}]  # what came before it cannot be read again
    assert sink.closed == 1


async def test_skip_leaves_out_the_guilty_record_and_calls_nothing_twice(pipeline):
    seen = []

    def change(record):
        seen.append(record["n"])
        record["calls"] = record.get("calls", 0) + 1
        if record["n"] == 2:
            raise ValueError
        return record

    sink = Kept()
    metrics = await pipeline(Numbers(), sink, on_error="skip").transform(change).run()
    assert sink.records == [{"n": n, "calls": 1} for n in (0, 1, 3, 4)]
    assert seen == [0, 1, 2, 3, 4]
    assert (metrics.errors, metrics.records_processed, metrics.records_filtered) == (1, 5, 0)


async def test_retry_tries_the_function_again(pipeline):
    failures = iter([True, True])

    def change(record):
        if record["n"] == 2 and next(failures, False):
            raise ConnectionError
        return record

    sink = Kept()
    policy = ErrorPolicy("retry", backoff=0.001)
    metrics = await pipeline(Numbers(), sink, on_error=policy).transform(change).run()
    assert sink.records == GOOD
    assert metrics.errors == 0


async def test_a_failing_source_ends_the_run_after_what_came_before(pipeline):
    source, sink = Numbers(fail_at=3), Kept()
    with pytest.raises(
        FatalError, match="The source Numbers failed after 3 records: OSError: the line is dead"
    ) as caught:
        await pipeline(source, sink).run()
    assert isinstance(caught.value.__cause__, OSError)
    assert sink.records == GOOD[:3]
    assert source.given == 3


async def test_a_failing_sink_ends_the_run_and_nothing_is_written_twice(pipeline):
    source, sink = Numbers(), Kept(refuse={3})
    with pytest.raises(FatalError, match="The sink Kept failed: ValueError: no room for 3") as caught:
        await pipeline(source, sink).run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert sink.records == GOOD[:3]
    assert (sink.closed, source.closed) == (1, True)


async def test_skip_leaves_out_what_the_sink_refuses(pipeline):
    sink = Kept(refuse={1, 3})
    metrics = await pipeline(Numbers(), sink, on_error="skip").run()
    assert [r["n"] for r in sink.records] == [0, 2, 4]
    assert metrics.errors == 2


# Backpressure and the end.


async def test_a_fast_source_is_not_read_far_ahead_of_a_slow_sink(pipeline):
    gate = asyncio.Event()
    source, sink = Numbers(10_000), Kept(gate=gate)
    run = asyncio.create_task(pipeline(source, sink, batch_size=50).run())
    async with asyncio.timeout(20):
        while source.given < 50:  # noqa: ASYNC110 - the source is not told either
            await asyncio.sleep(0.005)
        for _ in range(100):
            await asyncio.sleep(0.001)
    assert source.given <= 51
    gate.set()
    await run
    assert len(sink.records) == 10_000


async def test_a_cancel_finishes_what_was_read_and_closes(pipeline):
    forever = asyncio.Event()
    source, sink = Numbers(1000, pause=(7, forever)), Kept()
    run = asyncio.create_task(pipeline(source, sink).run())
    async with asyncio.timeout(20):
        while len(sink.records) < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [r["n"] for r in sink.records] == list(range(7))
    assert (source.closed, sink.closed) == (True, 1)


async def test_a_cancel_commits_between_built_in_components(pipeline, tmp_path):
    """What a cancelled run has read is in the output, and the next run goes on behind it."""
    seen = asyncio.Event()
    await _seed(tmp_path, 500)

    def note(record):
        seen.set()
        return record

    def own():
        return pipeline({"log": {"topic": "in"}}, {"log": {"topic": "out"}}, batch_size=100).transform(note)

    run = asyncio.create_task(own().run(until_idle=False))
    await asyncio.wait_for(seen.wait(), 20)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await own().run()
    assert await _numbers(tmp_path) == list(range(500))


async def test_tasks_of_several_partitions_share_the_sink_in_turn(pipeline, tmp_path):
    await _seed(tmp_path, 400, partitions=4)
    sink = Kept()
    await pipeline({"log": {"topic": "in"}}, sink, batch_size=20).run()
    assert sorted(r["n"] for r in sink.records) == list(range(400))
    for partition in range(4):
        mine = [r["n"] for r in sink.records if r["n"] % 4 == partition]
        assert mine == sorted(mine)
    assert sink.closed == 1

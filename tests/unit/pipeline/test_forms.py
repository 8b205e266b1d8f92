"""What own classes and settings may look like, and what is said when they cannot work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from streamd import DataSink, DataSource, ErrorPolicy, Pipeline, PipelineStage, StreamProcessor
from streamd.errors import ConfigError, FatalError

THREE = [{"n": 0}, {"n": 1}, {"n": 2}]


class PlainGenerator(DataSource):
    closed = False

    def read(self):
        try:
            yield from (dict(one) for one in THREE)
        finally:
            self.closed = True


class PlainList(DataSource):
    def read(self):
        return [dict(one) for one in THREE]


class AsyncList(DataSource):
    async def read(self):
        await asyncio.sleep(0)
        return [dict(one) for one in THREE]


class AsyncGivesGenerator(DataSource):
    async def read(self):
        async def records():
            for one in THREE:
                yield dict(one)

        return records()


class Asynchronous(DataSource):
    async def read(self):
        for one in THREE:
            yield dict(one)


class Nothing(DataSource):
    def read(self):
        return None


class Plain(DataSink):
    """Keeps what it gets, without waiting; refuses the numbers of `refuse`."""

    def __init__(self, refuse=()):
        self.records, self.refuse, self.closed = [], refuse, 0

    def write(self, record):
        if record.get("n") in self.refuse:
            record["spoiled"] = True
            raise ValueError(f"no room for {record['n']}")
        self.records.append(record)

    def close(self):
        self.closed += 1


@pytest.fixture
def pipeline(tmp_path):
    def make(source, sink, **options):
        return Pipeline("forms", source, sink, state_dir=tmp_path, **options)

    return make


@pytest.mark.parametrize("source", [PlainGenerator, PlainList, AsyncList, AsyncGivesGenerator, Asynchronous])
async def test_a_source_may_be_plain_or_async(pipeline, source):
    sink = Plain()
    metrics = await pipeline(source(), sink).run()
    assert sink.records == THREE
    assert (metrics.records_processed, sink.closed) == (3, 1)


async def test_a_plain_generator_is_closed_when_the_run_fails(pipeline):
    source = PlainGenerator()
    with pytest.raises(FatalError):
        await pipeline(source, Plain(refuse={0}), batch_size=1).run()
    assert source.closed


async def test_a_source_that_gives_nothing_to_read_is_told_so(pipeline):
    with pytest.raises(
        FatalError, match=r"Nothing.read\(\) must give a generator \(async or plain\) or a list, got NoneT"
    ):
        await pipeline(Nothing(), Plain()).run()


async def test_stages_may_be_plain_and_generators(pipeline):
    class Same(PipelineStage):
        def process(self, record):
            return record if record["n"] else None

    class Twice(PipelineStage):
        def process(self, record):
            yield record
            yield {**record, "again": True}

    class Last(PipelineStage):
        async def process(self, record):
            if record["n"] == 2:
                yield record

    sink = Plain()
    await pipeline(PlainList(), sink).add_stage(Same()).add_stage(Twice()).add_stage(Last()).run()
    assert sink.records == [{"n": 2}, {"n": 2, "again": True}]


async def test_metrics_are_a_mapping(pipeline):
    metrics = await pipeline(PlainList(), Plain()).run()
    assert isinstance(metrics, Mapping)
    assert list(metrics) == ["records_processed", "records_filtered", "errors", "duration_seconds", "throughput"]
    assert len(metrics) == 5
    assert dict(metrics) == {name: getattr(metrics, name) for name in metrics} == metrics
    assert {**metrics}["records_processed"] == metrics.get("records_processed") == 3
    assert "names" not in metrics


async def test_on_batch_can_be_assigned():
    seen = []
    processor = StreamProcessor(batch_size=2)
    processor.on_batch = seen.append
    await processor.ingest(1)
    await processor.ingest(2)

    @processor.on_batch
    async def later(batch):
        seen.append(("later", batch))

    await processor.flush()
    await processor.ingest(3)
    await processor.close()
    assert seen[-1] == ("later", [3])
    with pytest.raises(TypeError, match="on_batch: expected a function, got int"):
        processor.on_batch = 3


# Dead letters.


def _letters(values):
    return [
        (one["error"]["stage"], one["error"]["phase"], one["error"]["error"], one["record"]["value"]) for one in values
    ]


async def test_dead_letters_go_to_an_own_sink_as_they_came(pipeline):
    def change(record):
        record["changed"] = True
        return {**record, "part": 1 // (record["n"] - 1)}

    sink, failed = Plain(), Plain()
    metrics = await pipeline(PlainList(), sink, dead_letter=failed).transform(change).run()
    assert [r["n"] for r in sink.records] == [0, 2]
    assert _letters(failed.records) == [("transform", "transform", "ZeroDivisionError", {"n": 1})]
    assert (metrics.errors, failed.closed, sink.closed) == (1, 1, 1)


async def test_dead_letters_go_to_a_built_in_sink(pipeline, tmp_path):
    path = tmp_path / "failed.ndjson"
    sink = Plain()
    await pipeline(PlainList(), sink, dead_letter={"file": {"path": str(path)}}).add_stage("filter", "n < 1 / n").run()
    letters = [json.loads(line) for line in path.read_text().splitlines()]
    assert _letters(letters) == [("filter", "transform", "TransformError", {"n": 0})]


async def test_what_an_own_sink_refuses_is_a_dead_letter(pipeline):
    sink, failed = Plain(refuse={1}), Plain()
    metrics = await pipeline(PlainList(), sink, dead_letter=failed).transform(lambda r: {**r, "m": 1}).run()
    assert [r["n"] for r in sink.records] == [0, 2]
    assert _letters(failed.records) == [("sink", "load", "LoadError", {"n": 1, "m": 1})]
    assert "no room" not in failed.records[0]["error"]["message"]
    assert (metrics.records_filtered, metrics.errors, sink.closed, failed.closed) == (0, 1, 1, 1)


async def test_details_and_retries_before_a_dead_letter(pipeline):
    sink, failed = Plain(refuse={1}), Plain()
    policy = ErrorPolicy("retry", backoff=0.001, attempts=2, then="dead_letter", include_details=True)
    await pipeline(PlainList(), sink, on_error=policy, dead_letter=failed).run()
    [letter] = failed.records
    assert letter["error"]["message"] == "ValueError: no room for 1"
    assert letter["record"]["value"] == {"n": 1}
    assert letter["error"]["attempt"] > 1


async def test_a_dead_letter_sink_that_fails_ends_the_run(pipeline):
    class Broken(Plain):
        def write(self, record):
            raise OSError("the disk is full")

    with pytest.raises(FatalError, match="The sink Broken failed: OSError: the disk is full"):
        await pipeline(PlainList(), Plain(refuse={1}), dead_letter=Broken()).run()


# What is said.


@pytest.mark.parametrize("name", ["", "a b", "-a", "ä", "a" * 101, "a\n", None, 3])
def test_a_name_is_one_that_a_file_could_have(pipeline, name):
    with pytest.raises(ValueError, match="a pipeline's name has 1 to 100 letters") as caught:
        Pipeline(name, PlainList(), Plain())
    assert "\n" not in str(caught.value)


def test_settings_are_told_in_one_line():
    def told(stage, settings):
        with pytest.raises(ValueError, match=rf"^stage '{stage}': ") as caught:
            Pipeline("p", PlainList(), Plain()).add_stage(stage, settings)
        assert isinstance(caught.value, ConfigError)
        text = str(caught.value)
        assert "\n" not in text
        assert "pydantic" not in text
        return text.removeprefix(f"stage '{stage}': ")

    assert told("filter", {"were": "n > 1"}) == (
        "where is missing; were: there is no such setting, did you mean `where`?"
    )
    assert told("filter", "n >").startswith("where: this is not an expression: ")
    assert told("filter", None) == "where is missing"
    assert told("rate_limit", "many") == 'must be a rate such as "1000/s" or "600/1m", got \'many\''


def test_settings_of_sinks_and_kafka_are_told_in_one_line():
    with pytest.raises(ValueError, match=r"^sink 'file': pth: there is no such setting, did you mean `path`\?"):
        Pipeline("p", PlainList(), {"file": {"path": "x", "pth": "y"}})
    with pytest.raises(ValueError, match=r"^source 'file': ") as caught:
        Pipeline("p", {"file": {"path": 3}}, Plain())
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^kafka: bootstrp: there is no such setting, did you mean `bootstrap`"):
        Pipeline("p", PlainList(), Plain(), kafka={"bootstrap": "a:1", "bootstrp": "b:1"})
    with pytest.raises(ValueError, match=r"^kafka: settings must be a mapping, got 'a:9092'$"):
        Pipeline("p", PlainList(), Plain(), kafka="a:9092")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_error": "dead_letter"}, "give it as dead_letter=SINK"),
        ({"on_error": "skip", "dead_letter": "stdout"}, "nothing would go to this sink"),
        ({"on_error": ErrorPolicy("retry", then="dead_letter")}, "give it as dead_letter=SINK"),
    ],
)
def test_policy_and_dead_letter_sink_have_to_fit(pipeline, options, said):
    with pytest.raises(ValueError, match=said):
        pipeline(PlainList(), Plain(), **options)


async def test_a_run_that_fails_raises_and_prints_nothing(pipeline, capfd):
    with pytest.raises(FatalError, match=r"^pipeline 'forms': stage 'transform' failed on") as caught:
        await pipeline(PlainList(), Plain()).transform(lambda r: r["m"]).run()
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(FatalError):
        await pipeline(PlainList(), Plain(refuse={1})).run()
    with pytest.raises(FatalError):
        await pipeline(Nothing(), Plain()).run()
    assert capfd.readouterr() == ("", "")

"""How the engine looks at a source's records: a sample decoded apart, or all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from streamd.clock import SYSTEM_CLOCK
from streamd.codecs import JSON
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, SchemaDriftError
from streamd.record import SourceRecord
from streamd.runtime.drift import SourceDrift

PIPELINE = """
name: p
source:
  kafka: {topic: orders}
  schema_drift: DRIFT
sink: {discard: {}}
kafka: {bootstrap: "localhost:9092"}
"""
SCHEMA = "json_schema: {type: object, required: [id], properties: {id: {type: integer}}}"


def load(drift: str) -> Any:
    text = PIPELINE.replace("DRIFT", drift)
    return load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig())


class Source:
    """A source with `schema_drift`, and what was counted."""

    def __init__(self, drift: str) -> None:
        [component] = load(drift).sources
        self.decoded: list[bytes] = []
        codec = JSON.codec()
        decode = codec.decode

        def noted(value: Any) -> Any:
            self.decoded.append(value)
            return decode(value)

        codec.decode = noted
        self.drift = SourceDrift("p", component, codec, Path(), SYSTEM_CLOCK)
        self.counted: list[tuple[str, str]] = []
        self.asked = 0

    async def passed(self, *values: Any) -> tuple[list[int], list[tuple[int, Exception]]]:
        records = [
            SourceRecord(None, value if isinstance(value, bytes) else orjson.dumps(value), 0, at)
            for at, value in enumerate(values)
        ]
        passed, strays = await self.drift.passed(records, lambda *what: self.counted.append(what), self.learn)
        return [each.offset for each in passed], [(each.offset, error) for each, error in strays]

    async def learn(self) -> bool:
        self.asked += 1
        return self.asked == 1


async def test_first_it_learns_and_then_looks_at_the_last_of_each_batch():
    source = Source("{learn: 3}")
    assert await source.passed(*({"id": n} for n in range(10))) == (list(range(10)), [])
    assert [orjson.loads(value)["id"] for value in source.decoded] == [0, 1, 2, 9]
    source.decoded.clear()
    await source.passed(*({"id": n} for n in range(10)))
    assert [orjson.loads(value)["id"] for value in source.decoded] == [9]


async def test_a_larger_sample_is_spread_over_the_batch():
    source = Source("{learn: 1, sample: 4}")
    await source.passed({"id": 0})
    source.decoded.clear()
    await source.passed(*({"id": n} for n in range(8)))
    assert [orjson.loads(value)["id"] for value in source.decoded] == [1, 3, 5, 7]


async def test_a_change_is_counted_listed_and_logged_once():
    source = Source("{learn: 1}")
    with capture_logs() as logs:
        await source.passed({"id": 1})
        for _ in range(3):
            assert (await source.passed({"id": "secret-value"}))[0] == [0]
    [line] = logs
    assert (line["event"], line["log_level"], line["path"]) == ("Schema of a source changed", "warning", "id")
    assert "secret-value" not in str(logs)
    assert source.counted == [("source", "type_changed")]
    [change] = source.drift.news()
    assert (change.pipeline, change.source, change.kind, change.path) == ("p", "source", "type_changed", "id")
    assert (change.was, change.now) == ("integer", "text")
    assert source.drift.news() == []


async def test_ignore_counts_and_lists_but_logs_nothing():
    source = Source("{policy: ignore, learn: 1}")
    with capture_logs() as logs:
        await source.passed({"id": 1})
        await source.passed({"id": "x"})
    assert (logs, len(source.counted), len(source.drift.news())) == ([], 1, 1)


async def test_what_cannot_be_read_is_left_to_the_chain():
    source = Source("warn")
    assert (await source.passed(b"nonsense", b"[1]", {"id": 1}))[0] == [0, 1, 2]
    strict = Source(f"{{policy: fail, {SCHEMA}}}")
    assert await strict.passed(b"nonsense", {"id": 1}) == ([0, 1], [])


async def test_fail_stops_at_the_first_stray():
    passed, strays = await Source(f"{{policy: fail, {SCHEMA}}}").passed({"id": 1}, {"id": "x"}, {"id": 2})
    assert passed == [0]
    [(offset, error)] = strays
    assert (offset, type(error), error.action) == (1, SchemaDriftError, "fail")
    assert str(error) == "it does not fit the schema: /id: type; `id` is text, and was integer"


async def test_each_stray_says_what_is_new_in_it_by_name_and_never_what_it_holds():
    source = Source(f"{{policy: fail, {SCHEMA}}}")
    document = {"id": 1, "card": "4111", "more": {"x": 1}}
    for _ in range(2):
        [(_, error)] = (await source.passed(document))[1]
        assert str(error) == (
            "it does not fit the schema: /: additionalProperties; `card` has appeared (text); `more` has appeared "
            "(object)"
        )
    [(_, error)] = (await source.passed({}))[1]
    assert str(error) == "it does not fit the schema: /: required; `id` is missing (integer)"


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        ("quietly", "must be one of ignore, warn, fail, dead_letter"),
        ("fail", "needs a schema"),
        (f"{{policy: dead_letter, {SCHEMA}}}", "sends records to the dead letters, and the pipeline has none"),
        ("{learns: 3}", "unknown key `learns`"),
    ],
)
def test_mistakes_have_a_place(drift, said):
    with pytest.raises(ConfigError) as caught:
        load(drift)
    [problem] = caught.value.diagnostics
    assert said in problem.message
    assert problem.place.line in (4, 5)

"""What becomes of records that fail, over the embedded log: nothing is lost, and everything is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.inline_app import InlineApp
from streamd.errors import FatalError

STAGES = "stages:\n- filter: n != 0\n- set: {m: 10 / (n - 3)}\n"
GOOD = [{"n": n} for n in (0, 1, 2)]
BAD = {"n": 3}


@pytest.fixture
def app(tmp_path: Path) -> InlineApp:
    return InlineApp(tmp_path)


async def test_fail_stops_the_pipeline_with_place_and_commits_nothing_of_it(app: InlineApp) -> None:
    await app.seed([*GOOD, BAD, *GOOD])
    with pytest.raises(FatalError) as error:
        await app.run(STAGES)
    assert "p.yaml:6:3" in str(error.value)
    assert "'set' failed on the record at offset 3 of in, partition 0" in str(error.value)
    assert "division by zero" in str(error.value)
    assert await app.values() == []


async def test_after_a_fail_was_mended_everything_comes_out_once(app: InlineApp) -> None:
    await app.seed([*GOOD, BAD])
    with pytest.raises(FatalError):
        await app.run(STAGES)
    await app.run(STAGES.replace("n - 3", "n - 4"))
    assert [v["n"] for v in await app.values()] == [1, 2, 3]


async def test_skip_leaves_only_the_record_out_and_counts_it(app: InlineApp) -> None:
    await app.seed([*GOOD, BAD, b"{", *GOOD])
    await app.run(STAGES + "on_error: skip\n")
    assert [v["n"] for v in await app.values()] == [1, 2, 1, 2]
    assert app.total("streamd_skipped_records_total") == 2
    assert app.total("streamd_failed_records_total", phase="transform") == 1
    assert app.total("streamd_failed_records_total", phase="extract") == 1
    assert app.total("streamd_stage_filtered_records_total") == 2
    assert app.total("streamd_source_records_total") == 8


async def test_dead_letter_keeps_the_record_and_says_where_and_why(app: InlineApp) -> None:
    await app.seed([*GOOD, BAD, b"not json", None])
    await app.run(STAGES + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    assert [v["n"] for v in await app.values()] == [1, 2]
    dead = await app.records("dlq")
    assert [r.value for r in dead] == [b'{"n":3}', b"not json", None]
    assert [r.key for r in dead] == [b"k3", b"k4", b"k5"]
    headers = [dict(r.headers) for r in dead]
    assert headers[0] == {
        "h": b"1",
        "streamd.pipeline": b"p",
        "streamd.stage": b"set",
        "streamd.phase": b"transform",
        "streamd.error": b"TransformError",
        "streamd.message": b"division by zero",
        "streamd.topic": b"in",
        "streamd.partition": b"0",
        "streamd.offset": b"3",
        "streamd.time": headers[0]["streamd.time"],
        "streamd.attempt": b"1",
        "streamd.entry": b"source",
    }
    assert headers[1]["streamd.phase"] == b"extract"
    assert b"not JSON" in headers[1]["streamd.message"]
    assert b"tombstone" in headers[2]["streamd.message"]
    assert app.total("streamd_dead_letter_records_total") == 3


async def test_dead_letter_to_a_file_is_an_envelope(app: InlineApp) -> None:
    await app.seed([BAD])
    await app.run(STAGES + f"on_error: {{dead_letter: {{file: {{path: {app.folder}/dead.ndjson}}}}}}\n")
    import orjson

    [envelope] = [orjson.loads(line) for line in (app.folder / "dead.ndjson").read_bytes().splitlines()]
    assert envelope["record"] == {"key": "k0", "value": {"n": 3}}
    assert envelope["error"]["message"] == "division by zero"
    assert envelope["error"]["offset"] == 0


async def test_messages_are_free_of_contents_unless_asked_for(app: InlineApp) -> None:
    secret = "4111-1111"
    await app.seed([{"card": secret}])
    stages = "stages:\n- set: {n: int(card)}\n"
    await app.run(stages + "on_error: {dead_letter: {log: {topic: dlq}}}\n")
    message = dict((await app.records("dlq"))[0].headers)["streamd.message"]
    assert secret.encode() not in message
    await app.seed([{"card": secret}])
    with pytest.raises(FatalError) as error:
        await app.run(stages)
    assert secret not in str(error.value)


async def test_a_stages_own_policy_goes_before_the_pipelines(app: InlineApp) -> None:
    await app.seed([BAD, b"{"])
    await app.run("stages:\n- {set: {m: 10 / (n - 3)}, on_error: skip}\non_error: {dead_letter: {log: {topic: dlq}}}\n")
    assert [r.value for r in await app.records("dlq")] == [b"{"]
    assert app.total("streamd_skipped_records_total") == 1


async def test_error_threshold_stops_the_pipeline(app: InlineApp) -> None:
    await app.seed([*GOOD * 10, *[BAD] * 30])
    with pytest.raises(FatalError, match=r"30 of the last 60 records failed"):
        await app.run(STAGES + "on_error: skip\nerror_threshold: {rate: 0.4, window: 1m, min_records: 50}\n")
    assert await app.values() == []


PYTHON = """
import asyncio

class Flaky:
    def __init__(self, times):
        self.times, self.seen = times, {}

    async def process(self, batch):
        for record in batch:
            n = record.value["n"]
            self.seen[n] = self.seen.get(n, 0) + 1
            if n == 2 and self.seen[n] <= self.times:
                raise RuntimeError("4111-1111")
            record.value["m"] = n * 10
        return [record for record in batch if record.value["n"] != 1]
"""


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_retry_keeps_order_in_a_python_stage(app: InlineApp, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"flaky_{times}"
    (app.folder / f"{module}.py").write_text(PYTHON)
    monkeypatch.syspath_prepend(str(app.folder))
    await app.seed([{"n": n} for n in range(5)])
    await app.run(
        f'stages:\n- python: {{class: "{module}:Flaky", options: {{times: {times}}}}}\n'
        "on_error: {retry: {backoff: 1ms, max_backoff: 2ms, deadline: 10s}}\n"
    )
    assert await app.values() == [{"n": n, "m": n * 10} for n in (0, 2, 3, 4)]


async def test_retry_used_up_goes_to_then(app: InlineApp) -> None:
    await app.seed([{"n": 1}, BAD, {"n": 2}])
    await app.run(
        STAGES
        + "on_error: {retry: {backoff: 1ms, attempts: 3, deadline: 10s, then: {dead_letter: {log: {topic: dlq}}}}}\n"
    )
    assert [v["n"] for v in await app.values()] == [1, 2]
    [dead] = await app.records("dlq")
    assert dict(dead.headers)["streamd.attempt"] == b"3"
    assert app.total("streamd_retries_total") == 2


async def test_counts_add_up(app: InlineApp) -> None:
    values: list[Any] = [{"n": i % 5} for i in range(1000)]
    await app.seed(values)
    await app.run(STAGES + "on_error: skip\n")
    out = len(await app.values())
    read = app.total("streamd_source_records_total")
    assert read == 1000
    assert out == app.total("streamd_sink_records_total") == 600
    assert app.total("streamd_stage_filtered_records_total") == 200
    assert app.total("streamd_failed_records_total") == 200
    assert app.total("streamd_stage_input_records_total", stage="set") == 800


async def test_each_of_many_rows_that_a_sink_refuses_is_traced_to_its_record(app: InlineApp) -> None:
    await app.seed([{"n": n} if n % 2 else {"n": n, "unknown": 1} for n in range(1000)])
    await app.run(
        "name: p\nsource: {log: {topic: in}}\nstages:\n- filter: n % 5 != 0\n"
        'sink: {file: {path: "out.csv", format: csv, columns: [n]}}\n'
        "on_error: {dead_letter: {log: {topic: dlq}}}\n"
    )
    refused = [n for n in range(0, 1000, 2) if n % 5]
    assert [record.key for record in await app.records("dlq")] == [b"k%d" % n for n in refused]

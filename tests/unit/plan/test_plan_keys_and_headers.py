"""Keys and headers with formats in compiled chains: decoded where they are used, encoded at the sinks, refused where
nobody could tell what they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError, ExtractError, LoadError, TransformError
from streamd.plan.graph import build_plan
from streamd.record import Passed, SourceRecord
from streamd.runtime.assembly import Assembly

AVRO_LONG, AVRO_TEXT = "{avro: {schema: long}}", "{avro: {schema: string}}"
FIVE = b"\x0a"  # as an Avro long


async def compiled(text: str, folder: Path) -> dict[str, Any]:
    """The chains of a pipeline, by their entries."""
    config = load_pipeline_text(f"name: p\n{text}", folder / "p.yaml", Registry.default(), {}, ServiceConfig())
    assembly = Assembly(build_plan(config), PipelineContext("app", "p", folder, folder, config.kafka))
    await assembly.open()
    chains = {entry: chain for (_, entry), chain in assembly.chains.items()}
    await assembly.close()
    return chains


async def chain_of(folder: Path, source: str = "", stages: str = "", sink: str = "", sinks: str = "") -> Any:
    ends = f"sinks:\n{sinks}" if sinks else f"sink: {{log: {{topic: out{sink}}}}}\n"
    listed = f"stages:\n{stages}" if stages else ""
    return (await compiled(f"source: {{log: {{topic: in{source}}}}}\n{listed}{ends}", folder))["source"]


def run(chain: Any, *records: SourceRecord, times: list[int] | None = None) -> tuple[list[Any], list[Any]]:
    outs: list[list[Any]] = [[] for _ in chain.targets]
    failed: list[Any] = []
    chain.function(list(records), 0, failed, *([times] if times else []), *outs)
    return outs[0] if len(outs) == 1 else outs, failed


def record(key: bytes | None = b"k", value: Any = None, headers: Any = (), offset: int = 0) -> SourceRecord:
    return SourceRecord(key, json.dumps({"n": 1} if value is None else value).encode(), 5, offset, headers)


def tombstone(key: bytes | None) -> SourceRecord:
    return SourceRecord(key, None, 5, 0, ())


# Nothing is paid where nothing is asked.


async def test_text_as_the_format_is_the_same_code_as_no_format(tmp_path: Path) -> None:
    stages = "- filter: _key != 'x' and get(_headers.h) != 1\n"
    without = await chain_of(tmp_path, stages=stages, sink=", key: n")
    with_text = await chain_of(
        tmp_path, ", key_format: text, header_formats: {h: text}", stages, ", key: n, key_format: text"
    )
    assert without.source == with_text.source


async def test_a_chain_that_does_not_use_the_key_is_the_same_code_as_without_a_format(tmp_path: Path) -> None:
    plain = await chain_of(tmp_path, stages="- filter: n > 0\n")
    keyed = await chain_of(
        tmp_path, f", key_format: {AVRO_LONG}, header_formats: {{a: json}}", "- filter: n > 0\n",
        f", key_format: {AVRO_LONG}",
    )  # fmt: skip
    assert plain.source == keyed.source
    rows, failed = run(keyed, record(b"no Avro"))
    assert not failed
    assert rows[0][0] == b"no Avro"


async def test_only_headers_that_are_read_are_decoded(tmp_path: Path) -> None:
    chain = await chain_of(
        tmp_path, ", header_formats: {a: json, b: json}", "- set: {x: _headers.a.x, has: \"'b' in _headers\"}\n"
    )
    rows, failed = run(chain, record(headers=[("a", b'{"x":3}'), ("b", b"{")]))
    assert not failed
    assert json.loads(rows[0][1]) == {"n": 1, "x": 3, "has": True}
    whole = await chain_of(tmp_path, ", header_formats: {a: json, b: json}", "- set: {x: _headers}\n")
    _, [(_, error)] = run(whole, record(headers=[("a", b'{"x":3}'), ("b", b"{")]))
    assert isinstance(error, ExtractError)
    assert str(error).startswith("the record's header `b`: not valid JSON")


# What comes.


async def test_the_key_in_expressions_is_the_decoded_one(tmp_path: Path) -> None:
    chain = await chain_of(
        tmp_path, ", key_format: json", "- filter: _key.shop > 1\n- set: {k: _key, u: get(_key.user)}\n"
    )
    rows, failed = run(chain, record(b'{"shop": 2}'), record(b'{"shop":1}'))
    assert not failed
    assert [(row[0], json.loads(row[1])) for row in rows] == [(b'{"shop":2}', {"n": 1, "k": {"shop": 2}, "u": None})]


async def test_a_key_that_cannot_be_read_is_an_error_of_what_was_read(tmp_path: Path) -> None:
    chain = await chain_of(tmp_path, ", key_format: json", "- filter: n > 0\n- set: {k: _key}\n")
    rows, [(failed, error)] = run(chain, record(b"{", offset=7), record(b"1"), record(b"{", {"n": 0}))
    assert len(rows) == 1
    assert failed.offset == 7
    assert failed.key == b"{"
    assert isinstance(error, ExtractError)
    assert chain.owner_of(error) == "source"


async def test_event_time_may_be_of_the_key(tmp_path: Path) -> None:
    chain = await chain_of(tmp_path, ", key_format: json, event_time: {field: _key.at}")
    rows, _ = run(chain, record(b'{"at": 1700000000000}'))
    assert rows[0][2] == 1700000000000


# What goes.


@pytest.mark.parametrize(
    ("read", "write", "came", "goes"),
    [
        ("text", "text", b"\xff", b"\xff"),
        ("text", "json", b"ada", b'"ada"'),
        ("text", AVRO_TEXT, b"ada", b"\x06ada"),
        ("json", "json", b'{ "b":1, "a":2}', b'{ "b":1, "a":2}'),
        ("json", "text", b'"ada"', b"ada"),
        ("json", "text", b'{"b":1, "a":2}', b'{"a":2,"b":1}'),
        ("json", "{msgpack: {}}", b"[1]", b"\x91\x01"),
        (AVRO_LONG, AVRO_LONG, FIVE, FIVE),
        (AVRO_LONG, "text", FIVE, b"5"),
        (AVRO_LONG, "json", FIVE, b"5"),
        (AVRO_LONG, "bytes", FIVE, FIVE),
        ("bytes", "text", b"ada", b"ada"),
        ("text", "bytes", b"\xff", b"\xff"),
        ("json", AVRO_LONG, None, None),
        ("json", AVRO_LONG, b"null", None),
    ],
)
async def test_a_key_goes_on_as_its_bytes_or_is_written_anew(
    tmp_path: Path, read: str, write: str, came: bytes | None, goes: bytes | None
) -> None:
    chain = await chain_of(tmp_path, f", key_format: {read}, tombstones: forward", sink=f", key_format: {write}")
    rows, failed = run(chain, record(came), tombstone(came))
    assert not failed
    assert [row[0] for row in rows] == [goes, goes]
    assert rows[1][1] is None


async def test_what_key_says_is_written_in_the_sinks_format(tmp_path: Path) -> None:
    chain = await chain_of(tmp_path, sink=f", key: n * 5, key_format: {AVRO_LONG}")
    rows, [(_, error)] = run(chain, record(), record(value={"n": "x"}))
    assert rows[0][0] == FIVE
    assert isinstance(error, LoadError)
    assert str(error) == "the record's key does not fit the Avro schema: expected a long, got text"


async def test_a_key_of_key_by_is_text(tmp_path: Path) -> None:
    chain = await chain_of(
        tmp_path, ", key_format: json", "- key_by: _key.shop\n- set: {k: _key}\n", ", key_format: json"
    )
    rows, failed = run(chain, record(b'{"shop": 2}'))
    assert not failed
    assert rows[0][0] == b'"2"'
    assert json.loads(rows[0][1]) == {"n": 1, "k": "2"}


async def test_headers_are_written_in_the_sinks_formats(tmp_path: Path) -> None:
    chain = await chain_of(
        tmp_path, ", header_formats: {a: json}",
        sink=", headers: {b: _headers.a, plain: _headers.a}, header_formats: {b: {msgpack: {}}}",
    )  # fmt: skip
    rows, _ = run(chain, record(headers=[("a", b'{"x":1}')]))
    assert rows[0][3] == (("a", b'{"x":1}'), ("b", msgspec.msgpack.encode({"x": 1})), ("plain", b'{"x":1}'))


async def test_several_sinks_have_the_key_each_in_its_format(tmp_path: Path) -> None:
    json_sink = "- {id: a, log: {topic: a, key_format: json}}\n"
    sinks = f"{json_sink}- {{id: b, log: {{topic: b, key_format: {AVRO_TEXT}}}}}\n- stdout: {{}}\n"
    chain = await chain_of(tmp_path, ", key_format: json", sinks=sinks)
    (a, b, shown), [(_, error)] = run(chain, record(b'"ada"'), record(b"5"))
    assert [row[0] for rows in (a, b, shown) for row in rows] == [b'"ada"', b"\x06ada", b'"ada"']
    assert isinstance(error, LoadError)
    assert chain.owner_of(error) == "b"


# Through batch stages and exchanges.

BATCH = "- rate_limit: 100\n"


async def test_behind_a_batch_stage_the_key_is_still_its_sources(tmp_path: Path) -> None:
    source = "source: {log: {topic: in, key_format: json, header_formats: {a: json}}}\n"
    chains = await compiled(
        f"{source}stages:\n{BATCH}- set: {{k: _key.x, h: _headers.a.y}}\nsink: {{log: {{topic: out}}}}\n", tmp_path
    )
    [batch], _ = run(chains["source"], record(b'{"x":1}', headers=[("a", b'{"y":2}')]))
    assert batch.key == b'{"x":1}'
    rows, failed = run(chains["rate_limit"], batch)
    assert not failed
    assert json.loads(rows[0][1]) == {"n": 1, "k": 1, "h": 2}


TWO = """
sources:
- {{id: a, log: {{topic: a, {a}}}}}
- {{id: b, log: {{topic: b, {b}}}}}
stages:
- {{rate_limit: 100, from: [a, b]}}
"""
OUT = "sink: {log: {topic: out}}\n"


@pytest.mark.parametrize(
    ("a", "b", "then", "message"),
    [
        (
            "key_format: json",
            "key_format: text",
            "- set: {k: _key}\nsink: {log: {topic: out}}\n",
            "whose `key_format` is not the same",
        ),
        (
            "key_format: json",
            "key_format: {msgpack: {}}",
            "sink: {log: {topic: out}}\n",
            "whose `key_format` is not the same",
        ),
        (
            "header_formats: {x: json}",
            "start: latest",
            "- set: {k: _headers.x}\nsink: {log: {topic: out}}\n",
            "whose `header_formats.x` is not the same",
        ),
    ],
)
async def test_keys_of_which_nobody_could_tell_the_format_are_refused(
    tmp_path: Path, a: str, b: str, then: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await compiled(TWO.format(a=a, b=b) + then, tmp_path)
    [problem] = caught.value.diagnostics
    assert message in problem.message
    assert problem.place.line >= 7


async def test_where_nobody_asks_for_the_key_sources_may_differ(tmp_path: Path) -> None:
    ends = "sinks:\n- {id: c, log: {topic: c, key: n}}\n- {id: d, log: {topic: d, key_format: bytes}}\n"
    assert await compiled(TWO.format(a="key_format: json", b="start: latest") + ends, tmp_path)
    same = TWO.format(a="key_format: json", b="key_format: json")
    assert await compiled(f"{same}- set: {{k: _key}}\nsink: {{log: {{topic: out}}}}\n", tmp_path)


EXCHANGED = """
source: {{log: {{topic: in, partitions: 2, key_format: json{more}}}}}
stages:
{stages}sink: {{log: {{topic: out{sink}}}}}
"""


async def test_behind_an_exchange_that_was_put_in_the_key_is_refused(tmp_path: Path) -> None:
    stages = "- aggregate: {by: {u: _key.user}, values: {n: count()}}\n"
    with pytest.raises(ConfigError) as caught:
        await compiled(EXCHANGED.format(more="", stages=stages, sink=""), tmp_path)
    assert "take it into the document first" in caught.value.diagnostics[0].message


async def test_headers_keep_their_formats_through_an_exchange(tmp_path: Path) -> None:
    text = EXCHANGED.format(
        more=", header_formats: {a: json}", stages="- key_by: _key.user\n- set: {h: _headers.a.x, k: _key}\n", sink=""
    )
    chains = await compiled(text, tmp_path)
    rows, _ = run(chains["source"], record(b'{"user": "ada"}', headers=[("a", b'{"x":1}')]))
    assert rows[0][0] == b"ada"
    moved = SourceRecord(*rows[0][:3], 0, rows[0][3])
    rows, failed = run(chains["key_by.read"], moved)
    assert not failed
    assert json.loads(rows[0][1]) == {"n": 1, "h": 1, "k": "ada"}


async def test_an_aggregates_key_is_written_in_the_sinks_format(tmp_path: Path) -> None:
    source = "source: {log: {topic: in, key_format: json}}\n"
    stages = "stages:\n- aggregate: {by: {u: _key.user}, values: {n: count()}}\n"
    chains = await compiled(f"{source}{stages}sink: {{log: {{topic: out, key_format: {AVRO_TEXT}}}}}\n", tmp_path)
    rows, failed = run(chains["aggregate"], SourceRecord(b"ada", {"u": "ada", "n": 1}, 5, 0), times=[0, 0, 1 << 60])
    assert not failed
    assert rows[0][0] == b"\x06ada"


# Records without a value.

JOIN = """
sources:
- {{id: orders, log: {{topic: orders, {more}event_time: ts}}}}
- {{id: users, log: {{topic: users, {more}key_format: json, tombstones: forward, event_time: ts}}}}
stages:
- join: {{left: orders, right: {{table: users}}, on: {{left: user, right: id}}}}
sink: {{log: {{topic: out}}}}
"""


@pytest.mark.parametrize(
    ("key", "wanted"), [(b"5", b"5"), (b'"ada"', b"ada"), (b'{"id":5}', b"5"), (b'{"id":"ada","x":1}', b"ada")]
)
async def test_a_tombstones_key_deletes_the_row_of_that_key(tmp_path: Path, key: bytes, wanted: bytes) -> None:
    alone = await compiled(JOIN.format(more=""), tmp_path)
    rows, failed = run(alone["users"], tombstone(key), times=[0, 0, 1 << 60])
    assert not failed
    assert wanted in rows[0]
    moved = await compiled(JOIN.format(more="partitions: 2, "), tmp_path)
    rows, failed = run(moved["users"], tombstone(key), times=[0, 0, 1 << 60])
    assert not failed
    assert rows[0][0] == wanted


async def test_a_tombstone_whose_key_lacks_the_field_is_an_error(tmp_path: Path) -> None:
    chains = await compiled(JOIN.format(more=""), tmp_path)
    _, [(_, error), (_, broken)] = run(chains["users"], tombstone(b"{}"), tombstone(b"{"), times=[0, 0, 1 << 60])
    assert isinstance(error, TransformError)
    assert "has no `id`" in str(error)
    assert isinstance(broken, ExtractError)


async def test_tombstones_with_keys_of_another_format_than_others_are_refused(tmp_path: Path) -> None:
    source = "source: {log: {topic: in, key_format: json, tombstones: forward}}\n"
    text = f"{source}stages:\n- aggregate: {{by: n, values: {{c: count()}}}}\n{OUT}"
    with pytest.raises(ConfigError) as caught:
        await compiled(text, tmp_path)
    assert "`tombstones: drop`" in caught.value.diagnostics[0].message


# Partitions.


async def test_partitioned_by_does_not_hold_for_a_join_where_keys_are_no_text(tmp_path: Path) -> None:
    def text(form: str) -> str:
        return (
            f"sources:\n- {{id: a, log: {{topic: a, partitions: 2, partitioned_by: u, key_format: {form}}}}}\n"
            "- {id: b, log: {topic: b, partitions: 2, partitioned_by: u}}\n"
            "stages:\n- join: {left: a, right: b, on: u, within: 1m}\nsink: {log: {topic: out}}\n"
        )

    assert set(await compiled(text("text"), tmp_path)) == {"a", "b", "join"}
    assert set(await compiled(text("json"), tmp_path)) == {"a", "b", "join.left.key_by.read", "join"}


async def test_behind_an_exchange_that_was_put_in_a_sink_with_a_format_needs_a_key(tmp_path: Path) -> None:
    stages = "- set: {u: _key.user}\n- dedupe: {by: u, within: 1m}\n"
    with pytest.raises(ConfigError) as caught:
        await compiled(EXCHANGED.format(more="", stages=stages, sink=", key_format: json"), tmp_path)
    assert "take it into the document first" in caught.value.diagnostics[0].message
    chains = await compiled(EXCHANGED.format(more="", stages=stages, sink=", key: u, key_format: json"), tmp_path)
    rows, failed = run(chains["dedupe"], Passed(b'{"u": "ada"}', b"ada", 5), times=[0, 0, 1 << 60])
    assert not failed
    assert rows[0][0] == b'"ada"'


async def test_partitioned_by_does_not_hold_for_two_sources_where_keys_are_no_text(tmp_path: Path) -> None:
    def text(form: str) -> str:
        by = "partitions: 2, partitioned_by: u"
        return (
            f"sources:\n- {{id: a, log: {{topic: a, {by}, key_format: {form}}}}}\n"
            f"- {{id: b, log: {{topic: b, {by}}}}}\n"
            "stages:\n- {from: [a, b], filter: u != null}\n- aggregate: {by: u, values: {n: count()}}\n" + OUT
        )

    assert set(await compiled(text("text"), tmp_path)) == {"a", "b", "aggregate"}
    assert "aggregate.key_by.read" in await compiled(text("json"), tmp_path)
    alone = "source: {log: {topic: a, partitions: 2, partitioned_by: u, key_format: json}}\n"
    chains = await compiled(f"{alone}stages:\n- aggregate: {{by: u, values: {{n: count()}}}}\n{OUT}", tmp_path)
    assert set(chains) == {"source", "aggregate"}

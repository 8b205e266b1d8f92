"""Keys and headers with formats through whole pipelines, as cases run them: tables, joins, own code, late records."""

from __future__ import annotations

from pathlib import Path

import pytest

LONG_KEY = "key_format: {avro: {registry: true}}"

OWN = """\
name: own
source: {log: {topic: orders, key_format: json, header_formats: {trace: json}}}
stages:
  - python: own:Marking
  - set: {customer: _key.customer, span: _headers.trace.span}
sink: {log: {topic: marked, key_format: json, headers: {trace: _headers.trace}, header_formats: {trace: {msgpack: {}}}}}
on_error: {dead_letter: {log: {topic: failed}}}
"""
MARKING = """\
import orjson


class Marking:
    def process(self, batch):
        for record in batch:
            record.value["raw"] = record.key.decode()
            if record.value.get("rename"):
                record.key = orjson.dumps({"customer": "renamed"})
        return batch
"""


def test_own_code_sees_bytes_and_what_is_behind_it_the_decoded_key(attempt, messages, tmp_path: Path):
    (tmp_path / "own.py").write_text(MARKING)
    cases = """\
cases:
  one:
    - input:
        - {key: {customer: ada}, value: {n: 1}, headers: {trace: {span: 7}}}
        - {key: {customer: ada}, value: {n: 2, rename: true}, headers: {trace: {span: 8}}}
    - expect:
        - key: {customer: ada}
          value: {n: 1, raw: '{"customer":"ada"}', customer: ada, span: 7}
          headers: {trace: {span: 7}}
        - key: {customer: renamed}
          value: {n: 2, rename: true, raw: '{"customer":"ada"}', customer: renamed, span: 8}
"""
    result = attempt(cases, OWN)
    assert messages(result) == []


TABLE = """\
name: table
sources:
  - id: users
    log: {topic: users, KEY}
    table: TABLE
  - id: orders
    log: {topic: orders, KEY}
stages:
  - {from: orders, enrich: {table: users, key: LOOKUP, as: user, missing: "null"}}
sink: {log: {topic: out}}
"""


@pytest.mark.parametrize(
    ("key", "table", "lookup", "five", "six"),
    [
        ("key_format: json", "{}", "_key", "5", "6"),
        (LONG_KEY, "{}", "_key", "5", "6"),
        ("key_format: json", "id", "_key.id", "{id: 5}", "{id: 6}"),
        (LONG_KEY, "id", "_key.id", "{id: 5}", "{id: 6}"),
    ],
)
def test_rows_of_a_table_are_found_and_deleted_by_the_decoded_key(attempt, messages, key, table, lookup, five, six):
    cases = f"""\
cases:
  one:
    - input:
        users:
          - {{key: {five}, value: {{id: 5, name: ada}}}}
          - {{key: {six}, value: {{id: 6, name: bob}}}}
        orders: [{{key: {five}, value: {{n: 1}}}}, {{key: {six}, value: {{n: 2}}}}]
    - expect: {{records: [{{n: 1, user: {{id: 5, name: ada}}}}, {{n: 2, user: {{id: 6, name: bob}}}}]}}
    - input: {{users: [{{key: {five}, value: null}}]}}
    - input: {{orders: [{{key: {five}, value: {{n: 3}}}}, {{key: {six}, value: {{n: 4}}}}]}}
    - expect: {{records: [{{n: 3, user: null}}, {{n: 4, user: {{id: 6, name: bob}}}}]}}
"""
    pipeline = TABLE.replace("KEY", key).replace("TABLE", table).replace("LOOKUP", lookup)
    assert messages(attempt(cases, pipeline)) == []


JOIN = """\
name: joined
sources:
  - {id: orders, log: {topic: orders, partitions: 2, event_time: ts}}
  - {id: users, log: {topic: users, partitions: 2, KEY, tombstones: forward, event_time: ts}}
stages:
  - join:
      left: orders
      right: {table: users}
      type: left
      on: {left: user, right: id}
      fields: {n: left.n, name: get(right.name)}
sink: {log: {topic: out, key: n, key_format: json}}
"""


@pytest.mark.parametrize("key", ["key_format: json", LONG_KEY])
def test_a_tombstone_deletes_the_row_of_a_join_through_an_exchange(attempt, messages, key):
    cases = """\
cases:
  one:
    - input: {users: [{key: {id: 5}, value: {id: 5, name: ada, ts: 1000}}]}
    - input: {orders: [{value: {n: 1, user: 5, ts: 2000}}]}
    - expect: [{key: 1, value: {n: 1, name: ada}}]
    - input: {users: [{key: {id: 5}, value: null, timestamp: 3000}]}
    - input: {orders: [{value: {n: 2, user: 5, ts: 4000}}]}
    - expect: [{key: 2, value: {n: 2, name: null}}]
"""
    assert messages(attempt(cases, JOIN.replace("KEY", key))) == []


LATE = f"""\
name: late
source: {{log: {{topic: orders, event_time: ts, {LONG_KEY}}}}}
stages:
  - window: {{by: user, tumbling: 10s, aggregate: {{n: count()}}, late: {{log: {{topic: late, key_format: json}}}}}}
sink: {{log: {{topic: counts, key_format: json}}}}
"""


def test_a_late_record_has_its_key_in_the_format_of_its_sink(attempt, messages):
    cases = """\
cases:
  one:
    - input:
        - {key: 1, value: {user: ada, ts: 1000}}
        - {key: 2, value: {user: ada, ts: 90000}}
        - {key: 3, value: {user: ada, ts: 2000}}
    - expect:
        sink: [{key: ada, value: {user: ada, n: 1, window_start: 0, window_end: 10000}}]
        window_late: [{key: 3, value: {user: ada, ts: 2000}}]
        late: {window: 1}
"""
    assert messages(attempt(cases, LATE)) == []


KEPT = f"""\
name: kept
source: {{log: {{topic: orders, {LONG_KEY}, event_time: ts}}}}
stages:
  - set: {{k: _key}}
  - dedupe: {{by: k, within: 1m}}
  - filter: _key > 0
sink: {{log: {{topic: out, key_format: {{avro: {{registry: true, schema: long}}}}}}}}
on_error: {{dead_letter: {{log: {{topic: failed}}}}}}
"""


def test_a_stage_that_keeps_keys_keeps_their_format_also_after_a_crash(attempt, messages):
    cases = """\
cases:
  one:
    - input: [{key: 5, value: {ts: 1000}}, {key: 5, value: {ts: 1100}}, {key: -5, value: {ts: 1100}}]
    - crash
    - input: [{key: 6, value: {ts: 1200}}, {key: 5, value: {ts: 1300}}, {key: {base64: AAAAAAlh}, value: {ts: 1300}}]
    - expect:
        sink: [{key: 5, value: {ts: 1000, k: 5}}, {key: 6, value: {ts: 1200, k: 6}}]
        dead_letters:
          - {component: source, error: ExtractError, message: "the record's key: the schema registry has no"}
"""
    assert messages(attempt(cases, KEPT)) == []


def test_a_key_of_a_case_that_is_none_of_its_source_is_told_where_it_stands(attempt):
    pipeline = "name: p\nsource: {log: {topic: in, key_format: {avro: {schema: long}}}}\nsink: {log: {topic: out}}\n"
    result = attempt("cases:\n  one:\n    - input: [{key: text, value: {}}]\n    - expect: 0\n", pipeline)
    [problem] = result.problems
    assert "the key is not of its format: the document does not fit the Avro schema" in problem.message
    assert problem.place.line == 3


MOVED = f"""\
name: moved
source: {{log: {{topic: in, partitions: 2, {LONG_KEY}, header_formats: {{trace: {{avro: {{registry: true}}}}}}}}}}
stages:
  - set: {{user: _key.user}}
  - aggregate: {{by: user, values: {{n: count(), last: last(_headers.trace.span)}}}}
sink: {{log: {{topic: out, key_format: {{avro: {{registry: true, schema: string}}}}}}}}
"""


def test_headers_of_a_registry_go_through_an_exchange(attempt, messages):
    cases = """\
cases:
  one:
    - input:
        - {partition: 0, key: {user: ada}, value: {}, headers: {trace: {span: 1}}}
        - {partition: 1, key: {user: ada}, value: {}, headers: {trace: {span: 1}}}
    - expect:
        - {key: ada, value: {user: ada, n: 1, last: 1}}
        - {key: ada, value: {user: ada, n: 2, last: 1}}
"""
    assert messages(attempt(cases, MOVED)) == []

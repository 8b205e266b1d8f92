"""The stage `enrich`."""

from __future__ import annotations

import pytest

from streamd.errors import FatalError, NotFoundError

CSV = "id,name,country\n1,Ada,GB\n2,Bo,SE\ntrue,Yes,XX\n"
JSON = '[{"id": 1, "name": "Ada", "tags": ["a"]}, {"id": "2", "name": "Bo"}, {"id": true, "name": "Yes"}]'


@pytest.fixture
def table(app):
    def write(name, text):
        data = text if isinstance(text, bytes) else text.encode()
        (app.folder / name).write_bytes(data)

    return write


@pytest.fixture
async def enriched(table, through):
    async def run(settings, *values, name="users.csv", text=CSV, more=""):
        table(name, text)
        return await through(f"stages:\n- enrich: {{file: {name}, {settings}}}\n{more}", *values)

    return run


async def test_csv_as_a_field(enriched):
    out = await enriched("key: user, match: id, as: u", {"user": 1}, {"user": "2"}, {"user": 2.0}, {"user": True})
    assert [v["u"] for v in out] == [
        {"id": "1", "name": "Ada", "country": "GB"},
        {"id": "2", "name": "Bo", "country": "SE"},
        {"id": "2", "name": "Bo", "country": "SE"},
        {"id": "true", "name": "Yes", "country": "XX"},
    ]


async def test_without_as_the_columns_are_set_but_not_the_keys(enriched):
    assert await enriched("key: user, match: id", {"user": 1}) == [{"user": 1, "name": "Ada", "country": "GB"}]
    with pytest.raises(FatalError, match="has no column 'nmae': it has id, name, country"):
        await enriched("key: user, match: id, fields: [nmae]", {"user": 1})


async def test_some_fields_into_an_object(enriched):
    out = await enriched("key: user, match: id, fields: [name], as: a.b", {"user": 1, "a": {"c": 1}})
    assert out == [{"user": 1, "a": {"c": 1, "b": {"name": "Ada"}}}]


async def test_csv_without_a_header_and_with_quotes_and_blank_lines(enriched):
    out = await enriched("key: k, match: key, columns: [key, value]", {"k": "a"}, {"k": "b,c"},
                         text='a,1\r\n\r\n"b,c","2 ""x"""\r\n')  # fmt: skip
    assert [v["value"] for v in out] == ["1", '2 "x"']


@pytest.mark.parametrize(("name", "text"), [("u.json", JSON), ("u.ndjson", JSON[1:-1].replace("}, {", "}\n\n{"))])
async def test_json_keeps_types(enriched, name, text):
    """1 and 1.0 are the same key; text and booleans are others."""
    values = [{"user": key} for key in (1, 1.0, True, "1", 2, "2")]
    out = await enriched("key: user, match: id, as: u, missing: null", *values, name=name, text=text)
    names = [v["u"] and v["u"]["name"] for v in out]
    assert names == ["Ada", "Ada", "Yes", None, None, "Bo"]
    assert out[0]["u"]["tags"] == ["a"]
    assert out[5]["u"]["tags"] is None


@pytest.mark.parametrize("key", [9, "x", None])
async def test_missing_is_an_error_of_the_record(enriched, app, key):
    with pytest.raises(FatalError, match=r"'enrich' failed .* the key is not in the table users.csv"):
        await enriched("key: user, match: id", {"user": key})
    assert await app.values() == []


async def test_missing_null(enriched):
    out = await enriched("key: user, match: id, missing: null", {"user": 1}, {"user": 9})
    assert out[1] == {"user": 9, "name": None, "country": None}


async def test_missing_drop_counts_as_filtered(enriched, app):
    out = await enriched("key: user, match: id, missing: drop", {"user": 9}, {"user": 2}, {"user": None})
    assert [v["name"] for v in out] == ["Bo"]
    assert app.total("streamd_stage_filtered_records_total", stage="enrich") == 2


async def test_a_key_that_is_no_key_is_an_error(enriched):
    with pytest.raises(FatalError, match=r"the key for the table users\.csv must be text or a number, got a list"):
        await enriched("key: user, match: id, missing: drop", {"user": [1]})


async def test_what_later_stages_do_does_not_reach_the_table(enriched, app):
    (app.folder / "change_rows.py").write_text(
        "def add(batch):\n    for r in batch:\n        r.value['u']['tags'].append('x')\n"
        "        r.value['u']['n'] = 1\n    return batch\n"
    )
    for missing in ("error", "null", "drop"):
        out = await enriched(
            f"key: user, match: id, as: u, missing: {missing}", {"user": 1}, {"user": 1}, name="u.json", text=JSON,
            more='- python: {class: "change_rows:add"}\n',
        )  # fmt: skip
        assert [v["u"]["tags"] for v in out[-2:]] == [["a", "x"], ["a", "x"]]


BAD = [
    ("u.csv", "id,name\n1,a\n1,b\n", r"u.csv, line 3: its key is there twice"),
    ("u.csv", "id,name\n1,a,b\n", r"u.csv, line 2: expected 2 values \(id, name\), got 3"),
    ("u.csv", "id,name\n1\n", r"u.csv, line 2: expected 2 values \(id, name\), got 1"),
    ("u.csv", "id,id\n1,2\n", r"a column name twice"),
    ("u.csv", 'id,name\n1,"a\n', r"u.csv cannot be read: unexpected end of data"),
    ("u.csv", "key,name\n1,a\n", r"has no column 'id': it has key, name"),
    ("u.csv", b"id,name\n1,\xff\n", r"u.csv cannot be read: .*utf-8"),
    ("u.json", "[{]", r"u.json cannot be read"),
    ("u.json", "[1]", r"u.json, row 1: expected an object, got int"),
    ("u.json", '[{"id": 1}, {"name": 2}]', r"u.json, row 2: no usable value in the key column 'id': .* got nothing"),
    ("u.json", '[{"id": [1]}]', r"u.json, row 1: no usable value in the key column 'id': .* got a list"),
    ("u.json", '[{"id": 1}, {"id": 1.0}]', r"u.json, row 2: its key is there twice"),
    ("u.ndjson", '{"id": 1}\n{"id"\n', r"u.ndjson, line 2: not JSON"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
async def test_a_bad_table_stops_the_pipeline_and_says_where(enriched, app, name, text, message):
    with pytest.raises(FatalError, match=message):
        await enriched("key: user, match: id, as: u", {"user": 1}, name=name, text=text)
    assert await app.records("out") == []


async def test_a_missing_table_and_then_it_is_there(app, table):
    await app.seed([{"user": 1}])
    stages = "stages:\n- enrich: {file: users.csv, key: user, match: id, as: u}\n"
    with pytest.raises(NotFoundError, match=r"users.csv does not exist or is not a file"):
        await app.run(stages)
    table("users.csv", CSV)
    await app.run(stages)
    assert [v["u"]["name"] for v in await app.values()] == ["Ada"]


async def test_an_empty_table_has_no_keys(enriched):
    assert await enriched("key: user, match: id, missing: drop", {"user": 1}, text="id,name\n") == []


def test_settings_are_checked(refused):
    [problem] = refused("stages:\n- enrich: {file: users.txt, key: user, match: id}\n")
    assert "expected a name that ends in .csv, .json" in problem.message
    [problem] = refused("stages:\n- enrich: {file: u.json, key: user, match: id, columns: [id]}\n")
    assert "`columns` is only for .csv files" in problem.message
    [problem] = refused("stages:\n- enrich: {file: u.json, key: user, match: id, fields: [a, a]}\n")
    assert "expected each column once" in problem.message
    [problem] = refused("stages:\n- enrich: {file: u.json, key: user, match: id, missing: nul}\n")
    assert "null" in problem.help

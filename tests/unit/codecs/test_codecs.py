"""Each format turns bytes into documents and back, and says what is wrong without quoting records."""

from __future__ import annotations

import pytest

from streamd.codecs import Undecodable, codec
from streamd.codecs.csv import RowReader, format_row, parse_header
from streamd.codecs.registry import names, spec_of
from streamd.errors import ConfigError, ExtractError, LoadError


@pytest.mark.parametrize(
    ("name", "data", "document"),
    [
        ("json", b'{"a":1,"b":[true,null]}', {"a": 1, "b": [True, None]}),
        ("ndjson", b'{"a":"\xc3\xa9"}', {"a": "é"}),
        ("text", "naïve".encode(), {"text": "naïve"}),
        ("text", b"", {"text": ""}),
        ("bytes", b"\xff\x00", {"bytes": b"\xff\x00"}),
        ("csv", b'1,"a ""b"", c",', {"values": ["1", 'a "b", c', ""]}),
    ],
)
def test_a_document_survives_the_way_there_and_back(name, data, document):
    assert codec(name).decode(data) == document
    assert codec(name).encode(document) == data


def test_pretty_is_json_over_several_lines():
    assert codec("pretty").encode({"a": {"b": 1}}) == b'{\n  "a": {\n    "b": 1\n  }\n}'


def test_an_unknown_format_names_those_there_are():
    with pytest.raises(ConfigError, match=r"no format 'yaml'.*json"):
        codec("yaml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("json", b'{"card": 4711', "not valid JSON at byte 13"),
        ("json", b"[4711]", "must be a JSON object, this one is a list"),
        ("json", b"4711", "this one is a number"),
        ("json", b"", "not valid JSON"),
        ("json", b'{"a": NaN}', "not valid JSON at byte 6"),
        ("text", b"47\xff11", "not valid UTF-8 at byte 2"),
        ("csv", b'"4711', "not valid CSV"),
        ("csv", b"4\xff11", "not valid UTF-8 at byte 1"),
        ("csv", b"4711\n4712", "expected one row"),
    ],
)
def test_what_is_not_in_the_format_is_an_extract_error_without_its_contents(name, value, message):
    with pytest.raises(ExtractError, match=message) as caught:
        codec(name).decode(value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in names() if spec_of(name).bare])
def test_every_format_refuses_tombstones_and_what_the_source_could_not_read(name):
    with pytest.raises(ExtractError, match="no value"):
        codec(name).decode(None)
    with pytest.raises(ExtractError, match=r"^too long$"):
        codec(name).decode(Undecodable("too long"))


@pytest.mark.parametrize(
    ("name", "document", "message"),
    [
        ("json", {"a": {4711}}, "cannot be written as JSON"),
        ("json", {"a": "\ud800"}, "cannot be written as JSON"),
        ("pretty", {"a": 1 << 70}, "cannot be written as JSON"),
        ("text", {"a": 4711}, "'text', which is missing"),
        ("text", {"text": 4711}, "which is a number"),
        ("text", {"text": "\ud800"}, "no UTF-8 form"),
        ("bytes", {"bytes": 4711}, "expected bytes or text"),
        ("csv", {"values": [{4711}]}, "cannot be written as CSV"),
        ("csv", {"values": ["\ud800"]}, "no UTF-8 form"),
    ],
)
def test_what_a_format_cannot_hold_is_a_load_error_without_its_contents(name, document, message):
    with pytest.raises(LoadError, match=message) as caught:
        codec(name).encode(document)
    assert "4711" not in str(caught.value)


def test_a_csv_row_writes_each_type_in_its_way():
    assert format_row([None, True, 1, 1.5, "a;b", {"x": [1]}], ";") == b';true;1;1.5;"a;b";"{""x"":[1]}"'


def test_line_ends_in_a_value_are_quoted():
    assert format_row(["a\nb", "c\rd", "e"]) == b'"a\nb","c\rd",e'


def test_rows_become_documents_with_types():
    rows = RowReader(
        ["id", "amount", "paid", "tags", "name"], {"id": "int", "amount": "float", "paid": "bool", "tags": "json"}
    )
    found = rows.documents([b'1,2.5,yes,"[""x""]",A', b",,,,"])
    assert found == [
        {"id": 1, "amount": 2.5, "paid": True, "tags": ["x"], "name": "A"},
        {"id": None, "amount": None, "paid": None, "tags": None, "name": ""},
    ]


def test_a_bad_row_is_undecodable_and_the_others_are_not():
    rows = RowReader(["id", "name"], {"id": "int"})
    found = rows.documents([b"1,a", b"x,b", b"3", b"4,d,e", b"5,\xff", b"6,f"])
    assert found[0] == {"id": 1, "name": "a"}
    assert found[5] == {"id": 6, "name": "f"}
    reasons = [value.reason for value in found[1:5] if isinstance(value, Undecodable)]
    assert reasons == [
        "column 'id' does not hold an integer",
        "the row has 1 values for 2 columns",
        "the row has 3 values for 2 columns",
        "not valid UTF-8 at byte 2 of the row: invalid start byte",
    ]


def test_rows_with_line_ends_inside_quotes_and_long_fields():
    rows = RowReader(["a", "b"], {})
    long = b"x" * 300_000
    assert rows.documents([b'"1\n2",b', b"c," + long]) == [{"a": "1\n2", "b": "b"}, {"a": "c", "b": long.decode()}]


def test_a_header_is_stripped_and_must_have_all_names():
    assert parse_header(b'id, "amount" ') == ("id", '"amount"')
    assert parse_header(b"a,,b") == ()
    assert parse_header(b"\xff") == ()

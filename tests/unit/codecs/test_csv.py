"""CSV in messages of topics: columns, types, and another form than the usual."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.codecs import CodecContext, codec
from streamd.codecs.csv import CsvSettings
from streamd.errors import ExtractError, LoadError

COLUMNS = ["id", "amount", "paid", "tags", "name"]
TYPES = {"id": "int", "amount": "float", "paid": "bool", "tags": "json"}


def made(**settings):
    return codec("csv", CsvSettings(**settings), CodecContext())


def test_columns_and_types_make_a_document_and_a_row_of_it():
    form = made(columns=COLUMNS, types=TYPES, delimiter=";", quote="'")
    document = {"id": 1, "amount": 2.5, "paid": True, "tags": {"x": [1]}, "name": "it's; so"}
    data = b"""1;2.5;true;{"x":[1]};'it''s; so'"""
    assert form.decode(data) == document
    assert form.encode(document) == data
    assert form.decode(b";;;;") == {"id": None, "amount": None, "paid": None, "tags": None, "name": ""}


def test_a_document_may_have_its_fields_in_any_order_and_lack_some():
    assert made(columns=["a", "b", "c"]).encode({"c": 3, "a": 1}) == b"1,,3"


def test_a_text_stands_for_null_on_both_sides():
    form = made(columns=["a", "b", "c"], types={"b": "int"}, null_text="NULL")
    assert form.decode(b"NULL,NULL,") == {"a": None, "b": None, "c": ""}
    assert form.encode({"a": None, "c": ""}) == b"NULL,NULL,"
    with pytest.raises(LoadError, match=r"^a text is the same as `null_text`"):
        form.encode({"a": "NULL"})
    bare = made(null_text="\\N")
    assert bare.decode(b"1,\\N") == {"values": ["1", None]}
    assert bare.encode({"values": ["1", None]}) == b"1,\\N"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"4711", "the row has 1 values for 2 columns"),
        (b"4711,a,b", "the row has 3 values for 2 columns"),
        (b"x4711,a", "column 'id' does not hold an integer"),
        (b"4711,a\n4712,b", "expected one row of CSV in a record, got 2"),
        (b"", "expected one row of CSV in a record, got 0"),
        (b'4711,"a', "not valid CSV"),
        (b"4711,\xff", "not valid UTF-8 at byte 5"),
        (None, "no value"),
    ],
)
def test_what_is_no_row_is_an_extract_error_without_its_contents(data, message):
    with pytest.raises(ExtractError, match=message) as caught:
        made(columns=["id", "name"], types={"id": "int"}).decode(data)
    assert "4711" not in str(caught.value)


def test_a_field_that_is_no_column_is_a_load_error():
    with pytest.raises(LoadError, match="field 'b' is not among the columns of the format: a"):
        made(columns=["a"]).encode({"a": 1, "b": 4711})


@pytest.mark.parametrize("settings", [{}, {"delimiter": ";"}])
@pytest.mark.parametrize("document", [{"a": "x", "b": 1}, {"b": 1}, {}, {"values": []}, {"values": 1},
                                      {"values": ["x"], "b": 1}])  # fmt: skip
def test_without_columns_nothing_is_written_but_values(settings, document):
    with pytest.raises(LoadError, match=r"without `columns` .* only \{values: \[\.\.\.\]\}"):
        made(**settings).encode(document)
    assert made(**settings).encode({"values": [""]}) == b'""'


@pytest.mark.parametrize(
    "text", ["1_000", "1_0.5", "\u0661\u0662", "nan", "inf", "-Infinity", "1e400", "0x1", "1.", "--1"]
)
def test_what_is_no_number_elsewhere_is_none_here(text):
    for kind, said in (("int", "an integer"), ("float", "a number")):
        if (kind, text) != ("float", "1."):
            with pytest.raises(ExtractError, match=f"column 'n' does not hold {said}"):
                made(columns=["n"], types={"n": kind}).decode(text.encode())


@pytest.mark.parametrize(
    ("text", "number"), [("-5", -5), ("+07", 7), (" 12 ", 12), (".5", 0.5), ("1.", 1.0), ("-1e3", -1000.0)]
)
def test_numbers_as_they_are_written(text, number):
    kind = "int" if type(number) is int else "float"
    got = made(columns=["n"], types={"n": kind}).decode(text.encode())["n"]
    assert (got, type(got)) == (number, type(number))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ["a", "a"]}, "each name once"),
        ({"columns": [""]}, "each name once, and none empty"),
        ({"columns": []}, "at least 1"),
        ({"types": {"a": "int"}}, "types: a is none of the columns"),
        ({"delimiter": "\n"}, "other than a line end"),
        ({"delimiter": '"'}, "two different characters"),
        ({"quote": "ab"}, "at most 1"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        CsvSettings(**settings)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(TEXT, min_size=2, max_size=4), st.sampled_from(",;|\t "), st.sampled_from("\"'"))
def test_any_texts_survive_and_are_what_the_library_writes(values, delimiter, quote):
    names = [f"c{n}" for n in range(len(values))]
    form = made(columns=names, delimiter=delimiter, quote=quote)
    document = dict(zip(names, values, strict=True))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quotechar=quote).writerow(values)
    assert form.encode(document) == out.getvalue().removesuffix("\r\n").encode()
    assert form.decode(form.encode(document)) == document


def test_what_is_in_the_same_form_goes_on_as_it_is():
    assert made(delimiter=";").passes(made(delimiter=";"))
    assert not made(delimiter=";").passes(made(delimiter="|"))
    assert not made(delimiter=";").passes(made())

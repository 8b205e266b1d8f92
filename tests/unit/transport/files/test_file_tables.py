"""A table read from a file: what its keys find, and what is refused."""

from __future__ import annotations

import pytest

from streamd.component.table import as_text
from streamd.errors import FatalError, NotFoundError
from streamd.transport.files.table import FileTable


@pytest.fixture
def table(tmp_path):
    def read(text, name="t.csv", **how):
        path = tmp_path / name
        path.write_text(text)
        found = FileTable(path, "id", **how)
        found.read()
        return found

    return read


def test_rows_by_the_text_of_their_keys(table):
    found = table("id,name\n1,Ada\ntrue,Yes\n")
    assert found.text
    assert found.find(as_text(1.0)) == {"id": "1", "name": "Ada"}
    assert found.find(as_text(True)) == {"id": "true", "name": "Yes"}
    assert found.find("2") is None


def test_keys_of_json_are_values_and_true_is_not_one(table):
    found = table('{"id": 1, "n": "a"}\n{"id": true, "n": "b"}\n', "t.ndjson")
    assert [found.find(key)["n"] for key in (1, 1.0, True)] == ["a", "a", "b"]
    with pytest.raises(TypeError):
        found.find([1])


def test_a_table_that_only_says_what_there_is_may_say_it_twice(table):
    found = table('[{"id": "a"}, {"id": "a"}, {"id": null}]', "t.json", fields=(), unique=False)
    assert found.rows == {"a": {}}
    with pytest.raises(FatalError, match="its key is there twice"):
        table('[{"id": "a"}, {"id": "a"}]', "t.json")


def test_no_such_file(tmp_path):
    with pytest.raises(NotFoundError, match="does not exist or is not a file"):
        FileTable(tmp_path / "t.csv", "id").read()

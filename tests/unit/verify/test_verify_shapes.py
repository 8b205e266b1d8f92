"""Records made up from a pipeline's expressions fit them, and follow from the seed."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

import orjson
import pytest

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text, load_service
from streamd.verify.records import Generated, Made, Rows, Sampled, Shaped
from streamd.verify.shapes import document, keyed_by, row_keys, shape_of, shapes_of

FOLDER = Path(__file__).resolve().parents[3] / "config" / "pipelines"
EXAMPLES = sorted(path for path in FOLDER.rglob("*.yaml") if not path.name.endswith(".test.yaml"))
ENV = {"EVENTS": "events", "OUT": "out"}


def loaded(text, file=Path("p.yaml")):
    return load_pipeline_text(text, file, Registry.default(), ENV, load_service(None, ENV))


def made(text, count=200):
    """Records of the shape of a pipeline with these stages."""
    stages = textwrap.indent(textwrap.dedent(text), "  ")
    config = loaded(f"name: p\nsource: {{log: {{topic: in}}}}\nstages:\n{stages}\nsink: {{log: {{topic: out}}}}\n")
    shape = shape_of(config, PipelineContext("app", "p", Path(), Path()))
    return [document(shape, random.Random(seed)) for seed in range(count)]


def test_numbers_lie_around_what_they_are_compared_with():
    amounts = [record["amount"] for record in made("- filter: amount > 400")]
    assert any(amount > 400 for amount in amounts)
    assert any(amount <= 400 for amount in amounts)


def test_texts_are_those_compared_with_and_others():
    kinds = {record["type"] for record in made('- filter: type in ["sale", "refund"]')}
    assert {"sale", "refund"} < kinds


def test_objects_lists_and_times():
    for record in made(
        "- map: {n: 'sum(line.price * 2 for line in lines)', c: user.country, d: 'format_time(at, \"%Y\")'}"
    ):
        assert all(isinstance(line["price"], int | float) for line in record["lines"])
        assert isinstance(record["user"]["country"], str)
        assert isinstance(record["at"], int)


def test_fields_that_stages_set_are_none_of_the_input():
    records = made("- set: {net: amount * 2}\n- filter: net > 5")
    assert all(set(record) == {"id", "amount"} for record in records)


def test_a_field_that_may_be_missing_sometimes_is():
    records = made("- set: {c: 'get(coupon, \"none\")'}")
    assert {("coupon" in record) for record in records} == {True, False}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_a_shape(file):
    config = loaded(file.read_text(), file)
    shape = shape_of(config, PipelineContext("app", config.name, Path(), file.parent))
    assert document(shape, random.Random(1)) == document(shape, random.Random(1))


def test_state_says_by_what_the_input_is_partitioned():
    stage = "stages: [{aggregate: {by: user, values: {n: count()}}}]"
    config = loaded(f"name: p\nsource: {{log: {{topic: in}}}}\n{stage}\nsink: {{log: {{topic: out}}}}\n")
    assert keyed_by(config) == "user"
    shape = shape_of(config, PipelineContext("app", "p", Path(), Path()))
    records = Shaped(shape, 3, "seed", "json", key="user", wrong=True)
    home: dict[bytes | None, int] = {}
    for number in range(500):
        record = records.record(number)
        assert record == records.record(number)
        assert home.setdefault(record.key, record.partition) == record.partition
    assert set(home.values()) == {0, 1, 2}


def test_a_sample_comes_again_and_a_recipe_goes_on():
    sample = [Made(0, None, b"a"), Made(1, b"k", b"b")]
    assert [Sampled(sample).record(number) for number in range(3)] == [*sample, sample[0]]
    config = loaded(
        "name: p\nsource: {generate: {fields: {id: _offset}, partitions: 2, key: id}}\nsink: {log: {topic: out}}\n"
    )
    record = Generated(config.sources[0].settings, 0).record(5)
    assert (record.partition, record.key, orjson.loads(record.value)) == (1, b"5", {"id": 5})


def test_made_up_rows_are_those_that_made_up_records_look_up(tmp_path):
    """With the fields that the pipeline reads of them, in the right place."""
    text = (
        "name: p\nsources: {in: {log: {topic: in}}, users: {log: {topic: users}, table: {key: id}}}\n"
        'stages:\n- enrich: {table: users, key: user, as: u}\n- filter: u.country in ["DE", "FR", "SE", "NO"]\n'
        "sink: discard\n"
    )
    config = loaded(text, tmp_path / "p.yaml")
    shape, tables = shapes_of(config, PipelineContext("app", "p", Path(), Path()))
    rows = Rows(tables["users"], row_keys("users"), "id", 2, "seed", "json")
    found = [orjson.loads(rows.record(number).value) for number in range(rows.count)]
    assert [row["id"] for row in found] == row_keys("users")
    assert {row["country"] for row in found} <= {"DE", "FR", "SE", "NO"}
    assert document(shape, random.Random(1))["user"] in row_keys("users")
    assert "u" not in shape.fields

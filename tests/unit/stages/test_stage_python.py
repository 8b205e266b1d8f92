"""The stage `python`: own code over batches."""

from __future__ import annotations

import itertools

import pytest

from streamd.errors import FatalError

_numbers = itertools.count()


@pytest.fixture
def module(app):
    """`module(code)`: the name of a new module with this code, beside the pipeline."""

    def write(code):
        name = f"own_code_{next(_numbers)}"
        (app.folder / f"{name}.py").write_text(code)
        return name

    return write


def stage(name, options=""):
    return f'stages:\n- python: {{class: "{name}"{options}}}\n'


N = [{"n": n} for n in range(5)]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_function_may_change_drop_and_add(through, module, kind):
    name = module(f"""
from streamd.record import Record

{kind} work(batch):
    out = []
    for record in batch:
        n = record.value["n"]
        record.value["m"] = n * 10
        if n != 1:
            out.append(record)
        if n == 2:
            out.append(Record({{"new": True}}, b"own", record.timestamp))
    return out
""")
    out = await through(stage(f"{name}:work"), *N[:4])
    assert out == [{"n": 0, "m": 0}, {"n": 2, "m": 20}, {"new": True}, {"n": 3, "m": 30}]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_class_with_options_open_and_close(through, module, app, kind):
    name = module(f"""
from pathlib import Path

class Work:
    def __init__(self, percent, log):
        self.percent, self.log = percent, Path(log)

    {kind} open(self):
        self.log.write_text("open ")

    {kind} process(self, batch):
        for record in batch:
            record.value["p"] = record.value["n"] * self.percent
        return batch

    {kind} close(self):
        self.log.write_text(self.log.read_text() + "close")
""")
    out = await through(stage(f"{name}:Work", f", options: {{percent: 5, log: {app.folder}/log}}"), *N[:2])
    assert [v["p"] for v in out] == [0, 5]
    assert (app.folder / "log").read_text() == "open close"


async def test_options_of_a_function(through, module):
    name = module("def work(batch, keep):\n    return [r for r in batch if r.value['n'] == keep]\n")
    assert await through(stage(f"{name}:work", ", options: {keep: 3}"), *N) == [{"n": 3}]


async def test_records_know_key_time_headers_and_place(through, module, app):
    name = module("""
def work(batch):
    for r in batch:
        r.value["seen"] = [r.key.decode(), r.timestamp, dict(r.headers)["h"].decode(), r.topic, r.partition, r.offset]
        r.key, r.headers = b"new", (("x", b"y"),)
    return batch
""")
    [out] = await through(stage(f"{name}:work"), {})
    assert out["seen"] == ["k0", 1_700_000_000_000, "1", "in", 0, 0]
    [record] = await app.records("out")
    assert (record.key, tuple(record.headers)) == (b"new", (("x", b"y"),))


COUNTING = """
calls = []

def work(batch):
    for record in batch:
        record.value["n"] += 100
        calls.append(len(batch))
        if record.value["n"] == 102:
            raise ValueError(f"secret {record.value}")
    return batch
"""


async def test_only_the_guilty_record_fails_and_the_others_are_changed_once(through, module, app):
    out = await through(stage(f"{module(COUNTING)}:work") + "on_error: {dead_letter: {log: {topic: dlq}}}\n", *N)
    assert [v["n"] for v in out] == [100, 101, 103, 104]
    [dead] = await app.records("dlq")
    assert dead.value == b'{"n":2}'
    message = dict(dead.headers)["streamd.message"].decode()
    assert "secret" not in message
    assert "ValueError in own_code_" in message
    assert ".py, line 9" in message
    assert app.total("streamd_failed_records_total", phase="transform") == 1
    assert app.total("streamd_stage_output_records_total", stage="python") == 4


async def test_a_failing_record_stops_the_pipeline_and_a_mended_module_goes_on(through, module, app):
    with pytest.raises(FatalError, match=r"stage 'python' failed on the record at offset 2 of in") as caught:
        await through(stage(f"{module(COUNTING)}:work"), *N)
    assert "secret" not in str(caught.value)
    assert await app.records("out") == []
    await app.run(stage(f"{module(COUNTING.replace('== 102', '== 0'))}:work"))
    assert [v["n"] for v in await app.values()] == [100, 101, 102, 103, 104]


async def test_an_error_of_ones_own_words_is_shown(through, module):
    name = module(
        "from streamd.errors import TransformError\n\ndef work(batch):\n    raise TransformError('no such shop')\n"
    )
    with pytest.raises(FatalError, match="TransformError: no such shop"):
        await through(stage(f"{name}:work"), {})


RETURNS = [
    ("None", "returned NoneType, expected a list of records"),
    ("(r for r in batch)", "returned generator, expected a list of records"),
    ("[r.value for r in batch]", "returned a list with dict, expected records only"),
    ("[Record(3)]", "returned a record with a value of type int, expected a dict"),
]


@pytest.mark.parametrize(("result", "message"), RETURNS)
async def test_a_wrong_return_type(through, module, app, result, message):
    name = module(f"from streamd.record import Record\n\ndef work(batch):\n    return {result}\n")
    with pytest.raises(FatalError, match=message):
        await through(stage(f"{name}:work"), {})
    assert await app.records("out") == []


async def test_something_that_is_no_json_fails_its_record_only(through, module, app):
    name = module(
        "def work(batch):\n    for r in batch:\n        if r.value['n'] == 1:\n            r.value['x'] = {1, 2}\n"
        "    return batch\n"
    )
    out = await through(stage(f"{name}:work") + "on_error: skip\n", *N[:3])
    assert out == [{"n": 0}, {"n": 2}]
    assert app.total("streamd_failed_records_total") == 1


async def test_a_record_without_value_is_a_tombstone(through, module, app):
    name = module("def work(batch):\n    for r in batch:\n        r.value = None\n    return batch\n")
    await app.seed([{}, None])
    await app.run(
        "name: p\nsource: {log: {topic: in, tombstones: forward}}\n"
        + stage(f"{name}:work")
        + "- rate_limit: 100000/s\n- set: {n: 1}\nsink: {log: {topic: out}}\n"
    )
    assert [(r.key, r.value) for r in await app.records("out")] == [(b"k0", None), (b"k1", None)]


IMPORTS = [
    ("nowhere:work", "", "cannot import 'nowhere:work': No module named 'nowhere'"),
    ("MODULE:wrok", "", "cannot import 'own_code_.*:wrok': .* has no attribute 'wrok'"),
    ("MODULE:number", "", "has no method `process\\(batch\\)` and is no function"),
    ("MODULE:Empty", "", "has no method `process\\(batch\\)` and is no function"),
    ("MODULE:Work", ", options: {percnt: 1}", "cannot make .*unexpected keyword argument 'percnt'"),
    ("MODULE:Work", "", "cannot make .*ValueError\\('percent is needed'\\)"),
]
CODE = """
number = 3

class Empty:
    pass

class Work:
    def __init__(self, percent=None):
        raise ValueError("percent is needed")

    def process(self, batch):
        return batch
"""


@pytest.mark.parametrize(("target", "options", "message"), IMPORTS)
async def test_what_cannot_be_imported_or_made(through, module, app, target, options, message):
    with pytest.raises(FatalError, match=message):
        await through(stage(target.replace("MODULE", module(CODE)), options), {})
    assert await app.records("out") == []


@pytest.mark.parametrize(("code", "message"), [("def work(:\n", "SyntaxError"), ("1 / 0\n", "ZeroDivisionError")])
async def test_a_module_that_breaks_on_import(through, module, code, message):
    with pytest.raises(FatalError, match=f"cannot import .*{message}"):
        await through(stage(f"{module(code)}:work"), {})


def test_the_class_is_checked(refused):
    [problem] = refused("stages:\n- python: shop.stages.Discount\n")
    assert problem.place.line == 5

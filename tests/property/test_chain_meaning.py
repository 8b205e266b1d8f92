"""A compiled chain means what its stages mean one by one: random pipelines and documents, against a plain model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.component.context import PipelineContext
from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text
from streamd.config.service import ServiceConfig
from streamd.expr import Scope, parse
from streamd.plan.graph import build_plan
from streamd.record import SourceRecord
from streamd.runtime.assembly import compile_chains

FIELDS = ("a", "b", "c", "type")
EXPRESSIONS = (
    "a + 1",
    "b * 2",
    "a > 1",
    "get(c, 0) + 1",
    "has(b)",
    'type != "x" and a > 0',
    "a if has(a) else 0",
    "[a, b]",
    "null",
)
CONDITIONS = ("a > 1", "has(b)", 'type != "x" and a > 0', "get(c, 5) > 2", "b == b", "not has(c)")

field = st.sampled_from(FIELDS)
path = st.sampled_from([*FIELDS, "a.x", "n.m", "type.deep.er"])
stage = st.one_of(
    st.builds(lambda c: {"filter": c}, st.sampled_from(CONDITIONS)),
    st.builds(lambda f: {"set": f}, st.dictionaries(path, st.sampled_from(EXPRESSIONS), min_size=1, max_size=3)),
    st.builds(lambda f: {"drop": f}, st.lists(path, min_size=1, max_size=2, unique=True)),
    st.builds(lambda f: {"flatten": f}, field),
)
scalar = st.one_of(st.integers(-3, 3), st.sampled_from(["x", "y", ""]), st.booleans(), st.none(), st.floats(-2, 2))
value = st.one_of(scalar, st.lists(scalar, max_size=3), st.dictionaries(field, scalar, max_size=2))
document = st.dictionaries(st.one_of(field, st.sampled_from(["n", "other"])), value, max_size=5)


class ModelError(Exception):
    """The model has no value for the record."""


def put(target: Any, names: list[str], new: Any) -> Any:
    if not names:
        return new
    if target is None:
        target = {}
    if not isinstance(target, dict):
        raise ModelError
    return {**target, names[0]: put(target.get(names[0]), names[1:], new)}


def remove(target: Any, names: list[str]) -> Any:
    if not isinstance(target, dict) or names[0] not in target:
        return target
    if len(names) == 1:
        return {k: v for k, v in target.items() if k != names[0]}
    return {**target, names[0]: remove(target[names[0]], names[1:])}


def evaluate(text: str, doc: Any) -> Any:
    try:
        return parse(text).interpret(Scope(document=doc))
    except Exception as error:
        raise ModelError from error


def model(stages: list[dict[str, Any]], doc: Any) -> list[Any]:
    """What the stages make of one document, one stage after another."""
    docs = [copy.deepcopy(doc)]
    for one in stages:
        [(name, setting)] = one.items()
        after = []
        for d in docs:
            if name == "filter":
                after += [d] if evaluate(setting, d) else []
            elif name == "set":
                for target, text in setting.items():
                    names = target.split(".")
                    d = put(d, names, evaluate(text, d))
                after.append(d)
            elif name == "drop":
                for target in setting:
                    d = remove(d, target.split("."))
                after.append(d)
            else:
                if setting not in d or not isinstance(d[setting], list):
                    raise ModelError
                after += [{**d, setting: element} for element in d[setting]]
        docs = after
    return docs


def canonical(found: Any) -> str:
    return json.dumps(found, sort_keys=True)


@settings(max_examples=400)
@given(stages=st.lists(stage, max_size=4), documents=st.lists(document, min_size=1, max_size=4))
def test_a_chain_means_what_its_stages_mean(stages: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
    text = yaml.safe_dump(
        {"name": "p", "source": {"log": {"topic": "in"}}, "stages": stages, "sink": {"log": {"topic": "out"}}},
        sort_keys=False,
    )
    registry = Registry.default()
    config = load_pipeline_text(text, Path("p.yaml"), registry, {}, ServiceConfig())
    part = build_plan(config).parts[0]
    context = PipelineContext("app", "p", Path(), Path())
    made = {c.id: c.spec.factory(c.settings, context) for c in part.stages}
    try:
        chain = compile_chains(part, made)[0, "source"]
    except Exception as error:
        # Reading a field that an earlier stage drops for certain is refused; the model then fails on every record.
        assert "drops it" in str(getattr(error, "diagnostics", error))  # noqa: PT017
        return
    for doc in documents:
        record = SourceRecord(b"k", json.dumps(doc).encode(), 0, 0)
        try:
            expected: list[Any] | None = model(stages, doc)
        except ModelError:
            expected = None
        for function in (chain.function, chain.plain):
            rows: list[Any] = []
            failed: list[Any] = []
            function([record], 0, failed, rows)
            if expected is None:
                assert (rows, len(failed)) == ([], 1)
            else:
                assert not failed, failed
                assert [canonical(json.loads(row[1])) for row in rows] == [canonical(d) for d in expected]

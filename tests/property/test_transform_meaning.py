"""A compiled `transform` means what its operations mean one by one, and one that fails leaves the record as it was."""

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

FIELDS = ("a", "b", "c")
EXPRESSIONS = ("a + 1", "get(b, 2) * 2", "has(c)", "[get(a, 0)]", "null", "1", "1 / get(a, 1)")
CONDITIONS = ("a > 1", "has(b)", "not has(c)", "get(c, 5) > 2", "true")

field = st.sampled_from(FIELDS)
path = st.sampled_from([*FIELDS, "a.x", "n.m"])
flat = st.one_of(
    st.builds(lambda f: {"set": f}, st.dictionaries(path, st.sampled_from(EXPRESSIONS), min_size=1, max_size=2)),
    st.builds(lambda f: {"drop": f}, st.lists(path, min_size=1, max_size=2, unique=True)),
    st.builds(lambda old, new: {"rename": {old: {"to": new, "on_missing": "skip"}}}, field, path),
    st.builds(lambda f: {"coerce": {f: {"to": "int", "on_missing": "skip", "on_failure": "keep"}}}, field),
    st.builds(lambda f, v: {"patch": [{"op": "test", "path": "/a", "value": v}, {"op": "remove", "path": f"/{f}"}]},
              field, st.integers(0, 2)),
)  # fmt: skip
operation = st.recursive(
    flat,
    lambda inner: st.builds(
        lambda condition, then, other: {"when": condition, "then": then, **({"else": other} if other else {})},
        st.sampled_from(CONDITIONS),
        st.lists(inner, min_size=1, max_size=2),
        st.lists(inner, max_size=2),
    ),
    max_leaves=4,
)
scalar = st.one_of(st.integers(-3, 3), st.sampled_from(["x", "7", ""]), st.booleans(), st.none())
value = st.one_of(scalar, st.lists(scalar, max_size=2), st.dictionaries(st.sampled_from("xm"), scalar, max_size=2))
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


def there(target: Any, names: list[str]) -> bool:
    return not names or (isinstance(target, dict) and names[0] in target and there(target[names[0]], names[1:]))


def evaluate(text: str, doc: Any) -> Any:
    try:
        return parse(text).interpret(Scope(document=doc))
    except Exception as error:
        raise ModelError from error


def model(operations: list[dict[str, Any]], doc: Any) -> Any:
    doc = copy.deepcopy(doc)
    for one in operations:
        name = next(iter(one))
        setting = one[name]
        match name:
            case "when":
                doc = model(one["then"] if evaluate(setting, doc) else one.get("else", []), doc)
            case "set":
                for target, text in setting.items():
                    doc = put(doc, target.split("."), evaluate(text, doc))
            case "drop":
                for target in setting:
                    doc = remove(doc, target.split("."))
            case "rename":
                [(old, rule)] = setting.items()
                if old in doc:
                    moved, names = doc[old], rule["to"].split(".")
                    doc = remove(doc, [old])
                    if there(doc, names):
                        raise ModelError
                    doc = put(doc, names, moved)
            case "coerce":
                [target] = setting
                if isinstance(doc.get(target), str) and doc[target].isdigit():
                    doc = {**doc, target: int(doc[target])}
            case "patch":
                test, gone = setting
                same = type(doc.get("a")) is int and doc["a"] == test["value"]
                if not same or gone["path"][1:] not in doc:
                    raise ModelError
                doc = remove(doc, [gone["path"][1:]])
    return doc


def compiled(operations: list[dict[str, Any]], on_failure: str) -> Any:
    text = yaml.safe_dump(
        {
            "name": "p",
            "source": {"log": {"topic": "in"}},
            "stages": [{"transform": {"operations": operations, "on_failure": on_failure}}],
            "sink": {"log": {"topic": "out"}},
        },
        sort_keys=False,
    )
    config = load_pipeline_text(text, Path("p.yaml"), Registry.default(), {}, ServiceConfig())
    part = build_plan(config).parts[0]
    context = PipelineContext("app", "p", Path(), Path())
    made = {c.id: c.spec.factory(c.settings, context) for c in part.stages}
    return compile_chains(part, made)[0, "source"]


@settings(max_examples=300)
@given(
    operations=st.lists(operation, min_size=1, max_size=3),
    documents=st.lists(document, min_size=1, max_size=4),
    on_failure=st.sampled_from(["error", "rollback"]),
)
def test_a_transformation_means_what_its_operations_mean(
    operations: list[dict[str, Any]], documents: list[dict[str, Any]], on_failure: str
) -> None:
    try:
        chain = compiled(operations, on_failure)
    except Exception as error:
        # Reading a field that is dropped for certain is refused; the model then fails on every record.
        assert "drops it" in str(getattr(error, "diagnostics", error))  # noqa: PT017
        return
    for doc in documents:
        raw = json.dumps(doc, indent=1).encode()
        try:
            expected = model(operations, doc)
        except ModelError:
            expected = None
        for function in (chain.function, chain.plain):
            rows: list[Any] = []
            failed: list[Any] = []
            counts = dict(zip(chain.counters, function([SourceRecord(b"k", raw, 0, 0)], 0, failed, rows), strict=True))
            if expected is not None:
                assert not failed, failed
                assert [json.loads(row[1]) for row in rows] == [expected]
                assert not counts.get(("transform", "rolled_back"))
            elif on_failure == "error":
                assert (rows, len(failed)) == ([], 1)
                assert failed[0][0].value == raw
            else:
                assert not failed
                assert [row[1] for row in rows] == [raw]
                assert counts["transform", "rolled_back"] == 1

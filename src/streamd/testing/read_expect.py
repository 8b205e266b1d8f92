"""What a test file says under `expect`."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import replace
from typing import Any

from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.model_check import Check, describe, plain_value
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence
from streamd.testing.case_file import Counted, Expected, ExpectStep, RecordsSettings, ViewWanted, Wanted, parse_time

ENVELOPE = ("key", "value", "timestamp", "headers")
DEAD_LETTER = ("component", "error", "message", "phase", "key", "value")
# Words under `expect` that name no sink.
SPECIAL = ("dead_letters", "late", "skipped", "views", "error")
OPTIONS = tuple(RecordsSettings.model_fields)


def expect_step(document: Document, key: Scalar, node: Node) -> ExpectStep | None:
    """The step `expect`; None, and problems in the document, when it is none."""
    if isinstance(node, Scalar) and node.value is None:
        return ExpectStep(key, everything=True)
    count = isinstance(node, Scalar) and type(node.value) is int
    only = count or isinstance(node, Sequence)
    only = only or (isinstance(node, Mapping) and node.entries.keys() <= set(OPTIONS))
    if only and not (isinstance(node, Mapping) and not node.entries):
        found = _expected(document, "", key, node)
        return None if found is None else ExpectStep(key, (found,))
    if not isinstance(node, Mapping):
        expected = f"a list of records, or sinks with such lists, and {', '.join(SPECIAL)}"
        document.report("wrong-type", f"`expect` has {describe(node)}", key, expected)
        return None
    step = ExpectStep(key)
    for name, (at, value) in node.entries.items():
        if name in ("late", "skipped"):
            step.counts += _counts(document, name, at, value)
        elif name == "views":
            step.views = _views(document, at, value)
        elif name == "error":
            if isinstance(value, Scalar) and value.text:
                step.error = (value.text, at)
            else:
                message = f"`error` must be a part of the message, got {describe(value)}"
                document.report("wrong-type", message, at)
        else:
            found = _expected(document, name, at, value)
            step.outputs += () if found is None else (found,)
    return step


def _expected(document: Document, name: str, at: Scalar, node: Node) -> Expected | None:
    """What one output, a sink's or the dead letters, is to have."""
    kind: Any = "dead_letters" if name == "dead_letters" else "sink"
    expected = Expected(name, at, node, kind=kind)
    if isinstance(node, Scalar) and node.value is None:
        return replace(expected, to_record=True)
    if isinstance(node, Scalar) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return replace(expected, node=None, count=node.value, count_node=node)
    if isinstance(node, Sequence):
        return _with_records(document, expected, node)
    if not isinstance(node, Mapping):
        document.report("wrong-type", f"`{name}` must be a list of records, got {describe(node)}", at)
        return None
    settings = Check(document, RecordsSettings, node, f"`{name or 'expect'}`", at).run()
    if settings is None:
        return None
    lists = [word for word in ("records", "contains") if word in node.entries]
    if len(lists) != 1 and (lists or settings.count is None):
        expected_text = one_of(("records", "contains", "count"))
        document.report("missing-key", f"`{name or 'expect'}` names no records, or twice", at, expected_text)
        return None
    expected.unordered, expected.count, expected.count_node = settings.unordered, settings.count, node.get("count")
    expected.fields = tuple(settings.fields or ())
    if not lists:
        return replace(expected, node=None)
    key, inner = node.entries[lists[0]]
    expected.contains, expected.at, expected.node = lists[0] == "contains", key, inner
    if not isinstance(inner, Sequence):
        return replace(expected, to_record=True)
    return _with_records(document, expected, inner)


def _with_records(document: Document, expected: Expected, node: Sequence) -> Expected:
    read = _dead_letter if expected.kind == "dead_letters" else _record
    wanted = [read(document, item) for item in node.items]
    return replace(expected, node=node, wanted=tuple(one for one in wanted if one is not None))


def _record(document: Document, node: Node) -> Wanted | None:
    if not (isinstance(node, Mapping) and "value" in node.entries and all(key in ENVELOPE for key in node.entries)):
        return Wanted(node, {"value": plain_value(node)}, whole=True)
    parts = plain_value(node)
    if (at := node.get("timestamp")) is not None:
        try:
            parts["timestamp"] = parse_time(parts["timestamp"])
        except ValueError as error:
            document.report("wrong-value", f"`timestamp` must be {str(error).removeprefix('expected ')}", at)
            return None
    return Wanted(node, parts, whole=False)


def _dead_letter(document: Document, node: Node) -> Wanted | None:
    if not isinstance(node, Mapping):
        document.report(
            "wrong-type", f"a dead letter must be a mapping, got {describe(node)}", node, one_of(DEAD_LETTER)
        )
        return None
    for key in node.entries:
        if key not in DEAD_LETTER:
            message = f"unknown key `{key}` of a dead letter"
            document.report("unknown-key", message, node.key(key), one_of(DEAD_LETTER), did_you_mean(key, DEAD_LETTER))
            return None
    return Wanted(node, plain_value(node), whole=False)


def _counts(document: Document, what: Any, at: Scalar, node: Node) -> tuple[Counted, ...]:
    """`late: 2`, or `late: {STAGE: 2}`."""
    entries: MappingType[str, tuple[Scalar, Node]] = node.entries if isinstance(node, Mapping) else {"": (at, node)}
    found = []
    for name, (key, value) in entries.items():
        number = value.value if isinstance(value, Scalar) else None
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            message = f"`{what}` must be a number of records, or components with theirs, got {describe(value)}"
            document.report("wrong-type", message, key)
        else:
            found.append(Counted(what, key, value, number, name))
    return tuple(found)


def _views(document: Document, at: Scalar, node: Node) -> tuple[ViewWanted, ...]:
    if not isinstance(node, Mapping):
        document.report("wrong-type", f"`views` must be a mapping of stages, got {describe(node)}", at)
        return ()
    found = []
    for stage, (key, value) in node.entries.items():
        if isinstance(value, Mapping) or (isinstance(value, Scalar) and value.value is None):
            values = plain_value(value) if isinstance(value, Mapping) else {}
            found.append(ViewWanted(stage, key, value, values))
        else:
            document.report(
                "wrong-type", f"the view of `{stage}` must be a mapping of keys, got {describe(value)}", key
            )
    return tuple(found)

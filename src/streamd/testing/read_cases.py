"""Test files → `CaseFile`s, or every problem of every file with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from streamd.component.fields import parse_duration
from streamd.config.diagnostics import Diagnostic, did_you_mean, one_of
from streamd.config.file_text import FileText
from streamd.config.model_check import Check, describe, plain_value
from streamd.config.pipeline import Place
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence, parse_document
from streamd.testing import read_expect
from streamd.testing.case_file import (
    AdvanceSettings,
    AdvanceStep,
    Case,
    CaseFile,
    CaseSettings,
    EndStep,
    FileSettings,
    Given,
    IdleStep,
    InputStep,
    Move,
    Step,
    StopStep,
    parse_move,
    parse_time,
)

STEPS = ("input", "advance", "idle", "crash", "restart", "end", "expect")
ENVELOPE = ("key", "value", "timestamp", "headers", "partition")

T = TypeVar("T")


def read_case_file(path: Path) -> tuple[CaseFile | None, list[Diagnostic]]:
    """The file's cases, or None and what is wrong with it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return None, [Diagnostic("unreadable-file", f"cannot be read: {reason}", Place(str(path)))]
    document = parse_document(FileText(str(path), text))
    found = None
    if document.root is not None:
        found = _CaseReader(document, path).read()
    elif not document.problems:
        document.report("empty-file", "the file is empty", (0, 1), help="a test file has `cases:`")
    return (None, document.problems) if document.problems else (found, [])


def pipeline_beside(test: Path) -> Path:
    """The pipeline's file that a test file belongs to by its name."""
    stem = test.name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".test")
    other = test.with_name(f"{stem}.yml")
    return other if other.is_file() else test.with_name(f"{stem}.yaml")


@dataclass(slots=True)
class _CaseReader:
    document: Document
    path: Path

    def read(self) -> CaseFile | None:
        document, root = self.document, self.document.root
        if not isinstance(root, Mapping):
            assert root is not None
            message = f"a test file must be a mapping of keys to values, got {describe(root)}"
            document.report("wrong-type", message, (root.start, root.start + 1), help="it has `cases:`")
            return None
        top = Scalar(root.start, root.start + 1, "", None, None)
        rest = Mapping(root.start, root.end, {key: entry for key, entry in root.entries.items() if key != "cases"})
        settings = Check(document, FileSettings, rest, "the test file", top, also_known=("cases",)).run()
        cases = root.get("cases")
        if not isinstance(cases, Mapping) or not cases.entries:
            got = "missing" if cases is None else f"{describe(cases)}, not a mapping of names to cases"
            key = root.key("cases") if cases is not None else top
            help_text = "cases:\n     what is expected:\n       input: [{…}]\n       expect: [{…}]"
            document.report("missing-key", f"`cases` is {got}", key, help=help_text)
            return None
        read = [self._case(name, key, node, settings) for name, (key, node) in cases.entries.items()]
        if settings is None or document.problems:
            return None
        pipeline = pipeline_beside(self.path) if settings.pipeline is None else self.path.parent / settings.pipeline
        if not pipeline.is_file():
            at = top if settings.pipeline is None else root.entries["pipeline"][1]
            message = f"there is no pipeline {pipeline}"
            document.report("missing-file", message, at, help="`pipeline:` names another file than the one beside it")
            return None
        return CaseFile(self.path, pipeline, document, tuple(case for case in read if case is not None))

    def _case(self, name: str, key: Scalar, node: Node, file: FileSettings | None) -> Case | None:
        steps_node: Node | None = node
        settings: CaseSettings | None = CaseSettings.model_validate({})
        if isinstance(node, Mapping):
            own = [word for word in node.entries if word in STEPS]
            rest = {word: entry for word, entry in node.entries.items() if word not in (*STEPS, "steps")}
            beside = Mapping(node.start, node.end, rest)
            known = ("steps", *STEPS)
            settings = Check(self.document, CaseSettings, beside, f"case `{name}`", key, also_known=known).run()
            steps_node = node.get("steps")
            if own and steps_node is not None:
                message = f"case `{name}` has `steps:`, and `{own[0]}` beside it"
                self.document.report("several-keys", message, node.key(own[0]), help="put all of them below `steps:`")
                return None
            if own:
                steps_node = Sequence(node.start, node.end, [Mapping(node.start, node.end, _only(node, own))])
        if not isinstance(steps_node, Sequence) or not steps_node.items:
            got = "has no steps" if steps_node is None else f"must be a list of steps, got {describe(steps_node)}"
            self.document.report("wrong-type", f"case `{name}` {got}", key, f"`input:` and `expect:`, {one_of(STEPS)}")
            return None
        steps = [step for item in steps_node.items for step in self._steps(item)]
        if settings is None or file is None:
            return None
        clock = file.clock if settings.clock is None else settings.clock
        env = {**file.env, **settings.env}
        return Case(name, key, env, clock, tuple(steps), settings.description, settings.with_crash)

    # Steps.

    def _steps(self, node: Node) -> Iterable[Step]:
        """The steps of one item: usually one, several where several words stand in it."""
        if isinstance(node, Scalar) and isinstance(node.value, str):
            empty = Scalar(node.end, node.end, "", None, None)
            node = Mapping(node.start, node.end, {node.value: (node, empty)})
        if not isinstance(node, Mapping) or not node.entries:
            self.document.report("wrong-type", f"a step must be a mapping, got {describe(node)}", node, one_of(STEPS))
            return
        read: MappingType[str, Callable[[Scalar, Node], Step | None]] = {
            "input": self._input,
            "advance": self._advance,
            "idle": self._idle,
            "crash": self._crash,
            "restart": lambda key, value: StopStep(key, "restart"),
            "end": self._end,
            "expect": lambda key, value: read_expect.expect_step(self.document, key, value),
        }
        for word, (key, value) in node.entries.items():
            if word not in read:
                message = f"unknown step `{word}`"
                self.document.report("unknown-key", message, key, one_of(STEPS), did_you_mean(word, STEPS))
            elif (step := read[word](key, value)) is not None:
                yield step

    def _input(self, key: Scalar, node: Node) -> Step | None:
        if isinstance(node, Mapping) and node.entries:
            sources = [(name, at, value) for name, (at, value) in node.entries.items()]
        elif isinstance(node, Sequence) or (isinstance(node, Scalar) and isinstance(node.value, str)):
            sources = [("", key, node)]
        else:
            expected = "a list of records, the path of a file of JSON lines, or sources with these"
            self.document.report("wrong-type", f"`input` has {describe(node)}", key, expected)
            return None
        records: list[tuple[str, Node, Given]] = []
        files: list[tuple[str, Node, str]] = []
        for name, at, value in sources:
            if isinstance(value, Scalar) and isinstance(value.value, str):
                files.append((name, value, value.value))
            elif isinstance(value, Sequence):
                given = [self._given(item) for item in value.items]
                records += [(name, at, record) for record in given if record is not None]
            else:
                message = f"the input of `{name}` must be a list of records, or a file's path, got {describe(value)}"
                self.document.report("wrong-type", message, at)
        return InputStep(key, tuple(records), tuple(files))

    def _given(self, node: Node) -> Given | None:
        if not is_envelope(node):
            return Given(node, _given_value(node))
        assert isinstance(node, Mapping)
        value = node.get("value")
        partition = 0
        if (at := node.get("partition")) is not None:
            found = plain_value(at)
            if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 1000:
                message = f"`partition` must be a whole number from 0 on, got {describe(at)}"
                self.document.report("wrong-value", message, at)
            else:
                partition = found
        timestamp = self._parsed(node.get("timestamp"), "timestamp", parse_time)
        headers = node.get("headers")
        if headers is not None and not isinstance(headers, Mapping):
            message = f"`headers` must be a mapping of names to texts, got {describe(headers)}"
            self.document.report("wrong-type", message, headers)
            return None
        pairs = () if headers is None else ((name, plain_value(v)) for name, (_, v) in headers.entries.items())
        key = node.get("key")
        return Given(
            node,
            None if value is None else _given_value(value),
            partition,
            None if key is None else plain_value(key),
            timestamp,
            tuple(pairs),
        )

    def _advance(self, key: Scalar, node: Node) -> Step | None:
        if not isinstance(node, Mapping):
            move = self._parsed(node, "advance", parse_move)
            return None if move is None else AdvanceStep(key, event=move)
        settings = Check(self.document, AdvanceSettings, node, "`advance`", key).run()
        if settings is None:
            return None
        if settings.to is not None and settings.by is not None:
            self.document.report("several-keys", "`to` and `by` both say where the event time goes", node.key("by"))
            return None
        event = None
        if settings.to is not None:
            event = Move(to=settings.to)
        elif settings.by is not None:
            event = Move(by=round(settings.by * 1000))
        if event is None and settings.clock is None:
            self.document.report("missing-key", "`advance` says nothing", key, one_of(("to", "by", "clock")))
        return AdvanceStep(key, event, settings.clock)

    def _idle(self, key: Scalar, node: Node) -> Step | None:
        if _is_yes(node):
            return IdleStep(key)
        seconds = self._parsed(node, "idle", parse_duration)
        return None if seconds is None else IdleStep(key, round(seconds * 1000))

    def _crash(self, key: Scalar, node: Node) -> Step | None:
        if _is_yes(node):
            return StopStep(key, "crash")
        if isinstance(node, Scalar) and node.value == "before_commit":
            return StopStep(key, "before_commit")
        message = f"`crash` must be nothing or before_commit, got {describe(node)}"
        self.document.report("wrong-value", message, node, help="`- crash` kills the tasks where it stands")
        return None

    def _end(self, key: Scalar, node: Node) -> Step | None:
        if _is_yes(node):
            return EndStep(key)
        items = node.items if isinstance(node, Sequence) else [node]
        named = tuple((item.text, item) for item in items if isinstance(item, Scalar) and isinstance(item.value, str))
        if len(named) != len(items):
            message = f"`end` must be nothing, or the ids of sources, got {describe(node)}"
            self.document.report("wrong-type", message, key)
            return None
        return EndStep(key, named)

    def _parsed(self, node: Node | None, name: str, parse: Callable[[object], T]) -> T | None:
        if node is None:
            return None
        try:
            return parse(plain_value(node))
        except ValueError as error:
            message = f"`{name}` must be {str(error).removeprefix('expected ')}, got {describe(node)}"
            self.document.report("wrong-value", message, node)
            return None


def is_envelope(node: Node) -> bool:
    """Whether a record is written with its parts: `value`, and `key` and others beside it."""
    return isinstance(node, Mapping) and "value" in node.entries and all(key in ENVELOPE for key in node.entries)


def _given_value(node: Node) -> Any:
    value = plain_value(node)
    return value if value is None or isinstance(value, str | dict) else orjson.dumps(value).decode()


def _is_yes(node: Node) -> bool:
    return isinstance(node, Scalar) and (node.value is None or node.value is True)


def _only(node: Mapping, words: list[str]) -> dict[str, tuple[Scalar, Node]]:
    return {word: node.entries[word] for word in words}

"""`--update`: what came is written into the test file in place of what was expected, and nothing else changes there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from streamd.config.model_check import plain_value
from streamd.config.yaml_nodes import Mapping as MappingNode
from streamd.config.yaml_nodes import Node, Sequence
from streamd.testing.case_file import CaseFile, Counted, ExpectStep, ViewWanted, Wanted
from streamd.testing.compare import Pair, same
from streamd.testing.read_expect import ENVELOPE
from streamd.testing.records import only
from streamd.testing.run_case import Look, Problem, Result
from streamd.testing.yaml_values import WIDTH, flow, item, items, scalar

# What is written of a dead letter that nobody expected.
_DEAD_LETTER = ("component", "error", "message", "value")


def updated(file: CaseFile, results: Iterable[Result]) -> tuple[str, list[Problem]]:
    """The file's text with what came, and the problems that this does not solve."""
    update = _Update(file.document.source.text)
    left: list[Problem] = []
    for result in results:
        left += update.case(result)
    return update.text, left


class _Update:
    """Changes of one text: (start, end, new) by the places of the old one."""

    def __init__(self, text: str) -> None:
        self._old = text
        # By their start: an anchor's node may be changed by several cases, and the first one counts.
        self._edits: dict[int, tuple[int, str]] = {}

    @property
    def text(self) -> str:
        """The new text."""
        pieces, at = [], 0
        for start, (end, new) in sorted(self._edits.items()):
            if start >= at:
                pieces += [self._old[at:start], new]
                at = end
        return "".join([*pieces, self._old[at:]])

    def case(self, result: Result) -> list[Problem]:
        """Take what came in one case. Returns the problems that are left."""
        if result.broken:
            return result.problems
        solved = {id(look) for look in result.looks if not look.ok and self._look(look)}
        for counted, got in result.counts:
            self._count(counted, got)
        for view, held in result.views:
            self._view(view, held)
        for step, looks, counts in result.everything:
            self._everything(step, looks, counts)
        nodes = {id(step.at) for step, _, _ in result.everything} | {id(counted.at) for counted, _ in result.counts}
        nodes |= {id(view.at) for view, _ in result.views}
        return [
            problem
            for problem in result.problems
            if not (id(problem.look) in solved if problem.look is not None else id(problem.at) in nodes)
        ]

    def _edit(self, start: int, end: int, new: str) -> None:
        self._edits.setdefault(start, (end, new))

    def _count(self, counted: Counted, got: int) -> None:
        self._edit(counted.node.start, counted.node.end, str(got))

    def _view(self, view: ViewWanted, held: Mapping[str, Any]) -> None:
        if isinstance(view.node, MappingNode) and view.node.entries:
            for key, (_, node) in view.node.entries.items():
                if not same(view.values[key], held[key]):
                    self._edit(node.start, node.end, flow(held[key]))
            return
        indent = self._column(view.at.start) + 2
        lines = "".join(f"\n{' ' * indent}{scalar(key)}: {flow(value)}" for key, value in held.items())
        self._edit(view.at.end + 1, max(view.node.end, view.at.end + 1), lines or " {}")

    def _look(self, look: Look) -> bool:
        expected = look.expected
        if expected.contains:
            return False
        if expected.count is not None and expected.count_node is not None:
            self._edit(expected.count_node.start, expected.count_node.end, str(len(look.got)))
        node = expected.node
        if node is None:
            return True
        if isinstance(node, Sequence) and node.items and self._old[node.start] == "-":
            self._block_list(look, node)
        else:
            values = [_written(look, pair) for pair in look.pairs or map(_came, range(len(look.got)))]
            self._whole_list(expected.at, node, [value for value in values if value is not _GONE])
        return True

    def _whole_list(self, key: Node, node: Node, values: list[Any]) -> None:
        """A list that is empty, not written yet, or stands in brackets."""
        in_flow = any(bracket in self._old[self._line_start(key.start) : key.start] for bracket in "{[")
        one_line = self._old[node.start : node.end].startswith("[") and "\n" not in self._old[node.start : node.end]
        text = item(values, 0)
        fits = self._column(node.start) + len(text) <= WIDTH
        if (in_flow and fits) or (one_line and isinstance(node, Sequence) and node.items and fits):
            self._edit(node.start, node.end, text)
            return
        if in_flow:
            indent = " " * (len(self._indent_of(node.start)) + 4)
            lines = "".join(f"\n{indent}{item(value, 0)}," for value in values)
            self._edit(node.start, node.end, f"[{lines}\n{indent[2:]}]")
            return
        start = key.end + 1 if self._old[key.end : key.end + 1] == ":" else node.start
        self._edit(start, max(node.end, start), items(values, self._column(key.start) + 2))

    def _block_list(self, look: Look, node: Sequence) -> None:
        """A list with an item on each line: only those that differ are touched."""
        if not look.got:
            self._edit(node.start, node.end, "[]")
            return
        wanted = look.expected.wanted
        column = self._column(node.start)
        lines = "\n" in self._old[wanted[0].node.start : wanted[0].node.end]
        # New items stand behind the one before them, or where the first one does.
        behind, fresh = node.start, ""
        for pair in look.pairs:
            if pair.wanted is not None:
                self._insert(behind, fresh, column, first=behind == node.start)
                fresh = ""
                old = wanted[pair.wanted].node
                if pair.got is None:
                    start, end = self._line_start(old.start), self._line_end(old.end)
                    self._edit(*((start, end, "") if start > 0 else (old.start, old.end, "")))
                elif not pair.same:
                    self._edit(old.start, old.end, item(_written(look, pair), column + 2, lines=lines))
                behind = self._line_end(old.end)
            else:
                fresh += f"{' ' * column}- {item(_written(look, pair), column + 2, lines=lines)}\n"
        self._insert(behind, fresh, column, first=behind == node.start)

    def _insert(self, at: int, text: str, column: int, *, first: bool) -> None:
        if not text:
            return
        if first:
            self._edit(at, at, text[column:] + " " * column)
            return
        start = "" if self._old[at - 1 : at] == "\n" else "\n"
        before = self._edits.get(at)
        if before is not None and before[1] == "":  # what stood here goes
            self._edits[at] = (before[0], start + text)
        else:
            self._edit(at, at, start + text)

    def _everything(self, step: ExpectStep, looks: list[Look], counts: Mapping[str, Mapping[str, int]]) -> None:
        at = step.at
        indent = self._column(at.start) + 2
        text = "" if self._old[at.end : at.end + 1] == ":" else ":"
        looks = [look for look in looks if look.got or look.output != "dead_letters"]
        if len(looks) == 1 and not counts:
            values = [_record(look, got, None) for look in looks for got in look.got]
            text += items(values, indent)
        else:
            for look in looks:
                values = [_record(look, got, None) for got in look.got]
                text += f"\n{' ' * indent}{look.output}:{items(values, indent + 2)}"
            for what, numbers in counts.items():
                text += f"\n{' ' * indent}{what}: {sum(numbers.values())}"
        start = at.end + (0 if text.startswith(":") else 1)
        self._edit(start, start, text)

    def _column(self, index: int) -> int:
        return index - self._line_start(index)

    def _indent_of(self, index: int) -> str:
        """The blanks and dashes that the line begins with."""
        line = self._old[self._line_start(index) : index]
        return line[: len(line) - len(line.lstrip(" -"))]

    def _line_start(self, index: int) -> int:
        return self._old.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        """Behind the end of the line."""
        end = self._old.find("\n", index)
        return len(self._old) if end < 0 else end + 1


_GONE = object()


def _came(number: int) -> Pair:
    return Pair(None, number)


def _written(look: Look, pair: Pair) -> Any:
    """What is to stand in the list for a pair; _GONE when nothing is."""
    if pair.got is None:
        return _GONE
    wanted = look.expected.wanted
    like = wanted[pair.wanted] if pair.wanted is not None else (wanted[0] if wanted else None)
    return _record(look, look.got[pair.got], like)


def _record(look: Look, got: Mapping[str, Any], like: Wanted | None) -> Any:
    """A record as it is written: with the same parts as another one, where there is one."""
    expected = look.expected
    parts = dict(got)
    if expected.fields:
        parts["value"] = only(parts["value"], expected.fields)
    if like is not None and not like.whole:
        written = {name: parts.get(name) for name in like.parts}
        if isinstance(plain_value(like.node).get("timestamp"), str):
            moment = datetime.fromtimestamp(parts["timestamp"] / 1000, UTC)
            written["timestamp"] = moment.isoformat().replace("+00:00", "Z")
        return written
    if expected.kind == "dead_letters":
        return {name: parts[name] for name in _DEAD_LETTER}
    value = parts["value"]
    mistakable = isinstance(value, Mapping) and "value" in value and all(name in ENVELOPE for name in value)
    return {"value": value} if mistakable else value

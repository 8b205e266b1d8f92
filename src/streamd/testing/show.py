"""What a failed case looks like: each record that is not as expected, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from streamd.config.file_text import FileText
from streamd.config.yaml_nodes import Node
from streamd.testing.compare import FieldChange, Pair, changes
from streamd.testing.records import compared
from streamd.testing.run_case import Look, Problem, Result

# Records of one look, and characters of one value, that are shown.
MOST_RECORDS = 12
LONGEST = 160
# Fields that stay the same are shown to tell which record it is, so many at most.
SAME_FIELDS = 3

Paint = Callable[[str, str], str]


def plain(text: str, colour: str) -> str:
    """No colour at all."""
    return text


def failure_lines(result: Result, source: FileText, paint: Paint = plain) -> Iterator[str]:
    """All problems of a case. `paint(text, colour)`: colours are red, green, dim and bold."""
    for problem in result.problems:
        yield from _problem_lines(problem, source, paint)


def _problem_lines(problem: Problem, source: FileText, paint: Paint) -> Iterator[str]:
    yield f"  {paint(str(source.place(problem.at.start)), 'bold')}: {problem.message}"
    if problem.look is not None:
        yield from _look_lines(problem.look, source, paint)
    if problem.values is not None:
        yield from _field_lines(*problem.values, paint)
    if problem.help:
        yield f"     = help: {problem.help}"


def _look_lines(look: Look, source: FileText, paint: Paint) -> Iterator[str]:
    if look.expected.node is None and not look.pairs:
        if look.expected.count is not None and look.got:
            yield from (f"      {one_line(got['value'])}" for got in look.got[:MOST_RECORDS])
        return
    shown = [pair for pair in look.pairs if not pair.same and not (look.expected.contains and pair.wanted is None)]
    for pair in shown[:MOST_RECORDS]:
        yield from _pair_lines(look, pair, source, paint)
    if len(shown) > MOST_RECORDS:
        yield paint(f"      … and {len(shown) - MOST_RECORDS} more", "dim")
    if look.expected.contains and look.got:
        yield paint("      what came:", "dim")
        yield from (f"      {one_line(got['value'])}" for got in look.got[:MOST_RECORDS])


def _pair_lines(look: Look, pair: Pair, source: FileText, paint: Paint) -> Iterator[str]:
    expected = look.expected
    if pair.wanted is None:
        assert pair.got is not None
        got = look.got[pair.got]
        yield f"    {paint('not expected', 'bold')}, record {pair.got + 1} of {len(look.got)}:"
        yield paint(f"    + {one_line(got if look.output == 'dead_letters' else got['value'])}", "green")
        return
    wanted = expected.wanted[pair.wanted]
    place = _line(wanted.node, source)
    if pair.got is None or expected.contains:
        parts = wanted.parts["value"] if wanted.whole else wanted.parts
        yield f"    {paint('missing', 'bold')}, record {pair.wanted + 1} ({place}):"
        yield paint(f"    - {one_line(parts)}", "red")
        return
    ours, theirs = compared(expected, wanted, look.got[pair.got])
    moved = "" if pair.got == pair.wanted else f", came as number {pair.got + 1}"
    yield f"    {paint('different', 'bold')}, record {pair.wanted + 1} ({place}){moved}:"
    yield from _field_lines(ours, theirs, paint)


def _field_lines(wanted: Any, got: Any, paint: Paint) -> Iterator[str]:
    found = changes(wanted, got)
    names = [change.name for change in found] + [name for name, _ in _unchanged(wanted, found)]
    width = min(24, max(map(len, names), default=0))
    for name, value in _unchanged(wanted, found):
        yield paint(f"        {name:<{width}}  {one_line(value)}", "dim")
    for change in found:
        name = f"{change.name:<{width}}" if change.name else ""
        if not change.added:
            yield paint(f"      - {name}  {one_line(change.wanted)}", "red")
        if change.gone:
            yield paint(f"      + {name}  (not there)", "green")
        else:
            extra = "  (not expected)" if change.added else _type_note(change)
            yield paint(f"      + {name}  {one_line(change.got)}{extra}", "green")


def _unchanged(wanted: Any, found: list[FieldChange]) -> list[tuple[str, Any]]:
    if not isinstance(wanted, Mapping):
        return []
    touched = {change.name.split(".")[0].split("[")[0] for change in found}
    return [(name, value) for name, value in wanted.items() if name not in touched][:SAME_FIELDS]


def _type_note(change: FieldChange) -> str:
    if type(change.wanted) is not type(change.got) and str(change.wanted) == str(change.got):
        return f"  ({_kind(change.got)}, not {_kind(change.wanted)})"
    return ""


def _kind(value: Any) -> str:
    kinds = {str: "text", bool: "a boolean", type(None): "null", dict: "an object", list: "a list"}
    return kinds.get(type(value), "a number")


def _line(node: Node, source: FileText) -> str:
    return f"line {source.place(node.start).line}"


def one_line(value: Any) -> str:
    """A value as JSON, cut when it is long."""
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

"""In words, where two runs differ and in what: names of fields and places, never what records hold."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from streamd.verify.compare import Comparison, Row, Verdict
from streamd.verify.documents import Canonical
from streamd.verify.outputs import OutputRecord
from streamd.verify.scratch import Input, Output

LOOKED_AT = 20  # changed records of each output

Fetch = Callable[[str, int, Row], Awaitable[OutputRecord | None]]
"""(run, output, row) → the record"""


class Origins:
    """Names input records as users find them: source, partition."""

    def __init__(self, inputs: tuple[Input, ...], lanes: array[int]) -> None:
        self._lanes = lanes
        self._names = [f"{source.id}[{p}]" for source in inputs for p in range(source.partitions)]

    def of(self, origin: int) -> str:
        """`record 17 of orders[2]`, or nothing for what cannot be traced."""
        if not 0 <= origin < len(self._lanes):
            return ""
        lane = self._lanes[origin]
        return f"input record {sum(1 for other in self._lanes[:origin] if other == lane)} of {self._names[lane]}"


async def details(
    comparison: Comparison,
    index: int,
    output: Output,
    verdict: Verdict,
    canonical: Canonical,
    fetch: Fetch,
    origins: Origins,
) -> list[str]:
    """What differs in an output, in a few lines."""
    found = []
    changed = comparison.changed(index, LOOKED_AT)
    if changed:
        fields = await _fields(index, changed, canonical, fetch)
        names = ", ".join(name for name, _ in fields.most_common(8))
        found.append(f"{output.id}: changed in {names}; first: {_place(output, changed[0][0], origins)}")
    for count, word, kind in (
        (verdict.lost, "lost", "missing"),
        (verdict.duplicated + verdict.unexpected, "too many", "extra"),
    ):
        rows = comparison.first(index, kind, 1) if count else ()
        found += [f"{output.id}: {word}, first: {_place(output, row, origins)}" for row in rows]
    return found


async def _fields(index: int, pairs: list[tuple[Row, Row]], canonical: Canonical, fetch: Fetch) -> Counter[str]:
    """How often each field differs."""
    fields: Counter[str] = Counter()
    for before, after in pairs:
        one, other = await fetch("a", index, before), await fetch("b", index, after)
        if one is not None and other is not None:
            fields.update(canonical.differences(one, other) or ["_partition"])
    return fields


async def fields_of(
    comparison: Comparison, outputs: tuple[Output, ...], canonicals: list[Canonical], fetch: Fetch
) -> dict[str, list[str]]:
    """{output: the fields that differ in it}."""
    found: dict[str, list[str]] = {}
    for index, output in enumerate(outputs):
        fields = await _fields(index, comparison.changed(index, LOOKED_AT), canonicals[index], fetch)
        if fields:
            found[output.id] = sorted(fields)
    return found


def _place(output: Output, row: Row, origins: Origins) -> str:
    where = f"line {row.number + 1}" if output.kind == "file" else f"offset {row.number} of partition {row.place}"
    origin = origins.of(row.origin)
    return f"{origin}, {where}" if origin else where


def own_differences(fields: Mapping[str, list[str]], different: Sequence[str], known: Sequence[str]) -> str:
    """Why there is nothing to compare with. `fields`: {output: names}; `different`: outputs; `known`: reasons."""
    begin = "this pipeline's own output differs between two undisturbed runs"
    why = f" ({'; '.join(known)})" if known else ""
    if not fields:
        where = ", ".join(different)
        return f"{begin}, in which records come to {where}{why}: there is nothing to compare a disturbed run with"
    names = sorted({name for found in fields.values() for name in found})
    return f"{begin}: fields {', '.join(names)}{why}; leave them out with --ignore-fields {','.join(names)}"

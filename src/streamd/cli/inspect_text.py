"""A profile as a terminal shows it, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamd.cli.state import columns
from streamd.cli.times import moment
from streamd.inspect.sample import Sample
from streamd.inspect.starter import bound
from streamd.inspect.target import Target
from streamd.profile.bounds import EXAMPLE_CHARACTERS
from streamd.profile.candidates import Candidates
from streamd.profile.times import Times
from streamd.profile.values import Values

_HEAD = ("field", "types", "missing", "null", "distinct", "range", "length", "examples")
_RIGHT = frozenset({2, 3, 4})
_SHOWN_FIELDS = 1_000


def profile_lines(target: Target, sample: Sample, found: Candidates, *, examples: bool) -> Iterator[str]:
    """A profile for people. Without `examples` nothing of the records' contents is in it but numbers of them."""
    yield _title(target, sample)
    for reason, count in sample.undecodable.most_common():
        yield f"  {count:,} undecodable: {_safe(reason)}"
    if sample.tombstones:
        yield f"  {sample.tombstones:,} without value (tombstones)"
    yield f"  keys: {_keys(sample, examples)}"
    rows = list(sample.values.walk())
    table = [_row(path, values, possible, examples) for path, values, possible in rows[:_SHOWN_FIELDS]]
    if table:
        yield ""
        yield from columns([_HEAD, *table], _RIGHT)
    if len(rows) > _SHOWN_FIELDS:
        yield f"… and {len(rows) - _SHOWN_FIELDS:,} more fields; --json has all of them"
    if any(values.cut for values in (sample.values, *(values for _, values, _ in rows))):
        yield "not all fields were looked at: there are too many, or they lie too deep"
    lines = list(_candidate_lines(sample, found, examples))
    yield from (["", *lines] if lines else [])


def _title(target: Target, sample: Sample) -> str:
    name = target.uri or f"source {target.source.id} of {target.pipeline.name}"
    partitions = f", {sample.partitions} partitions" if sample.partitions != 1 else ""
    late = "; time was up before there were more" if sample.timed_out else ""
    size = f", {sample.bytes:,} bytes" if sample.bytes else ""
    records = f"{sample.records:,} record{'s'[: sample.records != 1]}"
    return f"{name}: {records}{size}{partitions}{late}"


def _keys(sample: Sample, examples: bool) -> str:
    keys = sample.keys
    if keys.nulls == keys.count:
        return "none"
    nulls = f", {keys.nulls:,} null" if keys.nulls else ""
    shown = f", like {_examples(keys)}" if examples else ""
    return f"{_types(keys)}, {_distinct(keys)} different{nulls}{shown}"


def _row(path: str, values: Values, possible: int, examples: bool) -> tuple[str, ...]:
    lengths = "" if values.shortest is None else _span(values.shortest, values.longest)
    limits = "" if values.least is None or not examples else _span(values.least, values.greatest)
    return (
        _safe(path),
        _types(values),
        _share(possible - values.count, possible),
        _share(values.nulls, values.count),
        _distinct(values) if values.scalars else "",
        limits,
        lengths,
        _examples(values) if examples else "",
    )


def _types(values: Values) -> str:
    kinds = sorted(((n, kind) for kind, n in values.types.items() if kind != "null"), reverse=True)
    if len(kinds) <= 1:
        return kinds[0][1] if kinds else "null"
    known = values.count - values.nulls
    return ", ".join(f"{kind} {_share(count, known)}" for count, kind in kinds)


def _share(count: int, of: int) -> str:
    """A share for people: never 0 % for some, nor 100 % for not all."""
    if not count or not of:
        return ""
    share = 100 * count / of
    return f"{min(max(share, 0.1), 99.9):.1f} %" if count < of else "100 %"


def _distinct(values: Values) -> str:
    mark = "" if values.distinct.exact else "≥ " if values.distinct.at_least else "≈ "
    return f"{mark}{values.distinct.count:,}"


def _span(least: Any, greatest: Any) -> str:
    return f"{least}" if least == greatest else f"{least} … {greatest}"


def _examples(values: Values) -> str:
    return ", ".join(_safe(str(one))[:EXAMPLE_CHARACTERS] for one in values.examples)


def _safe(text: str) -> str:
    """What a terminal would take for orders is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _candidate_lines(sample: Sample, found: Candidates, examples: bool) -> Iterator[str]:
    for path, times in found.times:
        lacking = "" if path in found.always else ", not in all records"
        yield f"event time?  {_safe(path)}: {_time_text(times)}{lacking}"
    for path in found.keys:
        yield f"key?         {_safe(path)}: different in every record"
    places = {path: values for path, values, _ in sample.values.walk()}
    for path in found.enums:
        few = places[path].few or {}
        said = ", ".join(_safe(str(value)) for (_, value), _ in sorted(few.items(), key=lambda each: -each[1]))
        yield f"enum?        {_safe(path)}: {said if examples else f'{len(few)} values'}"


def _time_text(times: Times) -> str:
    unit = {"iso": "ISO 8601 text", "ms": "milliseconds", "s": "seconds"}[times.unit or "ms"]
    order = "in order" if not times.behind else f"out of order by up to {bound(times)}"
    return f"{unit}, {moment(times.first)} to {moment(times.last)}, {order}"


def profile_json(target: Target, sample: Sample, found: Candidates, *, examples: bool) -> dict[str, Any]:
    """The same for programs."""
    return {
        "input": target.uri,
        "source": target.source.id,
        "records": sample.records,
        "bytes": sample.bytes,
        "partitions": sample.partitions,
        "timed_out": sample.timed_out,
        "tombstones": sample.tombstones,
        "undecodable": dict(sample.undecodable),
        "keys": _values_json(sample.keys, sample.records, examples),
        "fields": [
            {"path": path} | _values_json(values, possible, examples) for path, values, possible in sample.values.walk()
        ],
        "event_times": [
            {
                "path": path,
                "unit": times.unit,
                "first": times.first,
                "last": times.last,
                "out_of_order_ms": times.behind,
                "always": path in found.always,
            }
            for path, times in found.times
        ],
        "keys_by_field": list(found.keys),
        "enums": list(found.enums),
    }


def _values_json(values: Values, possible: int, examples: bool) -> dict[str, Any]:
    known: dict[str, Any] = {
        "count": values.count,
        "missing": possible - values.count,
        "null": values.nulls,
        "types": dict(values.types),
        "distinct": values.distinct.count,
        "distinct_is": "exact" if values.distinct.exact else "at_least" if values.distinct.at_least else "estimate",
        "shortest": values.shortest,
        "longest": values.longest,
        "whole": not values.cut,
    }
    if examples:
        known["least"], known["greatest"] = values.least, values.greatest
        known["examples"] = [
            one if isinstance(one, int | float | bool) else str(one)[:EXAMPLE_CHARACTERS] for one in values.examples
        ]
        if values.few:
            known["values"] = [{"value": value, "count": count} for (_, value), count in values.few.items()]
    return known

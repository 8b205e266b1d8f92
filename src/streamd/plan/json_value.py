"""The document as JSON: a record's own bytes wherever they still say the same, with new fields behind them where it
only got some, and written anew otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.codecs.json.codec import encode_finite
from streamd.plan import runtime_names as names
from streamd.plan.document import Base, Document

if TYPE_CHECKING:
    from streamd.plan.body import FusedBody


def json_value(body: FusedBody, *, own: bool, checked: bool = False) -> str:
    """Python source of the document at hand as bytes. `own`: whether the record's bytes are JSON that may go on;
    `checked`: it may hold numbers that JSON has no word for, which are refused.
    """
    doc = body.path.document
    if checked:
        return f"{body.constant('encode_finite', encode_finite)}({body.document()})"
    raw = doc.raw if own else None
    if raw and doc.unchanged:
        return f"({raw} if {raw} is not None else {_anew(body)})" if doc.raw_or_none else raw
    required = any(required for _, required in body.code.use.struct_fields())
    if raw and doc.base is Base.TYPED and required and not doc.dropped:
        return _spliced(body, doc)
    return _anew(body)


def _anew(body: FusedBody) -> str:
    # What orjson gives has room for a long text behind it: to keep that costs several times the copy.
    return f"b'%b' % {body.constant('dumps', names.dumps)}({body.last_document()})"


def _spliced(body: FusedBody, doc: Document) -> str:
    """Put new fields behind the record's own, into its own bytes; parse it only when it has one of them already."""
    unset, loads = body.constant("UNSET", names.UNSET), body.constant("loads", names.loads)
    dumps = body.constant("dumps", names.dumps)
    absent = [f"{doc.var}.{names.attribute(name)} is {unset}" for name in doc.overlay]
    value = body.code.fresh("value")
    body.line(f"if {' and '.join(absent)} and {doc.raw}[-1] == 125:")
    body.line(f"    {value} = b'%b,%b' % ({doc.raw}[:-1], {dumps}({{{doc.literal()}}})[1:])")
    body.line("else:")
    body.line(f"    {value} = b'%b' % {dumps}({{**{loads}({doc.raw}), {doc.literal()}}})")
    return value

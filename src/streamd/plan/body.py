"""What a stage sees of the generated function while it writes its lines: the `Body` contract, on one path."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from streamd.codecs import Codec
from streamd.codecs.beside import HeaderReaders
from streamd.expr import Expression
from streamd.plan import runtime_names as names
from streamd.plan.document import Base, Document, FieldUse
from streamd.plan.json_value import json_value

_KEY_LOST = (
    "`_key` is not what the source read here: records have moved by another key before this stage; take it into the "
    "document first, as `set: {key: _key}` before this stage does, and name that field"
)


class FuseError(Exception):
    """A stage cannot be compiled where it stands: for instance a field that `map` has dropped is read after it."""

    def __init__(self, stage_id: str, message: str, code: str = "unknown-field") -> None:
        super().__init__(message)
        self.stage_id, self.code = stage_id, code


@dataclass(slots=True)
class Code:
    """The lines of the generated function, its constants and its counters.

    `owners` says for each line which component wrote it: an exception's line number tells the stage that failed.
    `given`: variables whose dict was given away, or got another name.
    `counters` are (variable, component id, what) with what in "filtered", "elements", "output:NAME", "checked",
    "broken:RULE". `passing`: stages that are to get records' own bytes; `unlike`: those of them that have none here.
    `may_hold_nan`: whether documents may hold what JSON has no word for.
    """

    lines: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    namespace: dict[str, Any] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: set(names.RESERVED))
    counters: list[tuple[str, str, str]] = field(default_factory=list)
    use: FieldUse = field(default_factory=FieldUse)
    passing: frozenset[str] = frozenset()
    unlike: set[str] = field(default_factory=set)
    may_hold_nan: bool = False
    given: set[str] = field(default_factory=set)

    def line(self, indent: int, source: str, owner: str) -> None:
        self.lines.append("    " * indent + source)
        self.owners.append(owner)

    def fresh(self, hint: str) -> str:
        """A new variable name that looks like the hint."""
        word = re.sub(r"\W", "_", hint) or "x"
        if word[0].isdigit() or keyword.iskeyword(word) or word.startswith("__"):
            word = f"x_{word}"
        name, n = word, 2
        while name in self.taken:
            name, n = f"{word}_{n}", n + 1
        self.taken.add(name)
        return name

    def counter(self, component: str, what: str) -> str:
        for variable, owner, kind in self.counters:
            if (owner, kind) == (component, what):
                return variable
        variable = self.fresh(f"{what.replace(':', '_')}_{component}")
        self.counters.append((variable, component, what))
        return variable

    def constant(self, hint: str, value: Any) -> str:
        for name, bound in self.namespace.items():
            if bound is value:
                return name
        own = hint in names.RESERVED and hint in vars(names)
        name = hint if own else self.fresh(hint)
        self.namespace[name] = value
        return name


@dataclass(frozen=True, slots=True)
class Reading:
    """How a record's key and headers are read where a path stands: as text, where nothing is said.

    `key_lost`: as in `Origin`. `mixed_key`, and `mixed_headers` by header: why they cannot be.
    """

    decode_key: Callable[[bytes | None], Any] | None = None
    key_codec: Codec | None = None
    headers: HeaderReaders = field(default_factory=lambda: HeaderReaders({}))
    key_lost: bool = False
    mixed_key: str = ""
    mixed_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Path:
    """Where the writing stands on one way through the graph.

    `may_continue`: nothing else follows in the innermost loop, so that a record can be given up with `continue`.
    `repeated`: what follows runs once for each element of a list.
    `filtered`: some records may already be gone, so a full parse from here on is not paid by every record.
    `watermark`: the variable that holds it, where a keyed stage wants it. `beside`: how key and headers are read.
    """

    indent: int
    document: Document
    key: str = "r.key"
    timestamp: str = "r.timestamp"
    headers: str = "r.headers"
    may_continue: bool = True
    repeated: bool = False
    filtered: bool = False
    watermark: str | None = None
    beside: Reading = field(default_factory=Reading)

    def branch(self, *, last: bool) -> Path:
        return replace(self, may_continue=self.may_continue and last)


class FusedBody:
    """The `Body` of one stage on one path. Also the `Resolver` of the expressions that the stage evaluates there."""

    def __init__(self, code: Code, path: Path, stage_id: str, topic: str) -> None:
        self.code, self.path, self.stage_id, self.topic = code, path, stage_id, topic
        self.outputs: list[tuple[str, str | None, bool]] = []
        # Of the expression at hand: the headers that it reads, None for all.
        self._header_names: frozenset[str] | None = None

    # What stages call.

    def value(self, expression: Expression, names: Mapping[str, str] | None = None) -> str:
        self._header_names = expression.headers
        return expression.source(NamedHere(self, names) if names else self)

    def local(self, name_hint: str, source: str) -> str:
        if source.isidentifier() and source in self.code.taken:
            return source
        name = self.code.fresh(name_hint)
        self.line(f"{name} = {source}")
        return name

    def collect(self, name_hint: str, expression: Expression, names: Mapping[str, str] | None = None) -> str:
        self._header_names = expression.headers
        collected = self.code.fresh(name_hint)
        lines = expression.loop_lines(NamedHere(self, names) if names else self, collected, self.code.fresh)
        for line in lines or [f"{collected} = {self.value(expression, names)}"]:
            self.line(line)
        return collected

    def constant(self, hint: str, value: Any) -> str:
        return self.code.constant(hint, value)

    def line(self, source: str) -> None:
        self.code.line(self.path.indent, source, self.stage_id)

    def count(self, what: str) -> str:
        return self.code.counter(self.stage_id, what)

    def keep_if(self, condition: str) -> None:
        counter = self.code.counter(self.stage_id, "filtered")
        if self.path.may_continue:
            self.line(f"if not ({condition}):")
            self.code.line(self.path.indent + 1, f"{counter} += 1", self.stage_id)
            self.code.line(self.path.indent + 1, "continue", self.stage_id)
        else:
            # What comes after this path in the same loop must still run: nest instead of leaving.
            self.line(f"kept = {condition}")
            self.line("if not kept:")
            self.code.line(self.path.indent + 1, f"{counter} += 1", self.stage_id)
            self.line("else:")
            self.path.indent += 1
        self.path.filtered = True

    def set_field(self, path: Sequence[str], source: str) -> None:
        name, rest = path[0], tuple(path[1:])
        if rest:
            old = self.field_or(name, "None")
            source = f"{self.constant('with_path', names.with_path)}({old}, {rest!r}, {source})"
        self._shadow(name)
        self.path.document = self.path.document.with_field(name, self.local(name, source))

    def drop_field(self, path: Sequence[str]) -> None:
        if len(path) == 1:
            self._own_base()
            self.path.document = self.path.document.without_field(path[0])
        else:
            drop = self.constant("without_path", names.without_path)
            self.replace_document(f"{drop}({self.document()}, {tuple(path)!r})")

    def replace(self, fields: Mapping[str, str]) -> None:
        # Each value is computed once and before any of the names changes: they may be read again further on.
        overlay = {name: self.local(name, source) for name, source in fields.items()}
        self.path.document = Document(Base.NOTHING, overlay=overlay)

    def replace_document(self, source: str) -> None:
        self.path.document = Document(Base.DICT, self.local("document", source))

    def document(self) -> str:
        self._own_base()
        doc = self.path.document
        if doc.base is Base.NOTHING:
            return f"{{{doc.literal()}}}"
        if not doc.overlay and not doc.dropped:
            self.code.given.add(doc.var)
            return doc.var
        whole = f"{{**{doc.var}, {doc.literal()}}}" if doc.overlay else f"{{**{doc.var}}}"
        if not doc.dropped:
            return whole
        without = self.constant("without_fields", names.without_fields)
        return f"{without}({whole}, {self.constant('dropped', doc.dropped)})"

    def json(self) -> str:
        return json_value(self, own=self.path.document.raw_format == "json", checked=self.code.may_hold_nan)

    def as_read(self) -> str:
        doc = self.path.document
        if self.stage_id not in self.code.passing:
            return self.document()
        if doc.raw and doc.unchanged and not doc.raw_or_none and doc.raw_format == "json":
            return doc.raw
        self.code.unlike.add(self.stage_id)
        return self.document()

    def last_document(self) -> str:
        """The whole document for its last reader: the parsed one, changed in place, where nobody else has it.

        A record that fails after that goes on as it came, as bytes.
        """
        self._own_base()
        doc = self.path.document
        if not (doc.own and self.path.may_continue) or self.path.repeated or doc.var in self.code.given:
            return self.document()
        for name, value in doc.overlay.items():
            self.line(f"{doc.var}[{name!r}] = {value}")
        for name in sorted(doc.dropped):
            self.line(f"{doc.var}.pop({name!r}, None)")
        return doc.var

    def set_key(self, source: str) -> None:
        self.path.key = self.local("key", source)
        self.path.beside = replace(self.path.beside, decode_key=None, key_codec=None, key_lost=False, mixed_key="")

    def add_headers(self, source: str) -> None:
        self.path.headers = self.local("headers", f"(*{self.path.headers}, *{source})")

    @contextmanager
    def each(self, name_hint: str, iterable: str) -> Iterator[str]:
        counter = self.code.counter(self.stage_id, "elements")
        item = self.code.fresh(name_hint)
        self.line(f"for {item} in {iterable}:")
        self.path.indent += 1
        self.path.may_continue = self.path.repeated = True
        self.line(f"{counter} += 1")
        yield item

    def choose(self, branches: Sequence[tuple[str, Callable[[], None]]]) -> None:
        mark = len(self.code.lines)
        before = self.path.document
        ends = self._branches(branches)
        if not _agree([document for _, document in ends]):
            # They leave different fields: the document is built before them, and by each of them anew.
            del self.code.lines[mark:], self.code.owners[mark:]
            self.path.document = before
            self._own_base()
            ends = self._branches(branches)
        added: list[list[str]] = [[] for _ in ends]
        self.path.document = self._joined([document for _, document in ends], added)
        for (end, _), lines in reversed(list(zip(ends, added, strict=True))):
            if not lines and self.code.lines[end - 1].endswith(":"):
                lines.append("pass")
            self.code.lines[end:end] = ["    " * (self.path.indent + 1) + source for source in lines]
            self.code.owners[end:end] = [self.stage_id] * len(lines)

    def _branches(self, branches: Sequence[tuple[str, Callable[[], None]]]) -> list[tuple[int, Document]]:
        """Write the branches; for each, the line behind it and the document that it leaves."""
        before, ends = self.path.document, []
        for heading, write in branches:
            self.path.document = before
            self.line(heading)
            self.path.indent += 1
            write()
            self.path.indent -= 1
            ends.append((len(self.code.lines), self.path.document))
        return ends

    def _joined(self, documents: Sequence[Document], added: list[list[str]]) -> Document:
        """One document for what the branches leave: at the end of each, lines `added` give it the same names."""
        first = documents[0]
        if not _agree(documents):
            return self._joined_whole(documents, added)
        joined = first
        for name in first.overlay:
            values = [document.overlay[name] for document in documents]
            if len(set(values)) > 1:
                common = self.code.fresh(name)
                joined = joined.with_field(name, common)
                for lines, value in zip(added, values, strict=True):
                    lines.append(f"{common} = {value}")
        return joined

    def _joined_whole(self, documents: Sequence[Document], added: list[list[str]]) -> Document:
        common, here = self.code.fresh("document"), self.path.document
        raws = [document.raw if document.unchanged else None for document in documents]
        raw = self.code.fresh("raw") if any(raws) else None
        for document, own, lines in zip(documents, raws, added, strict=True):
            self.path.document = document
            lines.append(f"{common} = {self.document()}")
            if raw is not None:
                lines.append(f"{raw} = {own}")
        self.path.document = here
        return Document(Base.DICT, common, raw, raw_or_none=raw is not None, raw_format=here.raw_format)

    def output(self, name: str, condition: str | None, *, exclusive: bool = True) -> None:
        self.outputs.append((name, condition, exclusive))

    # What expressions call (`streamd.expr.Resolver`).

    def field(self, name: str) -> str:
        doc = self.path.document
        if name in doc.overlay:
            return doc.overlay[name]
        if doc.base is Base.NOTHING:
            known = ", ".join(doc.overlay) or "no field"
            raise FuseError(self.stage_id, f"there is no field {name!r} here: the document has {known}")
        if name in doc.dropped:
            raise FuseError(self.stage_id, f"there is no field {name!r} here: an earlier stage drops it")
        if doc.base is Base.DICT:
            return f"{doc.var}[{name!r}]"
        self.code.use.read[name] = None
        if name in self.code.use.probed or name in self.code.use.shadowed:
            need = self.constant("need", names.need)
            return f"{need}({doc.var}.{names.attribute(name)}, {name!r})"
        return f"{doc.var}.{names.attribute(name)}"

    def field_or(self, name: str, default: str, *, usual: bool = False) -> str:
        doc = self.path.document
        if name in doc.overlay:
            return doc.overlay[name]
        if doc.base is Base.NOTHING or name in doc.dropped:
            return default
        if doc.base is Base.DICT:
            return (
                f"{doc.var}.get({name!r})"
                if default == "None"
                else f"({doc.var}[{name!r}] if {name!r} in {doc.var} else {default})"
            )
        self.code.use.probed[name] = None
        if usual:
            self.code.use.usual.add(name)
        unset = self.constant("UNSET", names.UNSET)
        attribute = f"{doc.var}.{names.attribute(name)}"
        return f"({attribute} if {attribute} is not {unset} else {default})"

    def has_field(self, name: str) -> str:
        doc = self.path.document
        if name in doc.overlay:
            return "True"
        if doc.base is Base.NOTHING or name in doc.dropped:
            return "False"
        if doc.base is Base.DICT:
            return f"({name!r} in {doc.var})"
        self.code.use.probed[name] = None
        return f"({doc.var}.{names.attribute(name)} is not {self.constant('UNSET', names.UNSET)})"

    def metadata(self, name: str) -> str:
        match name:
            case "_key":
                return self._key_value()
            case "_timestamp":
                return self.path.timestamp
            case "_topic":
                return self.topic
            case "_partition":
                return "partition"
            case "_offset":
                return "r.offset"
            case "_headers":
                return self._header_values()
        raise FuseError(self.stage_id, f"there is no metadata {name!r}")

    def _key_value(self) -> str:
        beside = self.path.beside
        if beside.mixed_key:
            raise FuseError(self.stage_id, f"`_key`: {beside.mixed_key}", "mixed-formats")
        if beside.key_lost:
            raise FuseError(self.stage_id, _KEY_LOST, "key-lost")
        if beside.decode_key is not None:
            return f"{self.constant('decode_key', beside.decode_key)}({self.path.key})"
        return f"{self.constant('key_text', names.key_text)}({self.path.key})"

    def _header_values(self) -> str:
        beside, wanted = self.path.beside, self._header_names
        for name, why in beside.mixed_headers.items():
            if wanted is None or name in wanted:
                raise FuseError(self.stage_id, f"`_headers`: {why}", "mixed-formats")
        reader = beside.headers.of(wanted)
        if reader is not None:
            return f"{self.constant('read_headers', reader)}({self.path.headers})"
        return f"{self.constant('header_map', names.header_map)}({self.path.headers})"

    def tombstone_key(self, names_of: Sequence[str]) -> str:
        decode = self.path.beside.decode_key
        if self.path.beside.mixed_key:
            raise FuseError(self.stage_id, f"the key of a tombstone: {self.path.beside.mixed_key}", "mixed-formats")
        if decode is None:
            return self.path.key
        table_key = self.constant("table_key", names.table_key)
        return f"{table_key}({self.constant('decode_key', decode)}({self.path.key}), {tuple(names_of)!r})"

    def key(self) -> str:
        return self.path.key

    def headers(self) -> str:
        return self.path.headers

    def watermark(self) -> str:
        if self.path.watermark is None:
            raise FuseError(self.stage_id, "there is no watermark here")
        return self.path.watermark

    # How the document changes its base.

    def _shadow(self, name: str) -> None:
        use = self.code.use
        if self.path.document.base is Base.TYPED:
            use.shadowed[name] = None
            # A record that has the field already, as one that was read has, must be parsed whole in the end.
            use.whole = use.whole or ((name in use.read or name in use.usual) and not self.path.filtered)

    def _own_base(self) -> None:
        """Have the whole document as a dict: parse it here when only fields of it were decoded so far."""
        doc = self.path.document
        if doc.base is Base.TYPED:
            if not self.path.filtered:
                self.code.use.whole = True
            loads = self.constant("loads", names.loads)
            whole = self.local("whole", f"{loads}({doc.raw})")
            self.path.document = replace(doc, base=Base.DICT, var=whole, own=True)


def _agree(documents: Sequence[Document]) -> bool:
    """Whether the documents have the same fields over the same base."""
    first = documents[0]
    return all(replace(document, overlay={}) == replace(first, overlay={}) for document in documents) and all(
        document.overlay.keys() == first.overlay.keys() for document in documents
    )


class NamedHere:
    """A `Resolver` to which some names mean something else than fields of the document."""

    def __init__(self, body: FusedBody, names: Mapping[str, str]) -> None:
        self.body, self.names = body, names
        self.metadata, self.document, self.constant = body.metadata, body.document, body.constant

    def field(self, name: str) -> str:
        return self.names[name] if name in self.names else self.body.field(name)

    def field_or(self, name: str, default: str) -> str:
        return self.names[name] if name in self.names else self.body.field_or(name, default)

    def has_field(self, name: str) -> str:
        return "True" if name in self.names else self.body.has_field(name)

"""Chains to code: neighbouring stages become one Python function over a batch.

The function is what one would write by hand for these stages: one loop over the records, fields decoded straight from
the bytes, conditions and assignments as plain Python, output rows appended to lists. `streamd explain --code` prints
it.

    chain(records, partition, failed, TARGET…) → counts

appends to each target's list (rows for sinks and keyed stages, Records for batch stages) and to `failed` (record,
error) for the records that could not be processed; a record that fails leaves nothing in any list. `counts` are in the
order of `counters`.

Where keyed stages follow, the function has one more argument behind `failed`: `times`, a list of the highest event time
seen so far, the watermark, and what other inputs allow the watermark to be at most (all ms). It leaves the first two as
they are after its records.

There are two functions where the values are JSON, the fast one decoding only the fields in use. A record that does not
fit it (a field is missing, the document is not an object) is given to `chain_plain`, which parses it whole and finds
out what is wrong, if anything is. Which fields the fast one decodes is found by writing the chain once for the record
of uses alone, and then again.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec

from streamd.clock import SYSTEM_CLOCK
from streamd.codecs import Codec
from streamd.codecs.format import format_of
from streamd.component.stage import FusedStage, KeyedStage
from streamd.config.pipeline import ComponentConfig
from streamd.plan import runtime_names as names
from streamd.plan.beside import BesideValues
from streamd.plan.body import Code, FusedBody, Path
from streamd.plan.chain import Chain
from streamd.plan.document import Base, Document, FieldUse
from streamd.plan.graph import ChainPlan, PartPlan, outputs_of
from streamd.plan.json_value import json_value
from streamd.record import Record

# By a clock that was set back no record is late.
_LEVEL = "processing_ms = max(processing_ms, high, watermark)"


def fuse(
    part: PartPlan,
    chain: ChainPlan,
    stages: Mapping[str, FusedStage | KeyedStage],
    codecs: Mapping[str, Codec] = MappingProxyType({}),
    passing: frozenset[str] = frozenset(),
) -> Chain:
    """Compile one chain of a part. `stages` are the instances of its fused and keyed stages, by id; `codecs` those of
    its sources and sinks, their keys and headers, and where there is none for one, it is made. `passing`: those stages
    that give records "as read" which get them as bytes from all chains.

    Raises FuseError, which names the stage, when the chain cannot work.
    """
    return _Fuser(part, chain, stages, codecs, passing).compile()


class _Fuser:
    def __init__(
        self,
        part: PartPlan,
        chain: ChainPlan,
        stages: Mapping[str, FusedStage | KeyedStage],
        codecs: Mapping[str, Codec],
        passing: frozenset[str],
    ) -> None:
        self.part, self.chain, self.stages, self.codecs, self.passing = part, chain, stages, dict(codecs), passing
        entry = chain.entry
        self.from_records = entry.kind == "stage"
        passed = entry.spec.gives(entry.settings) == "json" or entry.id in passing
        # Some components decide by their settings: a file gives documents when it holds CSV, and bytes otherwise.
        gives_documents = entry.spec.decoded or getattr(entry.settings, "decoded", False)
        self.decoded = gives_documents if not self.from_records else not passed
        self.format = "json" if self.from_records else getattr(entry.settings, "format", "json")
        # Those that a source lets through pass batch stages as they are, which may also make some.
        self.tombstones = "forward" if self.from_records else getattr(entry.settings, "tombstones", "error")
        self.event_time = None if self.from_records else getattr(entry.settings, "event_time", None)
        self.processing_time = getattr(self.event_time, "clock", "event") == "processing"
        self.max_future: float | None = getattr(self.event_time, "max_future", None)
        self.timed = part.timed
        self.topic = "r.topic" if self.from_records else repr(getattr(entry.settings, "topic", None) or entry.id)
        self.misfit_line = 0
        self.unlike: set[str] = set()
        self.code = self._new_code(FieldUse())
        self.target_names: dict[str, str] = {}
        self.beside = BesideValues(part, self.codecs)
        # A record may leave several rows before it fails when it has several ways out, or many elements.
        self.atomic = False
        self.marks: list[str] = []

    def compile(self) -> Chain:
        use = FieldUse()
        typed = not self.decoded and self.format == "json"
        if typed:
            # The first writing only finds which fields are used, the second knows; a third is needed when the second
            # found that a field is also asked for by `has` or `get`, which changes how it is read.
            for _ in range(3):
                before = use.struct_fields()
                self._write("chain", use)
                use = self.code.use
                if use.whole or use.struct_fields() == before:
                    break
            typed = not use.whole
        self.code = self._new_code(use)
        for target in self.chain.targets:
            self.target_names[target.id] = self.code.fresh(target.id)
        if typed:
            taken = set(self.code.taken)
            self._function("chain", use, typed=True)
            # Local names of one function are free in the other; what both call by name is not.
            self.code.taken = taken | set(self.code.namespace) | {name for name, _, _ in self.code.counters}
            self._function("chain_plain", use, typed=False)
        else:
            self._function("chain", use, typed=False)
        return self._finish(use if typed else FieldUse())

    def _new_code(self, use: FieldUse) -> Code:
        return Code(use=use, passing=self.passing, unlike=self.unlike, may_hold_nan=self._may_hold_nan())

    def _write(self, name: str, use: FieldUse) -> None:
        """Write the fast function only to see which fields it uses."""
        self.code = self._new_code(FieldUse(probed=dict(use.probed), shadowed=dict(use.shadowed)))
        for target in self.chain.targets:
            self.target_names[target.id] = self.code.fresh(target.id)
        self._function(name, use, typed=True)

    def _finish(self, use: FieldUse) -> Chain:
        code = self.code
        source = "\n".join(code.lines) + "\n"
        namespace = dict(code.namespace)
        filename = f"<streamd chain {self.part.index}:{self.chain.entry.id}>"
        exec(compile(source, filename, "exec"), namespace)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        function = namespace["chain"]
        return Chain(
            entry=self.chain.entry.id,
            targets=tuple(t.id for t in self.chain.targets),
            function=function,
            plain=namespace.get("chain_plain", function),
            source=source,
            owners=tuple(code.owners),
            counters=tuple((owner, what) for _, owner, what in code.counters),
            timed=self.timed,
            unlike=frozenset(self.unlike),
            decodes=tuple(name for name, _ in use.struct_fields()),
            keyed={target.id: self.stages[target.id] for target in self.chain.targets if target.spec.keyed},
        )

    def _function(self, name: str, use: FieldUse, *, typed: bool) -> None:
        code, entry = self.code, self.chain.entry.id
        if code.lines:
            code.line(0, "", entry)
            code.line(0, "", entry)
        targets = "".join(f", {self.target_names[t.id]}" for t in self.chain.targets)
        targets = (", times" if self.timed else "") + targets
        code.line(0, f"def {name}(records, partition, failed{targets}):", entry)
        head = len(code.lines)
        code.line(1, "for r in records:", entry)
        code.line(2, "try:", entry)
        path = self._start(use, typed=typed, targets=targets)
        self.atomic = False
        self._fan_out(entry, path)
        # Last, so that no field's variable can have such a name.
        self.marks = [code.fresh(f"mark_{i}") for i in range(len(self.chain.targets))]
        code.line(2, "except Exception as error:", entry)
        if self.atomic:
            for i, target in enumerate(self.chain.targets):
                code.line(3, f"del {self.target_names[target.id]}[{self.marks[i]}:]", entry)
        code.line(3, "failed.append((r, error))", entry)
        counts = [variable for variable, _, _ in code.counters]
        if self.timed and not self.from_records:
            code.line(1, "times[0], times[1] = high, watermark", entry)
        code.line(1, f"return ({', '.join(counts)}{',' if len(counts) == 1 else ''})", entry)
        if self.misfit_line:
            adds = [
                f"{v} += {'1' if what == 'misfits' else f'counts[{i}]'}" for i, (v, _, what) in enumerate(code.counters)
            ]
            if self.timed:
                adds.append("high, watermark, floor = times")
                adds += [_LEVEL] if self.processing_time else []
            self._insert(self.misfit_line, [f"                {add}" for add in adds])
            self.misfit_line = 0
        self._insert_head(head)

    def _insert_head(self, at: int) -> None:
        """Counters start at zero; marks are set per record where a failing record may have left rows already."""
        head = [f"    {variable} = 0" for variable, _, _ in self.code.counters]
        if self.timed:
            head.append("    high, watermark, floor = times")
        if self.processing_time:
            head.append(f"    processing_ms = {self.code.constant('now_ms', SYSTEM_CLOCK.now_ms)}()")
            head += [f"    {_LEVEL}"] if self.timed else []
        elif self.max_future is not None:
            now = self.code.constant("now_ms", SYSTEM_CLOCK.now_ms)
            head.append(f"    limit_ms = {now}() + {round(self.max_future * 1000)}")
        self._insert(at, head)
        if self.atomic:
            targets = zip(self.marks, self.chain.targets, strict=True)
            self._insert(at + len(head) + 1, [f"        {m} = len({self.target_names[t.id]})" for m, t in targets])

    def _insert(self, at: int, lines: list[str]) -> None:
        self.code.lines[at:at] = lines
        self.code.owners[at:at] = [self.chain.entry.id] * len(lines)

    def _start(self, use: FieldUse, *, typed: bool, targets: str) -> Path:
        """Write how a record becomes a document."""
        code, entry = self.code, self.chain.entry.id

        def line(source: str, indent: int = 3) -> None:
            code.line(indent, source, entry)

        path = Path(3, Document(Base.DICT, "d"), beside=self.beside.reading(self.chain.entry))
        plain = self.from_records and self.decoded
        line("d = r.value" if plain else "v = r.raw" if self.from_records else "v = r.value")
        self._tombstone(path, "d" if plain else "v")
        if self.from_records:
            path.watermark = "watermark" if self.timed else None
        if plain:
            return path
        if self.from_records and typed and not use.struct_fields():
            # Read before, it is a document; nothing here asks for more.
            path.document = Document(Base.TYPED, "d", "v")
        elif self.format == "object":
            line("d = v")
        elif self.decoded:
            line(f"d = {code.constant('document_of', names.document_of)}(v)")
        elif typed:
            code.namespace["decode"] = names.decoder(use.struct_fields())
            code.namespace["DecodeError"] = msgspec.DecodeError
            line("try:")
            line("d = decode(v)", 4)
            line("except DecodeError:")
            code.counter(entry, "misfits")
            if self.timed:
                line("times[0], times[1] = high, watermark", 4)
            line(f"counts = chain_plain((r,), partition, failed{targets})", 4)
            self.misfit_line = len(code.lines)
            line("continue", 4)
            if not self.from_records:
                # The decoder does not look at what it skips, and the bytes may go on as they are. ASCII is right.
                line("if not v.isascii(): v.decode()")
            path.document = Document(Base.TYPED, "d", "v")
        elif self.format == "json":
            document_of, loads = code.constant("document_of", names.document_of), code.constant("loads", names.loads)
            line(f"d = {loads}(v)")
            line(f"if d.__class__ is not dict: {document_of}(d)")
            path.document = Document(Base.DICT, "d", "v", own=True)
        else:
            line(f"d = {code.constant('decode_' + self.format, self._codec(self.chain.entry).decode)}(v)")
            path.document = Document(Base.DICT, "d", "v", raw_format=self.format)
        if not self.from_records:
            self._event_time(path)
        return path

    def _tombstone(self, path: Path, variable: str) -> None:
        """A record without a value has no document: without a word in the settings it is an error of its own."""
        if self.tombstones not in ("forward", "drop"):
            return
        code, entry = self.code, self.chain.entry.id
        code.line(3, f"if {variable} is None:", entry)
        if self.tombstones == "drop":
            code.line(4, f"{code.counter(entry, 'filtered')} += 1", entry)
        else:
            body = FusedBody(code, replace(path, indent=4), entry, self.topic)
            # Before anything is appended: a key may be one that cannot be read.
            keys = {target.id: self.beside.tombstone_key(target, body) for target in self.chain.targets}
            for target in self.chain.targets:
                if self.beside.refuses_tombstones(target, path.beside, at_once=not self.from_records):
                    refuse = code.constant("refuse_tombstone", names.refuse_tombstone)
                    code.line(4, f"{refuse}()", target.id)
                elif target.kind == "stage" and target.spec.keyed:
                    self._keyed_tombstone(target, path)
                else:
                    sink = f"({keys[target.id]}, None, r.timestamp, r.headers)"
                    row = self._record("None", path) if target.kind == "stage" else sink
                    code.line(4, f"{self.target_names[target.id]}.append({row})", entry)
        code.line(4, "continue", entry)

    def _event_time(self, path: Path) -> None:
        """Take the record's time from its field, and refuse one that lies too far ahead."""
        if self.event_time is None and not self.timed:
            return
        entry = self.chain.entry.id
        body = FusedBody(self.code, path, entry, self.topic)
        if self.event_time is not None and self.event_time.field is not None:
            check = self.code.constant("event_time", names.event_time)
            path.timestamp = body.local("event_ms", body.value(self.event_time.field))
            body.line(f"if {path.timestamp}.__class__ is not int: {path.timestamp} = {check}({path.timestamp})")
        if self.processing_time:
            path.timestamp = "processing_ms"
        elif self.max_future is not None:
            late = self.code.constant("too_far_ahead", names.too_far_ahead)
            body.line(f"if {path.timestamp} > limit_ms: {late}({path.timestamp}, limit_ms)")
        if self.timed:
            if not self.processing_time:
                path.timestamp = body.local("event_ms", path.timestamp)
            self._follow_time(body, path)

    def _follow_time(self, body: FusedBody, path: Path) -> None:
        """Let the highest time seen, and with it the watermark, rise with the record."""
        path.watermark = "watermark"
        bound = round(1000 * self.event_time.out_of_order) if self.event_time is not None else 0
        reached = f"high - {bound}" if bound else "high"
        body.line(f"if {path.timestamp} > high:")
        body.path.indent += 1
        body.line(f"high = {path.timestamp}")
        body.line(f"if {reached} > watermark: watermark = {reached}")
        if len(self.part.sources) > 1:
            body.line("if watermark > floor: watermark = floor")
        body.path.indent -= 1
        refuse = self.code.constant("before_1970", names.before_1970)
        body.line(f"elif {path.timestamp} < 0: {refuse}({path.timestamp})")

    def _keyed_tombstone(self, target: ComponentConfig, path: Path) -> None:
        """A keyed stage may know what a record without a value means: of a table, that the key is gone."""
        lift = getattr(self.stages[target.id], "lift_tombstone", None)
        inner = path.branch(last=False)
        inner.indent, inner.watermark = 4, "watermark"
        body = FusedBody(self.code, inner, target.id, self.topic)
        reached = {self.chain.entry.id, *(name for stage in self.chain.stages for name in outputs_of(stage))}
        ports = [port for port, name in enumerate(target.inputs) if name in reached]
        rows = [lift(body, port) for port in ports] if lift is not None else []
        for row in rows:
            if row is not None:
                body.line(f"{self.target_names[target.id]}.append({row})")
        if not any(row is not None for row in rows):
            body.line(f"{self.code.counter(target.id, 'filtered')} += 1")

    def _fan_out(self, read: str, path: Path) -> None:
        """Write what all readers of an id, or of a `stage.output`, do with the record."""
        readers = self.part.consumers.get(read, ())
        self.atomic = self.atomic or len(readers) > 1
        # A stage that reads the same twice, as a join of something with itself does, is there twice.
        ports = {reader.id: [at for at, name in enumerate(reader.inputs) if name == read] for reader in readers}
        for i, reader in enumerate(readers):
            self._reach(reader, path.branch(last=i == len(readers) - 1), ports[reader.id].pop(0))

    def _reach(self, reader: ComponentConfig, path: Path, port: int) -> None:
        if reader.id in self.target_names:
            self._emit(reader, path, port)
            return
        body = FusedBody(self.code, path, reader.id, self.topic)
        stage: Any = self.stages[reader.id]
        stage.fuse(body)
        self.atomic = self.atomic or any(
            owner == reader.id and what == "elements" for _, owner, what in self.code.counters
        )
        if not body.outputs:
            self._fan_out(outputs_of(reader)[0], path)
        elif all(exclusive for _, _, exclusive in body.outputs):
            self._outputs_first(reader, body)
        else:
            self._outputs_all(reader, body)

    def _outputs_first(self, reader: ComponentConfig, body: FusedBody) -> None:
        keyword = "if"
        for name, condition, _ in body.outputs:
            body.line("else:" if condition is None and keyword == "elif" else f"{keyword} {condition or 'True'}:")
            self._output(reader, name, body.path)
            keyword = "elif"
            if condition is None:
                return
        body.line("else:")
        self.code.line(body.path.indent + 1, f"{self.code.counter(reader.id, 'filtered')} += 1", reader.id)

    def _outputs_all(self, reader: ComponentConfig, body: FusedBody) -> None:
        self.atomic = True
        matched = [(name, body.local(f"to_{name}", condition or "True")) for name, condition, _ in body.outputs]
        body.line(f"if not ({' or '.join(variable for _, variable in matched)}):")
        self.code.line(body.path.indent + 1, f"{self.code.counter(reader.id, 'filtered')} += 1", reader.id)
        for i, (name, variable) in enumerate(matched):
            body.line(f"if {variable}:")
            self._output(reader, name, body.path.branch(last=i == len(matched) - 1))

    def _output(self, reader: ComponentConfig, name: str, path: Path) -> None:
        """What runs for the records at a named output, one level in. One that nobody reads drops them, counted."""
        readers = self.part.consumers.get(f"{reader.id}.{name}", ())
        inner = path.branch(last=True)
        inner.indent += 1
        inner.filtered = True
        counter = self.code.counter(reader.id, f"output:{name}" if readers else "filtered")
        self.code.line(inner.indent, f"{counter} += 1", reader.id)
        self._fan_out(f"{reader.id}.{name}", inner)

    def _emit(self, target: ComponentConfig, path: Path, port: int) -> None:
        body = FusedBody(self.code, path, target.id, self.topic)
        name = self.target_names[target.id]
        if target.kind == "stage" and target.spec.keyed:
            stage: Any = self.stages[target.id]
            self.beside.read_if_late(target, self.chain.entry, body)
            body.line(f"{name}.append({stage.lift(body, port)})")
            return
        if target.kind == "stage":
            document = self._own(body, body.document(), changed=getattr(target.spec.factory, "changes_records", False))
            body.line(f"{name}.append({self._record(document, path)})")
            return
        settings = target.settings
        timestamp = getattr(settings, "timestamp", None)
        key_source = self.beside.key(target, body)
        time_source = body.value(timestamp) if timestamp is not None else path.timestamp
        headers = getattr(settings, "headers", None)
        if headers:
            body.add_headers(self.beside.headers(target, body, headers))
        value = self._encode(target, body)
        body.line(f"{name}.append(({key_source}, {value}, {time_source}, {path.headers}))")

    def _encode(self, target: ComponentConfig, body: FusedBody) -> str:
        """Python source of the row's value: the record's own bytes wherever they still say the same."""
        doc = body.path.document
        if target.spec.documents or getattr(target.settings, "documents", False):
            return self._own(body, body.document())
        out_format = getattr(target.settings, "format", "json")
        passes = self._passes(target, out_format)
        if out_format == "json":
            return json_value(body, own=passes, checked=self.code.may_hold_nan)
        raw = doc.raw if passes and doc.unchanged else None
        if raw and not doc.raw_or_none:
            return raw
        encoded = f"{self.code.constant('encode_' + out_format, self._codec(target).encode)}({body.document()})"
        return f"({raw} if {raw} is not None else {encoded})" if raw else encoded

    def _passes(self, target: ComponentConfig, out_format: str) -> bool:
        """Whether a record's own bytes may be written by the sink, while they still say the same."""
        if self.decoded or out_format != self.format:
            return False
        return out_format == "json" or self._codec(target).passes(self._codec(self.chain.entry))

    def _may_hold_nan(self) -> bool:
        """Whether documents may hold numbers that are none: out of own code, or of a format that has such."""
        entry = self.chain.entry
        if self.decoded:
            # What a keyed stage keeps is JSON; what it lets pass is not.
            return self.from_records and (not entry.spec.keyed or entry.spec.gives(entry.settings) == "as read")
        return self.format not in ("json", "object") and self._codec(entry).gives_nan

    def _codec(self, component: ComponentConfig) -> Codec:
        if component.id not in self.codecs:
            self.codecs[component.id] = format_of(component.settings).codec()
        return self.codecs[component.id]

    def _own(self, body: FusedBody, document: str, *, changed: bool = False) -> str:
        """The document as a dict that its receiver may change, whoever else gets the same record.

        What a keyed stage gives may have parts that it keeps: for a receiver that changes them it is copied.
        """
        kept = changed and self.from_records and self.chain.entry.spec.keyed
        if len(self.chain.targets) == 1 and not kept:
            return document
        return f"{self.code.constant('deepcopy', deepcopy)}({document})"

    def _record(self, document: str, path: Path) -> str:
        record = self.code.constant("Record", Record)
        where = f"{self.topic}, {'r.partition' if self.from_records else 'partition'}, r.offset"
        return f"{record}({document}, {path.key}, {path.timestamp}, {path.headers}, {where})"

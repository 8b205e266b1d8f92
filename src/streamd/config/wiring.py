"""How the components of a pipeline are wired: ids, inputs, cycles, ends that lead nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as Mapping_
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Any

from streamd.config.components import Shape
from streamd.config.diagnostics import did_you_mean, nearest, one_of
from streamd.config.model_check import describe
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence

_DEFAULT_ID = {"source": "source", "sink": "sink"}


def assign_ids(document: Document, shapes: SequenceOf[Shape]) -> None:
    """Give every component an id: its own, or `source`, `sink` or the stage's name, numbered where taken.

    An id that is used twice is reported; the second one is numbered as well, so that the rest can be checked.
    """
    taken: dict[str, Shape] = {}
    doubles: list[Shape] = []
    for shape in shapes:
        if shape.explicit_id is None:
            continue
        shape.id, node = shape.explicit_id
        if shape.id in taken:
            first = taken[shape.id].explicit_id
            line = document.place(first[1].start).line if first is not None else 0
            message = f"id `{shape.id}` is used twice; it is first defined at line {line}"
            doubles.append(shape)
            document.report("duplicate-id", message, node, help="ids name one source, stage or sink of the pipeline")
        else:
            taken[shape.id] = shape
    for shape in shapes:
        if shape.explicit_id is None:
            shape.id = free_id(_DEFAULT_ID.get(shape.kind, shape.name), taken)
            taken[shape.id] = shape
    for shape in doubles:
        shape.id = free_id(shape.id, taken)
        taken[shape.id] = shape


def free_id(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, or the first of wanted_2, wanted_3, … that is not taken."""
    used = set(taken)
    number = 1
    name = wanted
    while name in used:
        number += 1
        name = f"{wanted}_{number}"
    return name


@dataclass(slots=True)
class Wiring:
    """Resolves and checks the inputs of all stages and sinks. Ids are unique; outputs only known of checked stages."""

    document: Document
    sources: SequenceOf[Shape]
    stages: SequenceOf[Shape]
    sinks: SequenceOf[Shape]
    # Sources with `table:`: stages look rows up in them, and nobody reads them as a stream.
    tables: SequenceOf[Shape] = ()
    # {id of a stage or sink: ids, or stage.output, that it reads}
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Ids that inputs with mistakes probably mean: these are not unused.
    meant: set[str] = field(default_factory=set)
    # {id of a chain: id of its last stage}
    exits: Mapping_[str, str] = field(default_factory=dict)

    def resolve(self) -> dict[str, tuple[str, ...]]:
        """The inputs of every stage and sink; everything wrong with them is reported."""
        sources = tuple(source.id for source in self.sources)
        previous: Shape | None = None
        for stage in self.stages:
            self.inputs[stage.id] = self._read(stage, previous, sources)
            previous = stage
        for sink in self.sinks:
            self.inputs[sink.id] = self._read(sink, previous, sources)
        self._report_cycles()
        self._report_unused()
        self._check_tables()
        return self.inputs

    def _read(self, shape: Shape, previous: Shape | None, sources: tuple[str, ...]) -> tuple[str, ...]:
        if shape.spec is not None and shape.spec.inputs is not None:
            return self._named_in_settings(shape, shape.spec.inputs)
        if shape.inputs is not None:
            given = [name for name, node in shape.inputs if self._check_input(name, node, "`from`")]
            return tuple(dict.fromkeys(given))
        if previous is None:
            return sources
        outputs = _outputs(previous)
        if outputs:
            message = f"{shape.subject} does not say which output of stage `{previous.id}` it reads"
            expected = one_of([f"from: {previous.id}.{output}" for output in outputs])
            self.meant.add(previous.id)
            self.document.report("missing-output", message, shape.at, expected)
        return (previous.id,)

    def _named_in_settings(self, shape: Shape, inputs: Callable[[Any], tuple[str, ...]]) -> tuple[str, ...]:
        """The inputs of a stage whose settings name them: one for each of its ports, so that one may be there twice."""
        if shape.inputs:
            message = f"{shape.subject} has no `from`: its settings name what it reads"
            self.document.report("unknown-key", message, shape.inputs[0][1], help="remove `from:`")
            self.meant.update(name.partition(".")[0] for name, _ in shape.inputs)
        if shape.settings is None:  # with problems of its own: nobody can say what it reads
            self.meant.update(other.id for other in (*self.sources, *self.stages))
            return ()
        written = {self._exit(name): name for name in inputs(shape.settings)}
        names = tuple(map(self._exit, inputs(shape.settings)))
        places = {name: _place_of(shape.body, written[name]) or shape.at for name in names}
        sound = {name: self._check_input(name, node, shape.subject) for name, node in places.items()}
        return tuple(name for name in names if sound[name])

    def _exit(self, name: str) -> str:
        """What is read of an input: of a chain, its last stage."""
        head, dot, output = name.partition(".")
        return f"{self.exits.get(head, head)}{dot}{output}"

    def _check_input(self, name: str, node: Node, reader: str) -> bool:
        """Whether there is such an input. `node` is where it is named, `reader` who names it there."""
        known = {other.id: other for other in (*self.sources, *self.stages)}
        id_, dot, output = name.partition(".")
        found = known.get(id_)
        if found is None:
            everything = [full for other in known.values() for full in _full_names(other)]
            help_text = did_you_mean(name, everything)
            self.meant.add((nearest(name, everything) or "").partition(".")[0])
            if id_ in {sink.id for sink in self.sinks}:
                help_text = f"`{id_}` is a sink; nothing can be read from it"
            shown = describe(node) if isinstance(node, Scalar) and node.hidden else f"`{name}`"
            message = f"{reader} names {shown}, and there is no source or stage with that id"
            if id_ in {table.id for table in self.tables}:
                self.meant.add(id_)
                message = f"{reader} names the table `{id_}`, which is not read as a stream"
                help_text = (
                    f"`{id_}` has `table:`, so that it is only looked up, with `enrich: {{table: {id_}, key: …}}`; "
                    "as an input, and as the table of a `join`, it is a source without `table:`"
                )
            self.document.report("unknown-input", message, node, one_of(everything), help_text)
            return False
        outputs = _outputs(found)
        if outputs is None or (output in outputs if dot else not outputs):
            return True
        if not outputs:
            message, expected = (
                f"stage `{id_}` has no named outputs",
                f"from: {id_}" if reader == "`from`" else f"`{id_}`",
            )
        elif dot:
            message, expected = f"stage `{id_}` has no output `{output}`", one_of(_full_names(found))
        else:
            message, expected = f"stage `{id_}` has several outputs: name one", one_of(_full_names(found))
        self.meant.add(id_)
        self.document.report("unknown-output", message, node, expected, did_you_mean(name, _full_names(found)))
        return False

    def _report_cycles(self) -> None:
        stages = {stage.id: stage for stage in self.stages}
        done: set[str] = set()
        for start in stages:
            path: list[str] = []
            todo = [(start, iter(self._stages_before(start)))]
            while todo:
                name, before = todo[-1]
                if name not in path:
                    path.append(name)
                follower = next(before, None)
                if follower is None:
                    done.add(name)
                    path.pop()
                    todo.pop()
                elif follower in path:
                    self._report_cycle(stages, path[path.index(follower) :])
                elif follower not in done:
                    todo.append((follower, iter(self._stages_before(follower))))
            done.add(start)

    def _stages_before(self, id_: str) -> list[str]:
        stages = {stage.id for stage in self.stages}
        return [] if id_ not in stages else [n for i in self.inputs[id_] if (n := i.partition(".")[0]) in stages]

    def _report_cycle(self, stages: dict[str, Shape], cycle: list[str]) -> None:
        shape = stages[cycle[0]]
        flow = " → ".join(reversed([*cycle, cycle[0]]))
        message = f"stage `{shape.id}` reads itself" if len(cycle) == 1 else f"stages form a cycle: {flow}"
        at = shape.inputs[0][1] if shape.inputs else shape.at
        self.document.report("cycle", message, at, help="records flow from sources to sinks, never back")

    def _check_tables(self) -> None:
        """Stages look rows up in tables that there are, and each table is for a stage."""
        tables = [table.id for table in self.tables]
        used: set[str] = set()
        for stage in (*self.stages, *(sink.validate for sink in self.sinks if sink.validate is not None)):
            if stage.spec is None or stage.settings is None:  # nobody can say what it looks up
                used.update(tables)
                continue
            for name in stage.spec.tables(stage.settings):
                used.add(name if name in tables else nearest(name, tables) or "")
                if name in tables:
                    continue
                help_text = did_you_mean(name, tables)
                if name in {source.id for source in self.sources}:
                    used.update(tables)
                    help_text = f"`{name}` is a source without one: add `table: {{key: …}}` beside it"
                elif not tables:
                    help_text = f"add a source `{name}` with `table: {{key: …}}` beside it, below `sources:`"
                message = f"{stage.subject} looks rows up in `{name}`, and there is no source of that id with `table:`"
                at = _place_of(stage.body, name) or stage.at
                self.document.report("unknown-table", message, at, one_of(tables) if tables else "", help_text)
        for table in self.tables:
            if table.id not in used | self.meant:
                message = f"no stage looks rows up in the table `{table.id}`"
                help_text = f"add `enrich: {{table: {table.id}, key: …}}`, or remove it"
                self.document.report("unused", message, table.at, help=help_text)

    def _report_unused(self) -> None:
        read = {name for names in self.inputs.values() for name in names}
        for shape in (*self.sources, *self.stages):
            if shape.id in self.meant or (shape.explicit_id is not None and shape.explicit_id[0] != shape.id):
                continue
            # An output that nobody reads drops its records, which is what `route` offers; a whole stage is a mistake.
            if _outputs(shape) is not None and not read.intersection(_full_names(shape)):
                help_text = f"add `from: {_full_names(shape)[0]}` where it should be read, or remove it"
                message = f"nothing reads {shape.kind} `{shape.id}`, so its records would be lost"
                self.document.report("unused", message, shape.at, help=help_text)


def _place_of(node: Node | None, name: str) -> Node | None:
    """The first scalar below a node that is this text."""
    if isinstance(node, Scalar):
        return node if node.text == name else None
    inner: Iterable[Node] = ()
    if isinstance(node, Mapping):
        inner = [value for _, value in node.entries.values()]
    elif isinstance(node, Sequence):
        inner = node.items
    return next((found for child in inner if (found := _place_of(child, name)) is not None), None)


def _outputs(shape: Shape) -> tuple[str, ...] | None:
    """The named outputs, () for a plain one; None when the settings have problems and nobody can say."""
    if shape.kind == "source":
        return ()
    if shape.spec is None or shape.settings is None:
        return None
    return shape.spec.outputs(shape.settings)


def _full_names(shape: Shape) -> list[str]:
    outputs = _outputs(shape)
    return [f"{shape.id}.{output}" for output in outputs] if outputs else [shape.id]

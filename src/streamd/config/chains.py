"""`chain: NAME` among stages → the stages of that chain, with their ids and inputs, where it was used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Mapping_
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamd.config.components import ComponentReader, Shape
from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.model_check import describe
from streamd.config.parameters import Budget, Given, TooLargeError, give, put_in, stand_ins
from streamd.config.pipeline import ChainUse
from streamd.config.shared import Definition, Library
from streamd.config.wiring import assign_ids
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence

CHAIN = "chain"
MAX_DEPTH = 16  # of chains that use chains
_BESIDE = ("id", "from", "on_error")


@dataclass(slots=True, eq=False)
class Use(Shape):
    """A chain where it is used. `stages` are its stages, uses of other chains among them."""

    stages: list[Shape] = field(default_factory=list)
    given: Mapping_[str, Given] = field(default_factory=dict)


def leaves(stages: Iterable[Shape]) -> Iterator[Shape]:
    """The stages themselves, those of chains in their place."""
    for stage in stages:
        if isinstance(stage, Use):
            yield from leaves(stage.stages)
        else:
            yield stage


@contextmanager
def noted(document: Document, note: str) -> Iterator[None]:
    """What is reported meanwhile carries the note."""
    before, document.note = document.note, note
    try:
        yield
    finally:
        document.note = before


@dataclass(slots=True)
class ChainReader:
    """Reads the uses of chains in one document."""

    document: Document
    components: ComponentReader
    library: Library
    budget: Budget

    def stage(self, node: Node, at: Node, within: tuple[str, ...] = ()) -> Shape | None:
        """One item of a list of stages; None when it can not be told what it is. `within`: the chains that it is in."""
        if not isinstance(node, Mapping) or CHAIN not in node.entries:
            shape = self.components.read_shape("stage", node, at)
            if shape is not None:
                shape.note = self.document.note
            return shape
        key, body = node.entries[CHAIN]
        for other in node.entries:
            if other not in (CHAIN, *_BESIDE):
                help_text = did_you_mean(other, _BESIDE)
                if other == "with":
                    help_text = "write `chain: {name: …, with: {…}}`"
                message = f"unknown key `{other}` beside `chain`"
                self.document.report("unknown-key", message, node.key(other), one_of(_BESIDE), help_text)
        named = self._named(body, key)
        if named is None:
            return None
        name, name_node, with_node = named
        definition = self._definition(name, name_node, within)
        if definition is None:
            return None
        use = Use("stage", name, name_node, body, note=self.document.note)
        self.components.read_beside(use, node)
        given = give(self.document, definition.parameters, with_node, name_node, definition.subject)
        if given is None:
            return None
        use.given = given
        place = self.document.place(name_node.start)
        note = f"chain `{name}` is used at {place}"
        with noted(self.document, f"{note}; {self.document.note}" if self.document.note else note):
            stages = self._stages(definition, given, (*within, name))
        if stages is None:
            return None
        use.stages = stages
        _pass_on(use)
        return use

    def check(self, definition: Definition) -> list[Shape]:
        """The stages of a chain that is checked by itself, numbered; problems of their wiring are reported."""
        given = stand_ins(self.document, definition.parameters.values())
        use = Use("stage", definition.name, definition.at, None, id=definition.name)
        use.stages = self._stages(definition, given, (definition.name,)) or []
        self.number(use)
        return list(leaves(use.stages))

    def number(self, use: Use) -> None:
        """Give the stages of a chain their ids, and their inputs those of the pipeline."""
        assign_ids(self.document, use.stages)
        local = {stage.id: stage for stage in use.stages}
        for stage in use.stages:
            stage.id = f"{use.id}-{stage.id}"
            if isinstance(stage, Use):
                self.number(stage)
        for index, stage in enumerate(use.stages):
            if stage.inputs is None or (index == 0 and stage.inputs is use.inputs):
                continue
            inputs = []
            for name, node in stage.inputs:
                head, dot, output = name.partition(".")
                if head in local:
                    inputs.append((f"{exit_of(local[head]).id}{dot}{output}", node))
                else:
                    message = f"`from` names `{name}`, and chain `{use.name}` has no stage with that id"
                    help_text = did_you_mean(head, local) or "a chain reads what it is given where it is used"
                    self.document.report("unknown-input", message, node, one_of(sorted(local)), help_text)
            _read_from(stage, inputs or None)

    def _named(self, body: Node, key: Node) -> tuple[str, Scalar, Node | None] | None:
        """(name, its node, the node of `with`) of what stands behind `chain:`."""
        if isinstance(body, Scalar) and isinstance(body.value, str) and body.value:
            return body.text, body, None
        if isinstance(body, Mapping):
            for other in body.entries:
                if other not in ("name", "with"):
                    message = f"unknown key `{other}` of `chain`"
                    help_text = did_you_mean(other, ("name", "with")) or f"is it a parameter? `with: {{{other}: …}}`"
                    self.document.report("unknown-key", message, body.key(other), "name or with", help_text)
            name = body.get("name")
            if isinstance(name, Scalar) and isinstance(name.value, str) and name.value:
                return name.text, name, body.get("with")
        message = f"`chain` must be the name of a chain, or `{{name: …, with: {{…}}}}`, got {describe(body)}"
        self.document.report("wrong-type", message, key)
        return None

    def _definition(self, name: str, at: Node, within: tuple[str, ...]) -> Definition | None:
        definition = self.library.chains.get(name)
        if definition is None:
            known = sorted(self.library.chains)
            expected = one_of(known) if known else "a chain below `chains:`, here or in an imported file"
            help_text = did_you_mean(name, known)
            if name in self.library.filters:
                help_text = f"`{name}` is a filter: write `filter: {{name: {name}}}`"
            self.document.report("unknown-chain", f"there is no chain `{name}`", at, expected, help_text)
        elif name in within:
            flow = " → ".join([*within[within.index(name) :], name])
            self.document.report("cycle", f"chains use each other: {flow}", at)
            return None
        elif len(within) >= MAX_DEPTH:
            self.document.report("too-deep", f"chains within chains, more than {MAX_DEPTH} deep", at)
            return None
        return definition

    def _stages(
        self, definition: Definition, given: Mapping_[str, Given], within: tuple[str, ...]
    ) -> list[Shape] | None:
        if not isinstance(definition.body, Sequence) or not definition.body.items:
            got = describe(definition.body) if not isinstance(definition.body, Sequence) else "an empty one"
            if not (isinstance(definition.body, Scalar) and definition.body.start == definition.at.start):
                message = f"`stages` of {definition.subject} must be a list of stages, got {got}"
                self.document.report("wrong-type", message, definition.at)
            return None
        try:
            body = put_in(self.document, definition.body, given, self.budget)
        except TooLargeError:
            self.document.report("too-large", "chains of chains become too many stages", definition.at)
            return None
        assert isinstance(body, Sequence)
        shapes = []
        for item in body.items:
            point = item if isinstance(item, Scalar) else Scalar(item.start, item.start + 1, "", None, None)
            shapes.append(self.stage(item, point, within))
        return None if None in shapes else [shape for shape in shapes if shape is not None]


def exit_of(stage: Shape) -> Shape:
    """The stage whose records come out of a stage, or of a chain."""
    return exit_of(stage.stages[-1]) if isinstance(stage, Use) else stage


def _pass_on(use: Use) -> None:
    """What is said beside a chain holds for its stages: the input for the first, errors for all that say nothing."""
    if use.inputs is not None:
        first = use.stages[0]
        if first.inputs is None:
            _read_from(first, use.inputs)
    if use.on_error is not None:
        for stage in leaves(use.stages):
            if stage.on_error is None:
                stage.on_error, stage.on_error_of = use.on_error, use


def _read_from(stage: Shape, inputs: list[tuple[str, Node]] | None) -> None:
    stage.inputs = inputs
    if isinstance(stage, Use):
        _read_from(stage.stages[0], inputs)


def wire(reader: ChainReader, stages: list[Shape], others: Iterable[Shape]) -> dict[str, str]:
    """Number the stages of chains, and let what reads a chain read its last stage. {id of a chain: of that stage}."""
    exits: dict[str, str] = {}
    for stage in stages:
        if isinstance(stage, Use):
            reader.number(stage)
            exits[stage.id] = exit_of(stage).id
    outside = [*(stage.stages[0] if isinstance(stage, Use) else stage for stage in stages), *others]
    for shape in outside:
        if shape.inputs is not None:
            named = [(*name.partition("."), node) for name, node in shape.inputs]
            inputs = [(f"{exits.get(head, head)}{dot}{output}", node) for head, dot, output, node in named]
            _read_from(shape, inputs)
    _report_doubles(reader.document, [*leaves(stages), *others])
    return exits


def _report_doubles(document: Document, shapes: Iterable[Shape]) -> None:
    known: dict[str, Shape] = {}
    for shape in shapes:
        other = known.setdefault(shape.id, shape)
        if other is not shape and (other.note or shape.note):
            message = f"id `{shape.id}` is that of a stage of a chain and of another one"
            document.report("duplicate-id", message, shape.at, help="give one of them another `id`")


def uses(document: Document, stages: Iterable[Shape]) -> tuple[ChainUse, ...]:
    """The chains of a pipeline, for people."""
    found = []
    for stage in stages:
        if isinstance(stage, Use):
            inside = tuple(leaf.id for leaf in leaves(stage.stages))
            given = {name: describe_given(value) for name, value in stage.given.items()}
            found.append(ChainUse(stage.id, stage.name, document.place(stage.at.start), inside, given))
    return tuple(found)


def describe_given(given: Given) -> str:
    """A parameter's value as it was written, where it may be shown."""
    node = given.node
    return node.text if isinstance(node, Scalar) and not node.hidden else "…"

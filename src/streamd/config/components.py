"""One component as written in YAML → its name, wiring and checked settings.

Two steps, because ids must be known before settings are checked: `read_shape` takes the mapping apart, `read_settings`
asks the registry for the component's model and checks against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamd.codecs.format import Formats, formats, formats_by_name
from streamd.codecs.registry import missing_package
from streamd.component.fields import condition_field, literals_of, nested_component
from streamd.component.model import Model
from streamd.component.registry import Registry
from streamd.component.spec import ComponentSpec, Kind
from streamd.component.table import NOT_OF_A_TABLE, TableSettings
from streamd.config.beside import RESERVED, misplaced
from streamd.config.conditions import ConditionReader, is_condition
from streamd.config.diagnostics import did_you_mean, nearest, one_of
from streamd.config.model_check import Check, Reported, describe, plain_value
from streamd.config.parameters import unread
from streamd.config.pipeline import ComponentConfig, Place
from streamd.config.shared import ID
from streamd.config.uri import URI, expand
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence
from streamd.errors import ConfigError
from streamd.quality.schema_drift import SchemaDrift

_ID_HINT = "letters, digits, `_` and `-`, not starting with a digit"


@dataclass(slots=True, eq=False)
class Shape:
    """A component taken apart. `body` is the node of its settings, None for a bare name; `at` is its name's node.

    `explicit_id` and `inputs` are as written, None where they are not; `id` is set once all are known.
    """

    kind: Kind
    name: str
    at: Node
    body: Node | None
    explicit_id: tuple[str, Node] | None = None
    inputs: list[tuple[str, Node]] | None = None
    on_error: Node | None = None
    validate: Shape | None = None
    # (the key `table`, what stands behind it)
    table: tuple[Node, Node] | None = None
    # Of a source: what is done about records that are other than before, as written, and checked.
    schema_drift: tuple[Node, Node] | None = None
    drift: SchemaDrift | None = None
    id: str = ""
    spec: ComponentSpec | None = None
    settings: Model | None = None
    # Where the chain that it is part of was used; "" outside of chains.
    note: str = ""
    # The chain whose `on_error` it has, where it has none of its own.
    on_error_of: Shape | None = None
    table_settings: TableSettings | None = None

    @property
    def subject(self) -> str:
        """How messages speak of it."""
        return f"{self.kind} `{self.name}`"


class ComponentReader:
    """Reads the components of one document."""

    def __init__(
        self, document: Document, registry: Registry, conditions: ConditionReader, *, sinks_here: bool = True
    ) -> None:
        self.document = document
        self.registry = registry
        self._conditions = conditions
        # A file that others import names no sinks: where records go belongs to the pipeline.
        self._sinks_here = sinks_here

    def read_shape(self, kind: Kind, node: Node, at: Node, beside: tuple[str, ...] | None = None) -> Shape | None:
        """Take a component apart; None when it is not one. `at` is where to point for the whole.

        `beside` are the keys that may stand beside the component's, where they are not those of its kind.
        """
        if kind == "sink" and not (self._sinks_here and self.document.own(node)):
            message = "a file that others import has no sinks: where records go belongs to the pipeline"
            help_text = "make it a parameter, and give the sink where the chain is used"
            self.document.report("sink-in-chain", message, at, help=help_text)
            return None
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return Shape(kind, node.value, node, None)
        if not isinstance(node, Mapping) or not node.entries:
            self.document.report(
                "wrong-type",
                f"a {kind} must be a mapping of its name to its settings, got {describe(node)}",
                node if node.end > node.start and isinstance(node, Scalar) else at,
                expected=f"one of the {kind}s {', '.join(self.registry.names(kind))}",
            )
            return None
        reserved = RESERVED[kind] if beside is None else beside
        name = self._component_key(kind, node, at, reserved)
        if name is None:
            return None
        shape = Shape(kind, name, node.key(name), node.get(name))
        if name == URI and kind != "stage":
            found = expand(self.document, kind, shape.at, shape.body)
            if found is None:
                return None
            shape.name, shape.body = found
        if beside is None:
            self.read_beside(shape, node)
        return shape

    def read_beside(self, shape: Shape, node: Mapping) -> None:
        """Set what stands beside the component's own key: its id, its inputs, what becomes of its errors."""
        shape.explicit_id = self._id(node)
        shape.on_error = node.get("on_error")
        if shape.kind != "source":
            shape.inputs = self._inputs(node)
        elif node.get("schema_drift") is not None:
            shape.schema_drift = node.entries["schema_drift"]
        if shape.kind == "sink" and (checks := node.get("validate")) is not None:
            shape.validate = Shape("stage", "validate", node.key("validate"), checks)
        if shape.kind == "source" and node.get("table") is not None:
            shape.table = node.entries["table"]

    def _component_key(self, kind: Kind, node: Mapping, at: Node, reserved: tuple[str, ...]) -> str | None:
        """The one key that names the component; every other key that is not reserved is reported."""
        others = [key for key in node.entries if key not in reserved]
        if not others:
            expected = f"one of the {kind}s {', '.join(self.registry.names(kind))}"
            self.document.report("missing-key", f"the {kind}'s own key is missing", at, expected)
            return None
        names = self.registry.names(kind)
        known = [key for key in others if key in names or (key == URI and kind != "stage")]
        if len(known) > 1:
            message = f"{len(known)} {kind}s in one mapping: {', '.join(known)}"
            self.document.report("several-components", message, node.key(known[1]), help="give each its own list item")
        chosen = known[0] if known else self._probable(kind, node, others, reserved)
        for key in others:
            if key != chosen and key not in known:
                self._report_beside(kind, node, key, chosen, reserved)
        return chosen

    def _probable(self, kind: Kind, node: Mapping, others: list[str], reserved: tuple[str, ...]) -> str:
        """Of keys that are no component, the one that was meant to be: misspelt, or holding settings."""
        misspelt = [key for key in others if nearest(key, reserved) is None] or others
        suggested = [key for key in misspelt if self.registry.suggest(kind, key) is not None]
        mappings = [key for key in misspelt if isinstance(node.get(key), Mapping)]
        return (suggested or mappings or misspelt)[0]

    def _report_beside(self, kind: Kind, node: Mapping, key: str, chosen: str, reserved: tuple[str, ...]) -> None:
        spec = self._spec(kind, chosen)
        help_text = did_you_mean(key, reserved) or misplaced(key, f"{kind} `{chosen}`")
        if spec is not None and key in {info.alias or name for name, info in spec.config.model_fields.items()}:
            help_text = f"`{key}` is a setting of `{chosen}`: indent it below `{chosen}:`"
        elif kind == "source" and key == "from":
            help_text = "a source has no input"
        self.document.report(
            "unknown-key", f"unknown key `{key}` beside {kind} `{chosen}`", node.key(key), one_of(reserved), help_text
        )

    def _id(self, node: Mapping) -> tuple[str, Node] | None:
        value = node.get("id")
        if value is None:
            return None
        if isinstance(value, Scalar) and ID.fullmatch(value.text):
            return value.text, value
        at = value if isinstance(value, Scalar) and value.end > value.start else node.key("id")
        self.document.report("wrong-value", f"`id` must be {_ID_HINT}, got {describe(value)}", at)
        return None

    def _inputs(self, node: Mapping) -> list[tuple[str, Node]] | None:
        value = node.get("from")
        if value is None:
            return None
        items = value.items if isinstance(value, Sequence) else [value]
        inputs: list[tuple[str, Node]] = [(item.text, item) for item in items if isinstance(item, Scalar) and item.text]
        if len(inputs) != len(items) or not inputs:
            message = f"`from` must be the id of a source or stage, or a list of ids, got {describe(value)}"
            self.document.report("wrong-type", message, node.key("from"))
        return inputs

    def read_settings(self, shape: Shape) -> None:
        """Set the shape's `spec` and `settings`; both stay None where there are problems."""
        spec = self._spec(shape.kind, shape.name, shape)
        if spec is None:
            return
        shape.spec = spec
        if shape.note and spec.inputs is not None:
            message = f"{shape.subject} names its inputs, and a chain knows nothing of the pipeline around it"
            help_text = "put it among the pipeline's own stages, between chains"
            self.document.report("named-inputs", message, shape.at, help=help_text)
            return
        body = shape.body if shape.body is not None else Mapping(shape.at.start, shape.at.end)
        combined = self._combined(shape, spec, body)
        if combined is None:
            return
        body = combined
        empty = isinstance(body, Scalar) and body.value is None and not body.text
        bare = not isinstance(body, Mapping) and not empty
        check = Check(
            self.document,
            spec.config,
            body,
            shape.subject,
            shape.at,
            shorthand=spec.shorthand if bare or spec.shorthand_always else None,
            given=self._nested(shape, spec, body),
        )
        shape.settings = check.run()
        if shape.settings is not None and shape.body is not None:
            unread(self.document, body, shape.subject)
        if shape.validate is not None:
            self._read_checks(shape.validate)
        if shape.schema_drift is not None:
            at, node = shape.schema_drift
            if shape.table is not None:
                message = f"`schema_drift` has no meaning for {shape.subject} with `table:`"
                self.document.report("wrong-value", message, at, help="remove it: a table is read anew at each start")
            shorthand = "policy" if isinstance(node, Scalar) and node.value is not None else None
            shape.drift = Check(self.document, SchemaDrift, node, "`schema_drift`", at, shorthand=shorthand).run()
        if shape.table is not None:
            shape.table_settings = self._table(shape, *shape.table)

    def _read_checks(self, shape: Shape) -> None:
        """The checks before a sink: those that have to remember something are for stages."""
        self.read_settings(shape)
        settings: Any = shape.settings
        if settings is not None and (settings.unique is not None or settings.score is not None):
            what = "score" if settings.score is not None else "unique"
            message = f"`{what}` is not for the `validate` of a sink"
            help_text = "put a stage `validate` before the sink: only stages remember records"
            self.document.report("wrong-value", message, shape.at, help=help_text)

    def _combined(self, shape: Shape, spec: ComponentSpec, body: Node) -> Node | None:
        """The settings with each condition that combines others made one expression; None where one has problems."""
        for name, info in spec.config.model_fields.items():
            many = condition_field(info)
            if many is None:
                continue
            key = info.alias or name
            if name == spec.shorthand and not many and is_condition(body):
                return self._conditions.expression(body, shape.subject)
            value = body.get(key) if isinstance(body, Mapping) else None
            if not isinstance(body, Mapping) or value is None:
                continue
            subject = f"`{key}` of {shape.subject}"
            made: Node | None = value
            if not many and is_condition(value):
                made = self._conditions.expression(value, subject)
            elif many and isinstance(value, Mapping):
                parts = {
                    word: (word_at, self._conditions.expression(part, subject) if is_condition(part) else part)
                    for word, (word_at, part) in value.entries.items()
                }
                sound = {word: (at, part) for word, (at, part) in parts.items() if part is not None}
                made = Mapping(value.start, value.end, sound, size=value.size) if len(sound) == len(parts) else None
            if made is None:
                return None
            if made is not value:
                entries = {**body.entries, key: (body.key(key), made)}
                body = Mapping(body.start, body.end, entries, size=body.size)
        return body

    def _table(self, shape: Shape, at: Node, node: Node) -> TableSettings | None:
        """What stands behind `table:`, which also rules out some of the source's own settings."""
        if isinstance(shape.body, Mapping):
            for name in NOT_OF_A_TABLE:
                if shape.body.get(name) is not None:
                    message = f"`{name}` has no meaning for {shape.subject} with `table:`"
                    help_text = "a table is read whole, from its beginning, and a lookup takes the newest row"
                    self.document.report("unknown-key", message, shape.body.key(name), help=help_text)
        if shape.spec is not None and not shape.spec.replayable:
            message = f"{shape.subject} cannot be a table: what it has given cannot be read again, as each start does"
            self.document.report("wrong-value", message, at)
        bare = isinstance(node, Scalar) and not (node.value is None and not node.text)
        body = node if isinstance(node, Mapping) or bare else Mapping(node.start, node.end)
        subject = f"the table of {shape.subject}"
        return Check(self.document, TableSettings, body, subject, at, shorthand="key" if bare else None).run()

    def _spec(self, kind: Kind, name: str, shape: Shape | None = None) -> ComponentSpec | None:
        """The component; when there is none, that is reported at the shape, if one is given."""
        try:
            spec = self.registry.get(kind, name)
        except ConfigError as error:
            if shape is not None:
                self.document.report("unusable-component", str(error), shape.at)
            return None
        if spec is None and shape is not None:
            near = self.registry.suggest(kind, name)
            elsewhere = [f"a {other}" for other in self.registry.kinds_of(name)]
            help_text = f"did you mean `{near}`?" if near is not None else ""
            if elsewhere:
                help_text = f"`{name}` is {' and '.join(elsewhere)}, not a {kind}"
            if kind == "stage" and name in self._conditions.library.chains:
                help_text = f"`{name}` is a chain: write `chain: {name}`"
            expected = one_of(self.registry.names(kind))
            message = f"unknown {kind} `{name}`"
            if isinstance(shape.at, Scalar) and shape.at.hidden:
                message, help_text = f"unknown {kind}: {describe(shape.at)}", ""
            self.document.report("unknown-component", message, shape.at, expected, help_text)
        return spec

    def _nested(self, shape: Shape, spec: ComponentSpec, body: Node) -> dict[str, object]:
        """{field: resolved component} of the settings that are components themselves (`late: {kafka: …}`)."""
        resolved: dict[str, object] = {}
        if not isinstance(body, Mapping):
            return resolved
        for name, info in spec.config.model_fields.items():
            key = info.alias or name
            if (choice := formats(info)) is not None and body.get(key) is not None:
                resolved |= self._format(choice, key, body.get(key), shape)
                continue
            if (choice := formats_by_name(info)) is not None:
                resolved |= self._formats(choice, key, body.get(key), shape)
                continue
            mark = nested_component(info.annotation) or next(filter(None, map(nested_component, info.metadata)), None)
            if mark is None or body.get(key) is None:
                continue
            at, node = body.entries[key]
            if isinstance(node, Scalar) and node.value in literals_of(info.annotation):
                continue
            known = id(node) not in self.document.broken
            inner = self.read_shape(mark.kind, node, at, beside=()) if known else None
            config = None
            if inner is not None:
                inner.id = f"{shape.id}_{key}"
                self.read_settings(inner)
                config = component_config(self.document, inner)
            resolved[key] = _Unresolved if config is None else config
        return resolved

    def _formats(self, choice: Formats, key: str, node: Node | None, shape: Shape) -> dict[str, object]:
        """{key: {name: format}} of a mapping of names to formats; {} for what the model itself reads or refuses."""
        entries = node.entries if isinstance(node, Mapping) else {}
        found = {name: self._format(choice, name, one, shape) for name, (_, one) in entries.items()}
        if not any(found.values()):
            return {}
        return {key: {name: found[name].get(name, plain_value(one)) for name, (_, one) in entries.items()}}

    def _format(self, choice: Formats, key: str, node: Node | None, shape: Shape) -> dict[str, object]:
        """{key: the format with its settings} of one that is a mapping; {} for what the model itself reads."""
        if isinstance(node, Scalar):
            name, at, body = node.text, node, None
            if name not in choice.words or choice.spec(name).bare:
                return {}
        elif isinstance(node, Mapping) and len(node.entries) == 1:
            [(name, (at, body))] = node.entries.items()
        else:
            return {}
        subject = f"`{key}` of {shape.subject}"
        if name not in choice.words:
            message, help_text = f"unknown format `{name}` as {subject}", did_you_mean(name, choice.words)
            self.document.report("wrong-value", message, at, one_of(choice.words), help_text)
            return {key: _Unresolved}
        spec = choice.spec(name)
        if missing := missing_package(spec):
            self.document.report("unusable-component", missing, at)
            return {key: _Unresolved}
        if not choice.takes_settings(spec) and isinstance(body, Mapping) and body.entries:
            message = f"format `{name}` has settings, which are only for messages of topics, as {subject}"
            self.document.report("wrong-value", message, at, f"the name alone: {name}")
            return {key: _Unresolved}
        settings = Check(self.document, spec.settings, body or Mapping(at.start, at.end), f"format `{name}`", at).run()
        return {key: _Unresolved if settings is None else choice.made(spec.name, settings)}


class _Unresolved(Reported):
    """Stands for a nested component whose problems are already reported."""


def component_config(document: Document, shape: Shape, inputs: tuple[str, ...] = ()) -> ComponentConfig | None:
    """The finished value of a shape whose settings were read; None when there were problems."""
    if shape.spec is None or shape.settings is None:
        return None
    place: Place = document.place(shape.at.start)
    validate = None if shape.validate is None else component_config(document, shape.validate)
    return ComponentConfig(
        shape.id, shape.kind, shape.name, shape.settings, shape.spec, place, inputs, note=shape.note, validate=validate,
        table=shape.table_settings, schema_drift=shape.drift,
    )  # fmt: skip

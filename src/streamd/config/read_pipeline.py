"""The parsed document of a pipeline file → a `PipelineConfig`, with all problems noted in the document."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Mapping_
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from streamd.codecs.format import format_of, in_lines
from streamd.component.fields import Duration
from streamd.component.model import Model
from streamd.component.registry import Registry
from streamd.component.spec import Kind
from streamd.config.chains import leaves, uses, wire
from streamd.config.components import Shape, component_config
from streamd.config.definitions import DefinitionReader
from streamd.config.model_check import Check, describe
from streamd.config.pipeline import ComponentConfig, ErrorPolicy, ErrorThreshold, PipelineConfig
from streamd.config.policy import ErrorThresholdSettings, PolicyDraft
from streamd.config.service import StateConfig
from streamd.config.shared import ID, SHARED, Library
from streamd.config.wiring import Wiring, assign_ids, free_id
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence

# (document, node, its key's node) → the checked `kafka:` or `schema_registry:` section
SectionReader = Callable[[Document, Node, Node], Any]

# Keys of a pipeline file whose values are components or policies, read by hand; all others are in PipelineSettings.
STRUCTURE = ("source", "sources", "stages", "sink", "sinks", "on_error", "kafka", "schema_registry", *SHARED)


class BatchSettings(Model):
    """How many records are handled at once."""

    max_records: int = Field(2000, ge=1, le=100_000, description="Most records in one batch.", examples=[2000])


class PipelineSettings(Model):
    """What a pipeline file says besides its components."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$",
        description="Name of the pipeline: letters, digits, `_` and `-`. Part of its consumer group and of stored "
        "positions: under another name it starts anew.",
        examples=["big-orders"],
    )
    description: str = Field("", description="What it is for, for people.", examples=["Orders above 50 euro"])
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="What is promised where source and sink allow it.", examples=["exactly_once"]
    )
    commit_interval: Duration = Field(
        0.2, gt=0, description="Longest time between two commits under load.", examples=["200ms"]
    )
    batch: BatchSettings = Field(
        BatchSettings.model_validate({}), description="Batches.", examples=[{"max_records": 500}]
    )
    state: StateConfig | None = Field(
        None,
        description="What stages remember, and where; without it as streamd.yaml says.",
        examples=[{"memory": "512MB"}],
    )
    error_threshold: ErrorThresholdSettings | None = Field(
        None, description="Stop the pipeline when too many records fail.", examples=[{"rate": 0.05, "window": "1m"}]
    )


class PipelineReader:
    """Reads one document. `kafka` and `schema_registry` check the sections of these names."""

    def __init__(
        self,
        document: Document,
        registry: Registry,
        kafka: SectionReader,
        schema_registry: SectionReader,
        library: Library,
    ) -> None:
        self.document = document
        self.definitions = DefinitionReader(document, registry, library)
        self.components = self.definitions.components
        self.policies = self.definitions.policies
        self.chains = self.definitions.chains
        self._kafka, self._registry = kafka, schema_registry
        # False once a component could not be told apart: then the graph is not worth checking.
        self._complete = True

    def read(
        self, file: Path, service_kafka: Any, state: StateConfig, service_registry: Any = None
    ) -> PipelineConfig | None:
        """The pipeline, or None when there are problems. What the service has holds where it says nothing."""
        document, root = self.document, self.document.root
        if not isinstance(root, Mapping):
            if root is not None:
                message = f"a pipeline must be a mapping of keys to values, got {describe(root)}"
                document.report("wrong-type", message, (root.start, root.start + 1))
            return None
        settings = self._settings(root)
        every_source = self._group(root, "source", "sources")
        sources = [shape for shape in every_source if shape.table is None]
        tables = [shape for shape in every_source if shape.table is not None]
        written = self._stages(root)
        sinks = self._group(root, "sink", "sinks")
        assign_ids(document, [*every_source, *written, *sinks])
        exits = wire(self.chains, written, [*every_source, *sinks])
        stages = list(leaves(written))
        shapes = [*every_source, *stages, *sinks]
        self.definitions.read_settings(shapes)
        self._check_sources(sources, tables)
        inputs = Wiring(document, sources, stages, sinks, tables, exits=exits).resolve() if self._complete else {}
        policies = self.definitions.read_policies(shapes)
        self._check_policies(tables, policies)
        general = (
            self.policies.read(root.entries["on_error"][1], root.key("on_error")) if root.get("on_error") else None
        )
        dead_letters, ids = self._dead_letters(general, policies, shapes)
        self._check_late(stages, ids)
        self._check_actions(sources, stages, sinks, ids)
        self.definitions.check()
        schema_registry = service_registry
        if (section := root.get("schema_registry")) is not None:
            schema_registry = self._registry(document, section, root.key("schema_registry"))
        elif schema_registry is None:
            self._report_missing_registry([*shapes, *(d.dead_letter for d in (general, *policies.values()) if d)])
        kafka = service_kafka
        if (section := root.get("kafka")) is not None:
            kafka = self._kafka(document, section, root.key("kafka"))
        elif kafka is None:
            self._report_missing_kafka([*shapes, *(d.dead_letter for d in (general, *policies.values()) if d)])
        if document.problems or settings is None:
            return None

        def built(group: list[Shape]) -> tuple[ComponentConfig, ...]:
            configs = []
            for shape in group:
                config = component_config(document, shape, inputs.get(shape.id, ()))
                if config is not None:
                    configs.append(replace(config, on_error=_policy(policies.get(shape.id), ids.get(shape.id))))
            return tuple(configs)

        name_node = root.get("name")
        built_stages = built(stages)
        return PipelineConfig(
            name=settings.name,
            sources=built(sources),
            stages=built_stages,
            sinks=(*built(sinks), *_late_sinks(built_stages)),
            dead_letters=dead_letters,
            tables=built(tables),
            file=file,
            text=document.source.text,
            imports=self.definitions.library.imports,
            chains=uses(document, written),
            description=settings.description,
            on_error=_policy(general, ids.get("")) or ErrorPolicy(),
            error_threshold=_threshold(settings.error_threshold),
            delivery=settings.delivery,
            commit_interval=settings.commit_interval,
            max_batch_records=settings.batch.max_records,
            state_memory=(settings.state or state).memory,
            state_snapshots=(settings.state or state).snapshots or (settings.state or state).standbys > 0,
            state_standbys=(settings.state or state).standbys,
            kafka=kafka,
            place=document.place(name_node.start if name_node is not None else root.start),
            schema_registry=schema_registry,
        )

    def _settings(self, root: Mapping) -> PipelineSettings | None:
        rest = {key: entry for key, entry in root.entries.items() if key not in STRUCTURE}
        node = Mapping(root.start, root.end, rest)
        top = Scalar(root.start, root.start + 1, "", None, None)
        return Check(self.document, PipelineSettings, node, "the pipeline", top, also_known=STRUCTURE).run()

    def _report_missing_kafka(self, shapes: list[Shape | None]) -> None:
        for shape in shapes:
            if shape is not None and shape.spec is not None and shape.spec.transport == "kafka":
                message = f"{shape.subject} needs a Kafka cluster, and none is named"
                help_text = "add `kafka: {bootstrap: HOST:PORT}` to the pipeline or to streamd.yaml"
                self.document.report("missing-key", message, shape.at, help=help_text)
                return

    def _report_missing_registry(self, shapes: list[Shape | None]) -> None:
        for shape in shapes:
            form = getattr(getattr(shape, "settings", None), "format", None)
            if shape is not None and getattr(getattr(form, "settings", None), "registry", False):
                message = f"{shape.subject} has records by a schema registry, and none is named"
                help_text = "add `schema_registry: {url: http://HOST:PORT}` to the pipeline or to streamd.yaml"
                self.document.report("missing-key", message, shape.at, help=help_text)
                return

    def _group(self, root: Mapping, one: Literal["source", "sink"], many: str) -> list[Shape]:
        """The sources or sinks, written as one, or as several in a list or a mapping of ids."""
        single, several = root.get(one), root.get(many)
        if single is not None and several is not None:
            message = f"`{one}` and `{many}` are both given"
            self._incomplete("several-keys", message, root.key(many), f"put all of them below `{many}:`")
        elif single is None and several is None:
            top = (root.start, root.start + 1)
            help_text = f"add `{one}:`, or `{many}:` for several"
            self._incomplete("missing-key", f"the pipeline has no {one}", top, help_text)
        elif single is not None:
            return self._shapes(one, [(root.key(one), single)])
        elif isinstance(several, Sequence) and several.items:
            return self._shapes(one, [(item, item) for item in several.items])
        elif isinstance(several, Mapping) and several.entries:
            return self._by_id(one, many, several)
        elif several is not None:
            message = f"`{many}` must be a list of {many}, or a mapping of ids to {many}, got {_got(several)}"
            self._incomplete("wrong-type", message, root.key(many))
        return []

    def _by_id(self, kind: Kind, many: str, several: Mapping) -> list[Shape]:
        names = self.components.registry.names(kind)
        shapes = []
        for id_, (key, node) in several.entries.items():
            inner = node.entries if isinstance(node, Mapping) else {}
            if id_ in names and not any(name in names for name in inner) and not isinstance(node, Scalar):
                message = f"`{many}` maps ids to {many}, and `{id_}` is a {kind}, not an id"
                help_text = f"write `{kind}:` for one {kind}, or `- {id_}: …` for a list"
                self._incomplete("wrong-type", message, key, help_text)
                continue
            if not ID.fullmatch(id_):
                message = f"`{id_}` is not an id: use letters, digits, `_` and `-`, not starting with a digit"
                self._incomplete("wrong-value", message, key)
                continue
            for shape in self._shapes(kind, [(key, node)]):
                if shape.explicit_id is not None:
                    message = f"the id is given twice, as `{id_}` and as `{shape.explicit_id[0]}`"
                    self.document.report("duplicate-id", message, shape.explicit_id[1], help="remove `id:`")
                shape.explicit_id = (id_, key)
                shapes.append(shape)
        return shapes

    def _stages(self, root: Mapping) -> list[Shape]:
        stages = root.get("stages")
        if stages is None or (isinstance(stages, Scalar) and stages.value is None):
            return []
        if not isinstance(stages, Sequence):
            message = f"`stages` must be a list, got {_got(stages)}"
            self._incomplete("wrong-type", message, root.key("stages"), "start each stage with `- `")
            return []
        shapes = [self.chains.stage(item, _point(item)) for item in stages.items]
        self._complete = self._complete and None not in shapes
        return [shape for shape in shapes if shape is not None]

    def _shapes(self, kind: Kind, written: list[tuple[Node, Node]]) -> list[Shape]:
        shapes = []
        for at, node in written:
            shape = self.components.read_shape(kind, node, _point(at))
            if shape is None:
                self._complete = False
            else:
                shapes.append(shape)
        return shapes

    def _dead_letters(
        self, general: PolicyDraft | None, policies: dict[str, PolicyDraft | None], shapes: list[Shape]
    ) -> tuple[tuple[ComponentConfig, ...], dict[str, str]]:
        """The dead-letter sinks, and {component id ("" for the pipeline): id of its dead-letter sink}."""
        taken = {shape.id for shape in shapes}
        configs: list[ComponentConfig] = []
        ids: dict[str, str] = {}
        made: dict[int, str] = {}
        owners = {shape.id: shape.on_error_of.id for shape in shapes if shape.on_error_of is not None}
        broken = general is None and bool(self.document.problems)
        for owner, draft in {"": general, **policies}.items():
            if draft is not None and draft.inherits is not None:
                if "" in ids and general is not None:
                    ids[owner] = ids[""]
                    draft.policy = replace(draft.policy, include_details=general.policy.include_details)
                elif not broken:
                    self.policies.report_no_sink(draft.inherits)
            if draft is None or draft.dead_letter is None:
                continue
            if id(draft) in made:  # the stages of a chain share what is said beside it
                ids[owner] = made[id(draft)]
                continue
            sink, named = draft.dead_letter, owners.get(owner, owner)
            sink.id = ids[owner] = made[id(draft)] = free_id(f"{named}_dead_letter" if named else "dead_letter", taken)
            taken.add(sink.id)
            self.components.read_settings(sink)
            if sink.name == "file" and not in_lines(form := format_of(sink.settings)):
                message = f"dead letters must go to a file of json, csv or text: they are JSON, got the format {form}"
                self.document.report("wrong-value", message, sink.at, help="leave `format` out")
            config = component_config(self.document, sink)
            if config is not None:
                configs.append(config)
        return tuple(configs), ids

    def _check_sources(self, sources: list[Shape], tables: list[Shape]) -> None:
        if tables and not sources:
            message = "every source of the pipeline has `table:`, so that no records come that would be looked up"
            self._incomplete("missing-key", message, tables[0].at, "add a source without `table:`")

    def _check_policies(self, tables: list[Shape], policies: Mapping_[str, PolicyDraft | None]) -> None:
        """A table is read again at each start, by every worker: what failed once would be given on each time."""
        for shape in tables:
            draft = policies.get(shape.id)
            if draft is not None and draft.policy.action not in ("fail", "skip") and shape.on_error is not None:
                message = f"`on_error` of the table `{shape.id}` must be fail or skip, got {draft.policy.action}"
                help_text = "a table is read anew at each start: skip leaves out, logs and counts what does not fit"
                self.document.report("wrong-value", message, shape.on_error, help=help_text)

    def _check_late(self, stages: list[Shape], dead_letters: Mapping_[str, str]) -> None:
        """Late records for the dead letters need some."""
        for shape in stages:
            if getattr(shape.settings, "late", None) == "dead_letter" and not {"", shape.id} & dead_letters.keys():
                body = shape.body
                at = body.key("late") if isinstance(body, Mapping) and body.get("late") is not None else shape.at
                message = f"{shape.subject} sends late records to the dead letters, and the pipeline has none"
                help_text = "add `on_error: {dead_letter: SINK}` to the pipeline, or write `late: SINK`"
                self.document.report("missing-key", message, at, help=help_text)

    def _check_actions(
        self, sources: list[Shape], stages: list[Shape], sinks: list[Shape], dead_letters: Mapping_[str, str]
    ) -> None:
        """Rules that send records to the dead letters need some."""
        judged: list[tuple[Shape, Any]] = [(source, source.drift) for source in sources]
        judged += [(shape, shape.settings) for shape in stages]
        judged += [(sink, sink.validate.settings) for sink in sinks if sink.validate is not None]
        for shape, settings in judged:
            if getattr(settings, "dead_letters", False) and not {"", shape.id} & dead_letters.keys():
                message = f"{shape.subject} sends records to the dead letters, and the pipeline has none"
                self.document.report("missing-key", message, shape.at, help="add `on_error: {dead_letter: SINK}`")

    def _incomplete(self, code: str, message: str, at: Node | tuple[int, int], help_text: str = "") -> None:
        """Report something that leaves the graph without some of its components, so that it is not worth checking."""
        self._complete = False
        self.document.report(code, message, at, help=help_text)


def _point(node: Node) -> Scalar:
    """Where to point for the whole of an item."""
    return node if isinstance(node, Scalar) else Scalar(node.start, node.start + 1, "", None, None)


def _got(node: Node) -> str:
    if isinstance(node, Sequence | Mapping) and not (node.items if isinstance(node, Sequence) else node.entries):
        return "an empty one"
    return describe(node)


def _late_sinks(stages: tuple[ComponentConfig, ...]) -> tuple[ComponentConfig, ...]:
    """The sinks that late records go to: they read `STAGE.late`, an output that is for nobody else."""
    return tuple(
        replace(late, inputs=(f"{stage.id}.late",))
        for stage in stages
        if isinstance(late := getattr(stage.settings, "late", None), ComponentConfig)
    )


def _policy(draft: PolicyDraft | None, dead_letter: str | None) -> ErrorPolicy | None:
    return None if draft is None else replace(draft.policy, dead_letter=dead_letter)


def _threshold(settings: ErrorThresholdSettings | None) -> ErrorThreshold | None:
    return None if settings is None else ErrorThreshold(settings.rate, settings.window, settings.min_records)

"""The words of a case against the pipeline that it is for: which source, sink and stage each one is."""

from __future__ import annotations

from pathlib import Path

import orjson

from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.config.yaml_nodes import Document, Node
from streamd.plan.graph import build_plan
from streamd.runtime.assembly import codecs_of
from streamd.testing.case_file import Case, CaseFile, EndStep, Expected, ExpectStep, Given, InputStep
from streamd.testing.read_expect import SPECIAL
from streamd.testing.records import UnfitRecordError, source_record


def bind(file: CaseFile, case: Case, config: PipelineConfig) -> dict[str, int]:
    """Put the ids of the pipeline into the case; problems are in the file's document.

    Returns {source id: how many partitions the case has of it}.
    """
    return _Binding(file, case, config).run()


class _Binding:
    def __init__(self, file: CaseFile, case: Case, config: PipelineConfig) -> None:
        self._document: Document = file.document
        self._folder: Path = file.path.parent
        self._case = case
        known = [sink for part in build_plan(config).parts for sink in part.all_sinks if sink.name != "exchange"]
        self._sources: dict[str, ComponentConfig] = {source.id: source for source in (*config.sources, *config.tables)}
        self._stages = [stage.id for stage in config.stages]
        dead_letters = {sink.id for sink in config.dead_letters}
        self._sinks = [sink.id for sink in known if sink.id not in dead_letters]
        self._own_sinks = [sink.id for sink in config.sinks]
        self._partitions = dict.fromkeys(self._sources, 1)
        folder = config.file.parent if config.file is not None else Path.cwd()
        self._codecs = codecs_of((*config.sources, *config.tables), folder)

    def run(self) -> dict[str, int]:
        ended: set[str] = set()
        for step in self._case.steps:
            if isinstance(step, InputStep):
                self._input(step, ended)
            elif isinstance(step, EndStep):
                for name, at in step.sources:
                    self._known(name, at, "source", list(self._sources))
                ended |= {name for name, _ in step.sources} or set(self._sources)
            elif isinstance(step, ExpectStep):
                self._expect(step)
        return self._partitions

    def _input(self, step: InputStep, ended: set[str]) -> None:
        records = [
            (source, at, given)
            for name, at, given in step.records
            if (source := self._one(name, at, "source", list(self._sources))) is not None
        ]
        for name, node, path in step.files:
            source = self._one(name, node, "source", list(self._sources))
            if source is not None:
                records += [(source, node, given) for given in self._lines(self._sources[source], node, path)]
        step.records, step.files = tuple(records), ()
        for source, at, given in records:
            if source in ended:
                self._document.report("after-end", f"source `{source}` has ended before this", at)
                return
            self._partitions[source] = max(self._partitions[source], given.partition + 1)
            try:
                source_record(given, self._sources[source], self._codecs, 0)
            except UnfitRecordError as error:
                self._document.report("wrong-value", str(error), given.node)

    def _lines(self, source: ComponentConfig, node: Node, path: str) -> list[Given]:
        """The records of a file of lines."""
        decoded = source.spec.decoded or getattr(source.settings, "decoded", False)
        try:
            lines = (self._folder / path).read_text("utf-8").splitlines()
            values = [orjson.loads(line) if decoded else line for line in lines]
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text of JSON lines"
            self._document.report("unreadable-file", f"cannot read the file `{path}`: {reason}", node)
            return []
        return [Given(node, value) for value in values]

    def _expect(self, step: ExpectStep) -> None:
        for expected in step.outputs:
            if expected.kind == "sink":
                self._output(expected)
        for counted in step.counts:
            if counted.stage:
                components = [*self._stages, *self._sources, *self._sinks]
                self._known(counted.stage, counted.at, "component", components)
        for view in step.views:
            self._known(view.stage, view.at, "stage", self._stages)

    def _output(self, expected: Expected) -> None:
        if not expected.output:
            expected.output = self._one("", expected.at, "sink", self._own_sinks) or ""
        else:
            self._known(expected.output, expected.at, "sink", self._sinks, SPECIAL)

    def _one(self, name: str, at: Node, kind: str, known: list[str]) -> str | None:
        """The id that a name stands for: itself, or the only one for an empty name."""
        if name:
            return name if self._known(name, at, kind, known) else None
        if len(known) == 1:
            return known[0]
        message = f"the pipeline has {len(known)} {kind}s: say which"
        self._document.report("several-components", message, at, one_of(known), help=f"`{known[0]}: […]`")
        return None

    def _known(self, name: str, at: Node, kind: str, known: list[str], also: tuple[str, ...] = ()) -> bool:
        if name in known:
            return True
        message = f"the pipeline has no {kind} `{name}`"
        self._document.report(
            f"unknown-{kind}", message, at, one_of([*known, *also]), did_you_mean(name, [*known, *also])
        )
        return False

"""Puts what `validate` needs into a pipeline's graph: checks before sinks, and stages that remember. Pure.

- validate: {rules: [{unique: …}], score: …}
    becomes   ID (keyed) → ID.split → its records, and its counts → ID.scores
- kafka: {…}, validate: {…}
    becomes   SINK.validate → SINK
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamd.config.pipeline import ComponentConfig, PipelineConfig

if TYPE_CHECKING:
    from streamd.quality.checks import ValidateSettings


def with_validations(config: PipelineConfig) -> PipelineConfig:
    """The pipeline with all that its validations need."""
    if not any(stage.name == "validate" for stage in config.stages) and not any(s.validate for s in config.sinks):
        return config
    # Here: a plan without one need not know them.
    from streamd.quality.checks import ValidateSettings

    stages: list[ComponentConfig] = []
    # {what was read: what is read now}
    moved: dict[str, str] = {}
    for stage in config.stages:
        settings = stage.settings
        if isinstance(settings, ValidateSettings) and (settings.unique is not None or settings.score is not None):
            stages += _remembering(stage, settings)
            if settings.score is not None:
                moved[f"{stage.id}.records"] = f"{stage.id}.split.records"
        else:
            stages.append(stage)

    def behind(component: ComponentConfig) -> ComponentConfig:
        return replace(component, inputs=tuple(moved.get(read, read) for read in component.inputs))

    stages, sinks = [behind(stage) for stage in stages], []
    for sink in map(behind, config.sinks):
        if sink.validate is not None:
            before = _before(sink, sink.validate)
            stages.append(before)
            sink = replace(sink, inputs=(before.id,))
        sinks.append(sink)
    return replace(config, stages=tuple(stages), sinks=tuple(sinks))


def _before(sink: ComponentConfig, validate: ComponentConfig) -> ComponentConfig:
    from streamd.quality.fused import BeforeSink

    return replace(validate, id=f"{sink.id}.validate", inputs=sink.inputs, on_error=sink.on_error, spec=BeforeSink.spec)


def _remembering(stage: ComponentConfig, settings: ValidateSettings) -> list[ComponentConfig]:
    """The stages in place of one that has to remember."""
    from streamd.quality.keyed import KeyedValidation, UniqueSettings
    from streamd.quality.scores import Scores, Split, SplitSettings, score_settings

    kind = type(settings) if settings.unique is None else UniqueSettings
    fields = {name: getattr(settings, name) for name in type(settings).model_fields}
    keyed = replace(stage, settings=kind.model_construct(**fields), spec=KeyedValidation.spec)
    if settings.score is None:
        return [keyed]
    split = replace(stage, id=f"{stage.id}.split", settings=SplitSettings(), spec=Split.spec, inputs=(stage.id,))
    scores = replace(
        stage,
        id=f"{stage.id}.scores",
        settings=score_settings(stage.id, settings),
        spec=Scores.spec,
        inputs=(f"{split.id}.counts",),
    )
    return [keyed, split, scores]

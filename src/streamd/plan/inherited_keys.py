"""A stage that may name no key, such as a window, works by that of the `key_by` before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamd.config.diagnostics import Diagnostic
from streamd.config.pipeline import ComponentConfig, PipelineConfig
from streamd.errors import ConfigError


def with_inherited_keys(config: PipelineConfig) -> PipelineConfig:
    """The pipeline with the key of each stage that has `with_key` in its settings and none of its own.

    The key is that of the nearest `key_by` that all of its records come from, where every stage between keeps the
    key's fields. Raises ConfigError where that makes settings that mean nothing.
    """
    nodes = {component.id: component for component in (*config.sources, *config.stages)}
    stages = tuple(_with_key(stage, nodes) for stage in config.stages)
    return config if stages == config.stages else replace(config, stages=stages)


def _with_key(stage: ComponentConfig, nodes: Mapping[str, ComponentConfig]) -> ComponentConfig:
    settings: Any = stage.settings
    if not hasattr(settings, "with_key") or settings.by is not None:
        return stage
    key = _key_before(stage, nodes)
    if key is None:
        return stage
    try:
        return replace(stage, settings=settings.with_key(key))
    except ValueError as error:
        message = f"stage `{stage.id}` has no `by` and takes that of the key_by before it: {error}"
        raise ConfigError(f"{stage.place}: {message}", (Diagnostic("bad-plan", message, stage.place),)) from None


def _key_before(stage: ComponentConfig, nodes: Mapping[str, ComponentConfig]) -> Mapping[str, Any] | None:
    """{name: expression} of the `key_by` that is in force where a stage reads; None where there is none."""
    between: list[ComponentConfig] = []
    while len(stage.inputs) == 1:
        read = stage.inputs[0]
        stage = nodes[read if read in nodes else read.rpartition(".")[0]]
        if stage.name == "key_by":
            by: Mapping[str, Any] = stage.settings.by  # type: ignore[attr-defined]
            kept = all(_keeps(one, str(expression)) for one in between for expression in by.values())
            return by if kept else None
        if stage.kind == "source" or stage.spec.keyed:
            return None
        between.append(stage)
    return None


def _keeps(stage: ComponentConfig, text: str) -> bool:
    """Whether a stage keeps the field that an expression is, or begins with."""
    names = text.split(".")
    return all(name.isidentifier() for name in names) and stage.spec.keeps(stage.settings, names[0])

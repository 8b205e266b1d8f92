"""Components that exist for tests of the configuration only, and the types of the fixtures that load them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from streamd.component.fields import ByteSize, ComponentRef, Duration, ExpressionField, FieldPath, Secret
from streamd.component.model import Model
from streamd.component.registry import Registry
from streamd.component.spec import sink, source, stage
from streamd.config.diagnostics import Diagnostic
from streamd.config.pipeline import PipelineConfig

Load = Callable[..., PipelineConfig]
Problems = Callable[..., list[Diagnostic]]
Spots = Callable[..., list[tuple[str, int, int]]]


class TimeConfig(Model):
    field: ExpressionField
    idle: Duration = 0.0


class TopicConfig(Model):
    topic: str = Field(description="Topic to read.", examples=["orders"])
    format: Literal["json", "text"] = "json"
    time: str | TimeConfig | None = None
    start: Literal["earliest", "latest"] | int = "earliest"
    limit: int = Field(100, ge=1)
    buffer: ByteSize = 1024
    password: Secret | None = None
    dsn: Secret | None = None
    options: dict[str, Any] = Field(default_factory=dict)


@source("topic", config=TopicConfig)
class TopicSource: ...


class FilterConfig(Model):
    where: ExpressionField


@stage("filter", config=FilterConfig, shorthand="where")
class Filter: ...


class SetConfig(Model):
    fields: dict[str, ExpressionField] = Field(min_length=1)


@stage("set", config=SetConfig, shorthand="fields", shorthand_always=True)
class Set: ...


class DropConfig(Model):
    fields: tuple[FieldPath, ...]


@stage("drop", config=DropConfig, shorthand="fields")
class Drop: ...


class RouteConfig(Model):
    when: dict[str, ExpressionField] | ExpressionField


@stage("route", config=RouteConfig, outputs=lambda config: tuple(config.when) if isinstance(config.when, dict) else ())
class Route: ...


class WindowConfig(Model):
    size: Duration
    late: ComponentRef | None = None
    names: list[TimeConfig] = Field(default_factory=list)

    @field_validator("size")
    @classmethod
    def _short(cls, value: float) -> float:
        if value > 3600:
            raise ValueError(f"a window of {value:g} s is too long; an hour at most")
        return value


@stage("window", config=WindowConfig)
class Window: ...


class FileConfig(Model):
    path: Path
    quota: int | None = None


@sink("file", config=FileConfig, shorthand="path")
class File: ...


class DiscardConfig(Model):
    pass


@sink("discard", config=DiscardConfig)
class Discard: ...


COMPONENTS = (TopicSource, Filter, Set, Drop, Route, Window, File, Discard)


def demo_registry() -> Registry:
    """A registry of these components and no others."""
    return Registry(specs=[cls.spec for cls in COMPONENTS])  # type: ignore[attr-defined]

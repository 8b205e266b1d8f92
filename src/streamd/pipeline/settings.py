"""What is given to a pipeline in code, checked by the same models as in YAML, and told in one line when it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from streamd.component.spec import ComponentSpec
from streamd.config.diagnostics import did_you_mean
from streamd.config.file_text import is_secret_name
from streamd.config.findings import Finding, Location, findings
from streamd.config.read_pipeline import PipelineSettings
from streamd.config.yaml_nodes import Node, Scalar
from streamd.errors import ConfigError


class SettingsError(ConfigError, ValueError):
    """Settings that a pipeline cannot be run with."""


def checked_name(name: Any) -> str:
    """The pipeline's name. Raises SettingsError when a file could not have it."""
    try:
        return PipelineSettings.model_validate({"name": name}, strict=True).name
    except ValidationError:
        raise SettingsError(
            "a pipeline's name has 1 to 100 letters (a to z), digits, `_` and `-`, and starts with a letter or a "
            f"digit; got {_shown(name)}"
        ) from None


def checked_component(spec: ComponentSpec, settings: Any) -> Any:
    """A component's settings, of what YAML would give it. Raises SettingsError."""
    given = settings
    if spec.shorthand and (spec.shorthand_always or not isinstance(settings, Mapping)):
        settings = {} if settings is None and not spec.shorthand_always else {spec.shorthand: settings}
    return _checked(spec.config, {} if settings is None else settings, f"{spec.kind} {spec.name!r}", given)


def checked_kafka(settings: Any) -> Any:
    """How to reach Kafka, as the `kafka:` section says it. Raises SettingsError."""
    from streamd.transport.kafka.settings import KafkaSettings

    return _checked(KafkaSettings, settings, "kafka", settings)


def _checked(model: type[BaseModel], settings: Any, subject: str, given: Any) -> Any:
    if not isinstance(settings, Mapping):
        raise SettingsError(f"{subject}: settings must be a mapping, got {_shown(settings)}")
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        found = findings(error, lambda location: (_NOWHERE, _NOWHERE, _keys(settings, location)))
        problems = "; ".join(_in_words(one, model, settings, given) for one in found)
    raise SettingsError(f"{subject}: {problems}")


_NOWHERE: Node = Scalar(0, 0, "", None, None)


def _keys(settings: Any, location: Location) -> Location:
    """The keys of a location that are in the settings; what pydantic puts in beside them leads nowhere."""
    path: list[int | str] = []
    for element in location:
        inside = isinstance(settings, Mapping) and element in settings
        if inside or (isinstance(settings, list | tuple) and isinstance(element, int) and element < len(settings)):
            path.append(element)
            settings = settings[element]
    return tuple(path)


def _in_words(finding: Finding, model: type[BaseModel], settings: Any, given: Any) -> str:
    where = ".".join(map(str, finding.path))
    start = f"{where}: " if where else ""
    if finding.code == "missing-key":
        return f"{where}.{finding.name} is missing" if where else f"{finding.name} is missing"
    if finding.code == "unknown-key":
        near = did_you_mean(str(finding.path[-1]), model.model_fields) if len(finding.path) == 1 else ""
        return f"{start}there is no such setting" + (f", {near}" if near else "")
    if finding.error is not None:
        return f"{start}this is not an expression: {finding.error.message}"
    if not finding.wanted:
        return start + finding.text
    if any(is_secret_name(str(key)) for key in finding.path):
        return f"{start}must be {finding.wanted}"
    for key in finding.path:
        settings = settings[key]
    return f"{start}must be {finding.wanted}, got {_shown(settings if finding.path else given)}"


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float | bool | None):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "…"
    return "a mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"

"""The configuration that is shipped says every setting, holds the defaults, and loads wherever it is shipped to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from streamd.component.registry import Registry
from streamd.config.load import load_pipeline_text, load_pipelines, load_service
from streamd.config.service import ServiceConfig
from streamd.transport.kafka.settings import KafkaSettings

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICE = REPOSITORY / "config" / "streamd.yaml"
ENVIRONMENT = {"KAFKA_BOOTSTRAP": "kafka:9092"}


def models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models(argument)]


def names(model: type[BaseModel]) -> set[str]:
    """Names of all settings of a model and of the models within."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for inner in models(field.annotation):
            found |= names(inner)
    return found


def test_the_service_file_holds_the_defaults():
    shipped, default = load_service(SERVICE, {}).model_dump(), load_service(None, {}).model_dump()
    assert shipped.pop("kafka") == KafkaSettings(bootstrap="localhost:9092").model_dump()
    default.pop("kafka")
    assert shipped == default


def test_the_service_file_names_every_setting():
    text = SERVICE.read_text()
    wanted = names(ServiceConfig) | set(KafkaSettings.model_fields)
    assert {name for name in wanted if not re.search(rf"\b{name}:", text)} == set()


def test_every_setting_of_the_service_is_described():
    undescribed = []
    for model in (ServiceConfig, *(m for f in ServiceConfig.model_fields.values() for m in models(f.annotation))):
        undescribed += [f"{model.__name__}.{n}" for n, field in model.model_fields.items() if not field.description]
    assert undescribed == []


def kubernetes_files() -> dict[str, str]:
    return dict(yaml.safe_load((REPOSITORY / "deploy" / "kubernetes" / "configmap.yaml").read_text())["data"])


def test_the_configuration_for_kubernetes_loads(tmp_path):
    file = tmp_path / "streamd.yaml"
    file.write_text(kubernetes_files().pop("streamd.yaml"))
    service = load_service(file, ENVIRONMENT)
    assert service.http.host == "0.0.0.0"
    assert service.kafka.bootstrap == ("kafka:9092",)


@pytest.mark.parametrize("name", [name for name in kubernetes_files() if name != "streamd.yaml"])
def test_the_pipelines_for_kubernetes_load(name, tmp_path):
    service = load_service(SERVICE, ENVIRONMENT)
    pipeline = load_pipeline_text(kubernetes_files()[name], Path(name), Registry.default(), {}, service)
    assert pipeline.name == Path(name).stem


def test_the_pipelines_of_the_compose_file_load():
    service = load_service(SERVICE, ENVIRONMENT)
    pipelines = load_pipelines([REPOSITORY / "deploy" / "compose" / "pipelines"], Registry.default(), {}, service)
    assert {pipeline.name for pipeline in pipelines} == {"generate-orders", "big-orders"}


def test_every_mounted_file_of_the_pod_is_in_the_config_map():
    pod = yaml.safe_load((REPOSITORY / "deploy" / "kubernetes" / "statefulset.yaml").read_text())
    volumes = pod["spec"]["template"]["spec"]["volumes"]
    mounted = {item["key"] for volume in volumes for item in volume.get("configMap", {}).get("items", ())}
    assert mounted == set(kubernetes_files())

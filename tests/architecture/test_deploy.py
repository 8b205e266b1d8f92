"""What is shipped beside the code is valid, safe, and speaks of metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

from services.process import require
from streamd.observability.catalog import CATALOG

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.stem != "kustomization")
METRIC = re.compile(r"\bstreamd_\w+")


def run(*command: str | Path, cwd: Path = REPOSITORY) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} says:\n{done.stdout}{done.stderr}"
    return done.stdout


def known_series() -> set[str]:
    """Every series name that the catalog's metrics make."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, metric in CATALOG.items() for suffix in suffixes.get(metric.kind, ("",))}


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())


def test_dockerfile_passes_the_linter():
    run(Path(sys.executable).with_name("hadolint"), "Dockerfile")


def test_image_runs_as_nobody_special_and_checks_its_health():
    lines = (REPOSITORY / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", lines, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\n\s+CMD .*/health/live", lines, re.MULTILINE)


def test_compose_file_is_valid():
    compose = compose_spec.PyCompose.from_yaml((REPOSITORY / "docker-compose.yml").read_text())
    compose.validate()
    assert set(compose.service_names()) == {"streamd", "kafka", "schema-registry", "postgres", "prometheus", "grafana"}


def compose_file() -> Any:
    return yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


def test_compose_services_are_checked_pinned_and_local():
    for name, service in compose_file()["services"].items():
        healthy_by_image = name == "streamd"  # the image has a HEALTHCHECK of its own
        assert "healthcheck" in service or healthy_by_image, name
        assert "build" in service or re.search(r":\w*\d+\.?\d*", service["image"]), f"{name}: pin the image's version"
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), f"{name}: publish locally"


def test_compose_mounts_exist():
    for name, service in compose_file()["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (REPOSITORY / source).exists(), f"{name} mounts {source}, which is not there"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.28", "1.31", "1.34"])
def test_kubernetes_manifests_fit_their_schemas(path, version):
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def test_kustomization_names_every_manifest():
    assert set(manifest("kustomization")["resources"]) == {path.name for path in MANIFESTS}


def test_pods_meet_the_restricted_standard():
    pod = manifest("statefulset")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "livenessProbe", "readinessProbe", "resources"} <= set(container)


def test_selectors_meet_the_pods():
    labels = manifest("statefulset")["spec"]["template"]["metadata"]["labels"]
    assert manifest("service")["spec"]["selector"].items() <= labels.items()
    for name in ("poddisruptionbudget",):
        assert manifest(name)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def systemd_unit(folder: Path) -> Path:
    """The unit with its program replaced by one that exists on any machine: verify looks for it."""
    text = (DEPLOY / "systemd" / "streamd.service").read_text()
    unit = folder / "streamd.service"
    unit.write_text(text.replace("/opt/streamd/bin/streamd", "/bin/true"))
    return unit


def test_systemd_unit_is_valid(tmp_path):
    analyze = require("systemd-analyze", "systemd")
    run(analyze, "verify", "--man=no", "--recursive-errors=no", systemd_unit(tmp_path))


def test_systemd_unit_is_confined(tmp_path):
    analyze = require("systemd-analyze", "systemd")
    run(analyze, "security", "--offline=true", "--threshold=20", systemd_unit(tmp_path))  # 2.0 of 10


def test_prometheus_configuration_and_alerts():
    promtool = require("promtool", "prometheus")
    folder = DEPLOY / "prometheus"
    run(promtool, "check", "config", "prometheus.yml", cwd=folder)
    run(promtool, "check", "rules", "alerts.yml", cwd=folder)
    run(promtool, "test", "rules", "alerts_test.yml", cwd=folder)


def unknown_metrics(texts: Sequence[str]) -> set[str]:
    return {name for text in texts for name in METRIC.findall(text)} - known_series()


def test_alerts_speak_of_metrics_that_exist():
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    assert unknown_metrics([rule["expr"] for group in groups for rule in group["rules"]]) == set()


def test_dashboard_speaks_of_metrics_that_exist():
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "streamd.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [variable.get("definition", "") for variable in dashboard["templating"]["list"]]
    assert len(queries) > 20
    assert unknown_metrics(queries) == set()


def test_dashboard_panels_do_not_overlap():
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "streamd.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_pre_commit_hooks_need_no_download():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert all(hook["language"] == "system" for repo in hooks["repos"] for hook in repo["hooks"])

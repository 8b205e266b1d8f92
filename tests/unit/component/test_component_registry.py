"""Finding components by kind and name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.components import Filter, demo_registry
from streamd.component.registry import KINDS, Registry
from streamd.errors import ConfigError

MODULE = '''"""{doc}"""
from streamd.component.model import Model
from streamd.component.spec import {kind}

class Config(Model): ...

@{kind}("{name}", config=Config)
class Thing: ...
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An importable empty package; its name is that of the folder."""
    folder = tmp_path / f"found_{abs(hash(request.node.nodeid))}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def registry_of(package: Path) -> Registry:
    return Registry({"stage": package.name})


def test_modules_and_packages_are_components(package: Path) -> None:
    """A file or a folder of the component's name; nothing is imported to list them."""
    (package / "one.py").write_text(MODULE.format(doc="The first.", kind="stage", name="one"))
    (package / "two").mkdir()
    (package / "two" / "__init__.py").write_text(MODULE.format(doc="The second.", kind="stage", name="two"))
    (package / "_private.py").write_text("raise RuntimeError")
    registry = registry_of(package)

    assert registry.names("stage") == ("one", "two")
    assert f"{package.name}.one" not in sys.modules
    for name, doc in (("one", "The first."), ("two", "The second.")):
        spec = registry.get("stage", name)
        assert spec is not None
        assert (spec.kind, spec.name, spec.doc) == ("stage", name, doc)
    assert registry.get("stage", "one") is registry.get("stage", "one")


def test_what_is_not_there() -> None:
    """None, and a suggestion where one is near."""
    registry = demo_registry()

    assert registry.get("stage", "nope") is None
    assert registry.get("sink", "filter") is None
    assert registry.suggest("stage", "fliter") == "filter"
    assert registry.suggest("stage", "something else") is None
    assert registry.kinds_of("filter") == ("stage",)
    assert registry.kinds_of("nope") == ()


def test_specs_given_by_hand() -> None:
    """Components made in code or in tests."""
    assert demo_registry().get("stage", "filter") is Filter.spec  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        MODULE.format(doc="", kind="stage", name="other"),
        MODULE.format(doc="", kind="sink", name="bad"),
        "",
        MODULE.format(doc="", kind="stage", name="bad") + '\n@stage("bad", config=Config)\nclass Other: ...\n',
    ],
)
def test_a_module_must_define_its_component(package: Path, text: str) -> None:
    """Another name, another kind, none, or two are mistakes of whoever wrote it."""
    (package / "bad.py").write_text(text)

    with pytest.raises(ConfigError, match="must define exactly one stage, `bad`"):
        registry_of(package).get("stage", "bad")


def test_a_missing_package_is_named(package: Path) -> None:
    """What only some components need may be missing."""
    (package / "needy.py").write_text("import no_such_package_anywhere\n")

    with pytest.raises(ConfigError, match="`no_such_package_anywhere`"):
        registry_of(package).get("stage", "needy")


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another installed package may bring components, as a class or as a module."""
    (tmp_path / "brought.py").write_text(MODULE.format(doc="Brought.", kind="sink", name="gift"))
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[streamd.sinks]\ngift = brought:Thing\nalso = brought\nwrong = brought:Config\ngone = brought:Gone\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry(entry_points=True)

    gift = registry.get("sink", "gift")
    assert gift is not None
    assert gift.doc == "Brought."
    assert {"gift", "also", "wrong", "gone"} <= set(registry.names("sink"))
    with pytest.raises(ConfigError, match="exactly one sink, `also`"):
        registry.get("sink", "also")
    with pytest.raises(ConfigError, match="is not a sink"):
        registry.get("sink", "wrong")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        registry.get("sink", "gone")


@pytest.mark.parametrize("kind", KINDS)
def test_all_built_in_components_load(kind: str) -> None:
    """Each file of sources, stages and sinks defines the component of its name."""
    registry = Registry.default()

    for name in registry.names(kind):  # type: ignore[arg-type]
        spec = registry.get(kind, name)  # type: ignore[arg-type]
        assert spec is not None
        assert spec.kind == kind


def test_listing_imports_no_component() -> None:
    """`names` reads folders only, so that a command line without Kafka never loads its client."""
    code = (
        "import sys; from streamd.component.registry import Registry; r = Registry.default();"
        "[r.names(k) for k in ('source', 'stage', 'sink')]; r.suggest('source', 'kafak');"
        "print(any(m.startswith(('streamd.sources.', 'streamd.stages.', 'aiokafka')) for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"

"""Finds components by kind and name: built-ins by file name, others by entry point. Imports only what is asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from streamd.component.spec import ComponentSpec, Kind
from streamd.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

KINDS: tuple[Kind, ...] = ("source", "stage", "sink")

# Named as text: component stands below these packages and must not import them.
BUILT_IN: Mapping[Kind, str] = {"source": "streamd.sources", "stage": "streamd.stages", "sink": "streamd.sinks"}


class Registry:
    """All components that a pipeline may name.

    `packages` maps a kind to the package whose modules are its components (file name = YAML name = registered name);
    `specs` are components known at once, for tests and for components made in code; they win over the packages.
    """

    def __init__(
        self,
        packages: Mapping[Kind, str] | None = None,
        specs: Iterable[ComponentSpec] = (),
        entry_points: bool = False,
    ) -> None:
        self._packages = dict(packages or {})
        self._use_entry_points = entry_points
        self._specs: dict[tuple[Kind, str], ComponentSpec] = {(spec.kind, spec.name): spec for spec in specs}
        self._modules: dict[Kind, dict[str, str]] = {}
        self._entry_points: dict[Kind, dict[str, EntryPoint]] = {}

    @classmethod
    def default(cls) -> Registry:
        """Built-ins of streamd, and what other packages offer as entry points `streamd.sources|stages|sinks`."""
        return cls(BUILT_IN, entry_points=True)

    def names(self, kind: Kind) -> tuple[str, ...]:
        """All names of a kind, sorted. Imports no component."""
        known = {name for spec_kind, name in self._specs if spec_kind == kind}
        return tuple(sorted(known | self._found(kind).keys() | self._offered(kind).keys()))

    def get(self, kind: Kind, name: str) -> ComponentSpec | None:
        """The component, its module imported on first use; None when there is none of that name.

        Raises ConfigError when it exists and cannot be loaded (a package that it needs is missing).
        """
        spec = self._specs.get((kind, name))
        if spec is None and name in self._found(kind):
            module = _imported(kind, name, self._found(kind)[name])
            spec = _spec_in(module, kind, name)
        elif spec is None and name in self._offered(kind):
            spec = _spec_offered(self._offered(kind)[name], kind, name)
        if spec is not None:
            self._specs[kind, name] = spec
        return spec

    def suggest(self, kind: Kind, name: str) -> str | None:
        """The nearest name of that kind, for "did you mean"; None when nothing is near."""
        matches = difflib.get_close_matches(name.replace("-", "_").lower(), self.names(kind), n=1, cutoff=0.6)
        return matches[0] if matches else None

    def kinds_of(self, name: str) -> tuple[Kind, ...]:
        """The kinds that have a component of that name."""
        return tuple(kind for kind in KINDS if name in self.names(kind))

    def _found(self, kind: Kind) -> dict[str, str]:
        """{component name: module name} of the kind's package; reads the folder listing only."""
        if kind not in self._modules:
            package = self._packages.get(kind)
            self._modules[kind] = {} if package is None else _listed(package)
        return self._modules[kind]

    def _offered(self, kind: Kind) -> dict[str, EntryPoint]:
        """{component name: entry point} of other installed packages."""
        if not self._use_entry_points:
            return {}
        if kind not in self._entry_points:
            # Costs some 10 ms, so only a name that is not built in gets here.
            from importlib.metadata import entry_points

            self._entry_points[kind] = {entry.name: entry for entry in entry_points(group=f"streamd.{kind}s")}
        return self._entry_points[kind]


def _listed(package: str) -> dict[str, str]:
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        return {}
    modules = pkgutil.iter_modules(found.submodule_search_locations)
    return {module.name: f"{package}.{module.name}" for module in modules if not module.name.startswith("_")}


def _imported(kind: Kind, name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("streamd"):
            raise
        raise ConfigError(
            f"{kind} `{name}` needs the Python package `{error.name}`, which is not installed; "
            f"install it, or streamd with the extra that brings it"
        ) from error


def _spec_in(module: ModuleType, kind: Kind, name: str) -> ComponentSpec:
    classes = [value for value in vars(module).values() if isinstance(value, type) and _within(value, module)]
    specs = [spec for cls in classes if isinstance(spec := vars(cls).get("spec"), ComponentSpec)]
    if len(specs) != 1 or specs[0].kind != kind or specs[0].name.replace("-", "_") != name:
        got = ", ".join(f"{spec.kind} `{spec.name}`" for spec in specs) or "none"
        raise ConfigError(f"Module {module.__name__} must define exactly one {kind}, `{name}`; it defines {got}")
    return specs[0]


def _within(cls: type, module: ModuleType) -> bool:
    """Whether the class is defined in the module, or in one below it when it is a package."""
    return cls.__module__ == module.__name__ or cls.__module__.startswith(module.__name__ + ".")


def _spec_offered(entry: EntryPoint, kind: Kind, name: str) -> ComponentSpec:
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} `{name}` of entry point `{entry.value}` cannot be loaded: {error}") from error
    if isinstance(loaded, ModuleType):
        return _spec_in(loaded, kind, name)
    spec: object = getattr(loaded, "spec", None)
    if not isinstance(spec, ComponentSpec) or spec.kind != kind:
        raise ConfigError(f"Entry point `{entry.value}` is not a {kind}: it must name a class decorated with @{kind}")
    return spec

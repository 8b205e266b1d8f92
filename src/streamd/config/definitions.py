"""The components of one document with their settings, and the chains and filters that it defines, used or not."""

from __future__ import annotations

from collections.abc import Iterable

from streamd.component.registry import Registry
from streamd.config.chains import ChainReader, noted
from streamd.config.components import ComponentReader, Shape
from streamd.config.conditions import ConditionReader
from streamd.config.parameters import Budget
from streamd.config.policy import PolicyDraft, PolicyReader
from streamd.config.shared import Library
from streamd.config.yaml_nodes import Document


class DefinitionReader:
    """Reads one document with its library. `shared`: the file is imported by others, and is no pipeline."""

    def __init__(self, document: Document, registry: Registry, library: Library, *, shared: bool = False) -> None:
        self.document = document
        self.library = library
        budget = Budget()
        self.conditions = ConditionReader(document, library, budget)
        self.components = ComponentReader(document, registry, self.conditions, sinks_here=not shared)
        self.policies = PolicyReader(document, self.components)
        self.chains = ChainReader(document, self.components, library, budget)

    def read_settings(self, shapes: Iterable[Shape]) -> None:
        """Set `spec` and `settings` of each."""
        for shape in shapes:
            with noted(self.document, shape.note):
                self.components.read_settings(shape)

    def read_policies(self, shapes: Iterable[Shape]) -> dict[str, PolicyDraft | None]:
        """{id: what becomes of its errors} of those that say so; the stages of a chain share what is said beside it."""
        shared: dict[int, PolicyDraft | None] = {}
        policies: dict[str, PolicyDraft | None] = {}
        for shape in shapes:
            node = shape.on_error
            if node is None:
                continue
            if id(node) not in shared:
                with noted(self.document, shape.note if shape.on_error_of is None else ""):
                    shared[id(node)] = self.policies.read(node, shape.at)
            policies[shape.id] = shared[id(node)]
        return policies

    def check(self) -> None:
        """Report what is wrong with the definitions, used or not. What was reported for a use is not said again."""
        known = {(problem.code, problem.place, problem.message) for problem in self.document.problems}
        before = len(self.document.problems)
        for definition in self.library.filters.values():
            self.conditions.check(definition)
        for definition in self.library.chains.values():
            shapes = self.chains.check(definition)
            self.read_settings(shapes)
            self.read_policies(shapes)
        fresh = self.document.problems[before:]
        self.document.problems[before:] = [
            problem for problem in fresh if (problem.code, problem.place, problem.message) not in known
        ]

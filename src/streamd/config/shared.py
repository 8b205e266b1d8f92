"""`chains:`, `filters:` and `imports:` → a `Library`: what a pipeline may use by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from collections.abc import Mapping as Mapping_
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from streamd.component.model import Model
from streamd.config.diagnostics import did_you_mean, one_of
from streamd.config.model_check import Check, describe
from streamd.config.parameters import Parameter, read_parameters
from streamd.config.pipeline import Place
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence
from streamd.errors import ConfigError

ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
SHARED = ("chains", "filters", "imports")
_FILE_KEYS = ("description", *SHARED)
_OF_A_PIPELINE = ("name", "source", "sources", "stages", "sink", "sinks")
MAX_FILES = 200

# The path of an imported file → its document; raises ConfigError when it cannot be read.
Open = Callable[[Path], Document]


class DescribedSettings(Model):
    """What a chain or a filter says beside its stages or its condition."""

    description: str = Field("", description="What it is for, for people.", examples=["Orders that count, in euro"])


@dataclass(frozen=True, slots=True)
class Definition:
    """A named chain or filter. `body` is the node of its stages, or of its condition; `at` that of its name.

    `place`: where it is defined.
    """

    kind: Literal["chain", "filter"]
    name: str
    at: Node
    description: str
    parameters: Mapping_[str, Parameter]
    body: Node
    place: Place

    @property
    def subject(self) -> str:
        """How messages speak of it."""
        return f"{self.kind} `{self.name}`"


@dataclass(slots=True)
class Library:
    """All that can be used by name, and the texts of the imported files by path."""

    chains: dict[str, Definition] = field(default_factory=dict)
    filters: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)


def is_shared(root: Node | None) -> bool:
    """Whether a file holds only what others import: it is no pipeline."""
    if not isinstance(root, Mapping):
        return False
    return any(key in root.entries for key in SHARED) and not any(key in root.entries for key in _OF_A_PIPELINE)


def check_shared_keys(document: Document, root: Mapping) -> None:
    """Report what does not belong into a file that others import."""
    for key in root.entries:
        if key in _FILE_KEYS:
            continue
        message = f"unknown key `{key}` in a file of chains and filters"
        help_text = did_you_mean(key, _FILE_KEYS)
        if key in _OF_A_PIPELINE:
            help_text = "a pipeline cannot be imported: put its chains and filters into a file of their own"
        document.report("unknown-key", message, root.key(key), one_of(_FILE_KEYS), help_text)


def read_library(document: Document, file: Path, open_: Open) -> Library:
    """What the document and the files that it imports define; everything wrong with that is reported."""
    reader = _LibraryReader(document, open_)
    if isinstance(document.root, Mapping):
        reader.read(document.root, file, [file])
    return reader.library


class _LibraryReader:
    def __init__(self, document: Document, open_: Open) -> None:
        self.document = document
        self.library = Library()
        self._open = open_
        self._done: set[Path] = set()

    def read(self, root: Mapping, file: Path, path: list[Path]) -> None:
        """`path`: the files that lead here by imports, this one last."""
        self._done.add(file.resolve())
        self._imports(root, file, path)
        for kind, known in (("chain", self.library.chains), ("filter", self.library.filters)):
            self._definitions(kind, root, known)

    def _imports(self, root: Mapping, file: Path, path: list[Path]) -> None:
        node = root.get("imports")
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return
        items = node.items if isinstance(node, Sequence) else [node]
        for item in items:
            if isinstance(item, Scalar) and isinstance(item.value, str) and item.value:
                if id(item) not in self.document.broken:
                    self._import(item, file, path)
            else:
                message = f"`imports` must be a list of files, got {describe(item)}"
                self.document.report("wrong-type", message, item if isinstance(item, Scalar) else root.key("imports"))

    def _import(self, item: Scalar, file: Path, path: list[Path]) -> None:
        wanted = Path(os.path.normpath(file.parent / str(item.value)))
        real = wanted.resolve()
        cycle = [str(each) for each in path if each.resolve() == real]
        if cycle:
            flow = " → ".join([*map(str, path[[each.resolve() for each in path].index(real) :]), str(wanted)])
            self.document.report("cycle", f"files import each other: {flow}", item)
            return
        if real in self._done:
            return
        if len(self._done) >= MAX_FILES:
            self.document.report("too-large", f"more than {MAX_FILES} files are imported", item)
            return
        found = self._opened(item, wanted)
        if found is None:
            return
        self.library.imports[str(wanted)] = found.source.text
        self.document.adopt(found)
        if isinstance(found.root, Mapping):
            check_shared_keys(self.document, found.root)
            self.read(found.root, wanted, [*path, wanted])
        elif found.root is not None or not found.problems:
            message = f"{wanted} holds no chains or filters"
            self.document.report("wrong-type", message, item, help="an imported file has `chains:` or `filters:`")

    def _opened(self, item: Scalar, wanted: Path) -> Document | None:
        try:
            return self._open(wanted)
        except ConfigError as error:
            for problem in error.diagnostics:
                code, message = getattr(problem, "code", "unreadable-file"), getattr(problem, "message", str(problem))
                help_text = "paths start at the folder of the file that they stand in"
                self.document.report(code, f"cannot import {wanted}: {message}", item, help=help_text)
            return None

    def _definitions(self, kind: Any, root: Mapping, known: dict[str, Definition]) -> None:
        section = f"{kind}s"
        node = root.get(section)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return
        if not isinstance(node, Mapping):
            message = f"`{section}` must be a mapping of names to {section}, got {describe(node)}"
            self.document.report("wrong-type", message, root.key(section))
            return
        for name, (key, body) in node.entries.items():
            if not ID.fullmatch(name):
                message = f"`{name}` is no {kind}'s name: use letters, digits, `_` and `-`, not starting with a digit"
                self.document.report("wrong-value", message, key)
            elif name in known:
                message = f"{kind} `{name}` is defined twice; it is first defined at {known[name].place}"
                self.document.report("duplicate-name", message, key, help="give one of them another name")
            else:
                known[name] = self._definition(kind, name, key, body)

    def _definition(self, kind: Any, name: str, key: Scalar, body: Node) -> Definition:
        subject, part = f"{kind} `{name}`", "stages" if kind == "chain" else "where"
        nothing, place = Scalar(key.start, key.end, "", None, None), self.document.place(key.start)
        if kind == "chain" and isinstance(body, Sequence):
            return Definition(kind, name, key, "", {}, body, place)
        if kind == "filter" and not (isinstance(body, Mapping) and set(body.entries) & {"where", "parameters"}):
            return Definition(kind, name, key, "", {}, body, place)
        if not isinstance(body, Mapping):
            message = f"{subject} must be a list of stages, or a mapping with `stages`, got {describe(body)}"
            self.document.report("wrong-type", message, key)
            return Definition(kind, name, key, "", {}, nothing, place)
        rest = {word: entry for word, entry in body.entries.items() if word not in ("parameters", part)}
        said = Mapping(body.start, body.end, rest)
        check = Check(self.document, DescribedSettings, said, subject, key, also_known=("parameters", part))
        settings = check.run()
        if (inner := body.get(part)) is None:
            message = f"`{part}` of {subject} is missing"
            self.document.report("missing-key", message, key)
        parameters = read_parameters(self.document, body.get("parameters"), subject)
        description = settings.description if settings is not None else ""
        return Definition(kind, name, key, description, parameters, inner if inner is not None else nothing, place)

"""`${NAME}`, `${NAME:default}` and `${file:/path}` in parsed leaves; `$${` stands for `${`.

Done after parsing, so that a value can neither change the YAML nor shift places, and before the leaf's type is known:
`port: ${PORT:80}` is a number. What was put in is never shown in a problem; contents of files, and variables and keys
that are named like secrets, in no log line either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from pathlib import Path

from streamd.component.fields import EnvironmentText
from streamd.config.file_text import is_secret_name
from streamd.config.scalars import character_index, resolve_plain
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, Sequence
from streamd.observability import redact

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>[^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SECRET_FILE = 64 * 1024


def interpolate(document: Document, variables: MappingType[str, str], folder: Path) -> None:
    """Replace the references in every leaf of the document; relative paths of `${file:…}` start at `folder`."""
    todo: list[Node] = [] if document.root is None else [document.root]
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Scalar):
            if "${" in node.text:
                _Substitution(document, node, variables, folder).apply()
        elif isinstance(node, Sequence):
            todo += node.items
        elif isinstance(node, Mapping):
            todo += [value for _, value in node.entries.values()]


class _Substitution:
    """The replacement of one leaf's references."""

    def __init__(self, document: Document, node: Scalar, variables: MappingType[str, str], folder: Path) -> None:
        self.document = document
        self.node = node
        self.variables = variables
        self.folder = folder
        self.names: list[str] = []
        self.hidden = False
        self.from_environment = False

    def apply(self) -> None:
        node = self.node
        pieces: list[str] = []
        at = 0
        for match in _REFERENCE.finditer(node.text):
            pieces.append(node.text[at : match.start()])
            pieces.append("${" if match.group(0) == "$${" else self._value(match))
            at = match.end()
        pieces.append(node.text[at:])
        node.text = "".join(pieces)
        node.value = resolve_plain(node.text) if node.style is None and not node.tagged else node.text
        if self.from_environment and isinstance(node.value, str):
            node.value = EnvironmentText(node.value)
        node.substituted = tuple(self.names)
        if node.hidden:
            redact.hide(node.text)
        if self.hidden or node.hidden:
            self.document.hide(node)

    def _value(self, match: re.Match[str]) -> str:
        body = match["body"]
        name, colon, default = body.partition(":") if body is not None else ("", "", "")
        if body is None or not _NAME.fullmatch(name):
            help_text = "write ${NAME}, ${NAME:default} or ${file:/path}; for the characters `${` themselves write $${"
            self._report(match, "bad-substitution", "this is not a substitution", help_text)
            return ""
        if name == "file" and colon:
            return self._file(match, default)
        self.names.append(name)
        if name in self.variables:
            self.hidden = True
            self.from_environment = self.from_environment or match.start() == 0
            value = self.variables[name]
            # Other variables hold hosts and names, which log lines must be able to tell.
            if is_secret_name(name):
                redact.hide(value)
            return value
        if not colon:
            help_text = f"set it in the environment or with --set {name}=…, or give a default: ${{{name}:default}}"
            self._report(match, "unset-variable", f"variable `{name}` is not set and has no default", help_text)
        return default

    def _file(self, match: re.Match[str], name: str) -> str:
        self.names.append(f"file:{name}")
        self.hidden = True
        path = self.folder / name
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_SECRET_FILE + 1)
            if len(content) > _MAX_SECRET_FILE:
                raise ValueError(f"it is larger than {_MAX_SECRET_FILE // 1024} KiB")
            value = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
            redact.hide(value)
            return value
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, UnicodeDecodeError):
                reason = "it is not UTF-8 text"
            self._report(match, "unreadable-file", f"cannot read the file `{name}`: {reason}", "")
            return ""

    def _report(self, match: re.Match[str], code: str, message: str, help_text: str) -> None:
        node = self.node
        raw = self.document.written(node)
        start = node.start + character_index(raw, match.string, node.style, match.start())
        end = start + max(len(match.group(0)), 1)
        # Nothing of this leaf is right any more: the models must not complain about it as well.
        self.document.broken.add(id(node))
        self.document.report(code, message, (start, min(end, node.end)), help=help_text)

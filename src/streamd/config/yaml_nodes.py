"""YAML text → a tree of nodes that know their place.

Built from the parser's events without recursion, so that depth, size and aliases are bounded before anything is built:
an alias shares the anchor's node and counts with all that is below it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml

from streamd.config.diagnostics import Diagnostic
from streamd.config.file_text import FileText, is_secret_name
from streamd.config.pipeline import Place
from streamd.config.scalars import ScalarValue, resolve_plain

MAX_DEPTH = 64
MAX_NODES = 100_000

# Says where a secret comes from, and not what it is.
_REFERENCE = re.compile(r"\$\{(\w+|file:[^}]*)\}")
# A password in an address; one that comes from elsewhere is hidden where it is put in.
_URL_PASSWORD = re.compile(r"://[^\s/:@]*:(?!\$\{)[^\s/@]+@")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_STRING_TAGS = frozenset(("!", "tag:yaml.org,2002:str"))


@dataclass(slots=True, eq=False)
class Scalar:
    """A leaf. `style` is None for a plain one, else ' " | >. `value` is what it means, after substitution.

    `substituted` names what was put in; `hidden` says that the value came from outside the file and is never shown.
    """

    start: int
    end: int
    text: str
    style: str | None
    value: ScalarValue
    tagged: bool = False
    substituted: tuple[str, ...] = ()
    hidden: bool = False
    size: int = 1


@dataclass(slots=True, eq=False)
class Sequence:
    """A list of nodes."""

    start: int
    end: int
    items: list[Node] = field(default_factory=list)
    size: int = 1


@dataclass(slots=True, eq=False)
class Mapping:
    """Keys, always text, each with its own node and its value's. `pending` is a key that waits for its value."""

    start: int
    end: int
    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    pending: Scalar | None = None
    size: int = 1

    def get(self, key: str) -> Node | None:
        """The value's node."""
        entry = self.entries.get(key)
        return None if entry is None else entry[1]

    def key(self, key: str) -> Scalar:
        """The key's own node."""
        return self.entries[key][0]


Node: TypeAlias = Scalar | Sequence | Mapping


class _LimitError(Exception):
    """A limit was reached: there is no tree."""


class Document:
    """One file on its way to a configuration: its text, its tree (None when it has none), the problems found so far.

    Trees of other files may be adopted: their indexes go on behind those of the texts before.
    """

    def __init__(self, source: FileText) -> None:
        self.source = source
        # (index where it begins, the file), in order.
        self._files: list[tuple[int, FileText]] = [(0, source)]
        # What to say beside each problem: where the chain that it is in was used.
        self.note = ""
        self.problems: list[Diagnostic] = []
        self.root: Node | None = None
        # id() of leaves that a problem is known of: nothing more is said about their values.
        self.broken: set[int] = set()
        # Trees that nothing else holds: ids in `broken` stay those of their leaves.
        self.kept: list[Node] = []
        # Texts of leaves that must not be shown.
        self.hidden: set[str] = set()

    def located(self, index: int) -> tuple[FileText, int]:
        """The file of an index, and the index where it begins."""
        begin, file = self._files[bisect_right(self._files, index, key=lambda entry: entry[0]) - 1]
        return file, begin

    def place(self, index: int) -> Place:
        """File, line and column of an index."""
        file, begin = self.located(index)
        return file.place(index - begin)

    def own(self, node: Node) -> bool:
        """Whether the node stands in the document's own file."""
        return self.located(node.start)[1] == 0

    def written(self, node: Node) -> str:
        """The node as it stands in its file."""
        file, begin = self.located(node.start)
        return file.text[node.start - begin : node.end - begin]

    def adopt(self, other: Document) -> None:
        """Make another file's tree part of this document, with the problems found in it."""
        last, file = self._files[-1]
        begin = last + len(file.text) + 2
        self._files.append((begin, other.source))
        self.problems += other.problems
        self.hidden |= other.hidden
        self.broken |= other.broken
        if other.root is not None:
            self.kept.append(other.root)
            _shift(other.root, begin)

    def hide(self, node: Node) -> None:
        """Show nothing of the values in this node, neither in lines of the file nor in messages."""
        if isinstance(node, Scalar):
            if not _REFERENCE.fullmatch(self.written(node).strip("\"'")):
                file, begin = self.located(node.start)
                file.mask(node.start - begin, node.end - begin)
            node.hidden = True
            self.hidden.add(node.text)
        elif isinstance(node, Sequence):
            for item in node.items:
                self.hide(item)
        else:
            for _, value in node.entries.values():
                self.hide(value)

    def report(
        self,
        code: str,
        message: str,
        at: Node | tuple[int, int],
        expected: str = "",
        help: str = "",  # noqa: A002
    ) -> None:
        """Note a problem at a node, or at the characters [start, end)."""
        start, end = at if isinstance(at, tuple) else (at.start, at.end)
        source, begin = self.located(start)
        start, end = start - begin, end - begin
        message, expected, help_text = map(self._redacted, (message, expected, help))
        place = source.place(start)
        self.problems.append(Diagnostic(code, message, place, expected, help_text, source, start, end, self.note))

    def _redacted(self, text: str) -> str:
        """The text without hidden values. Shorter ones are found in ordinary words, so messages must not quote them."""
        for hidden in sorted(self.hidden, key=len, reverse=True):
            if len(hidden) >= 4:
                text = text.replace(hidden, "***")
        return text


def _shift(root: Node, by: int) -> None:
    """Move every node of a tree, keys as well, each once."""
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        node.start, node.end = node.start + by, node.end + by
        if isinstance(node, Sequence):
            todo += node.items
        elif isinstance(node, Mapping):
            todo += [part for entry in node.entries.values() for part in entry]


def parse_document(source: FileText) -> Document:
    """Parse; problems, broken YAML included, are in the document. Values of keys with a secret's name are hidden."""
    document = Document(source)
    try:
        document.root = _Builder(document).build()
    except yaml.YAMLError as error:
        _report_broken(document, error)
    except _LimitError:
        pass
    if document.root is None:
        source.mask_by_text()
    else:
        _hide_secrets(document)
    return document


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.stack: list[Sequence | Mapping] = []
        self.anchors: dict[str, Node] = {}
        # {id of an unfinished collection: its anchor}
        self.open_anchors: dict[int, str] = {}
        self.root: Node | None = None

    def build(self) -> Node | None:
        documents = 0
        for event in yaml.parse(self.document.source.text, Loader=_Loader):
            if isinstance(event, yaml.ScalarEvent):
                self._place(self._scalar(event), event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                self._place(self._alias(event), None)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self._open(event)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._close(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop("several-documents", "a second document starts here; a file holds one", event)
        return self.root

    def _open(self, event: Any) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        if len(self.stack) >= MAX_DEPTH:
            self._stop("too-deep", f"nested more than {MAX_DEPTH} levels deep", event)
        self._check_tag(event)
        mapping = isinstance(event, yaml.MappingStartEvent)
        node: Sequence | Mapping = Mapping(start, end) if mapping else Sequence(start, end)
        if event.anchor is not None:
            self.open_anchors[id(node)] = event.anchor
            self.anchors.pop(event.anchor, None)
        self.stack.append(node)

    def _close(self, event: Any) -> None:
        node = self.stack.pop()
        if event.end_mark.index > event.start_mark.index:  # the closing bracket of a flow collection
            node.end = event.end_mark.index
        self._place(node, self.open_anchors.pop(id(node), None))

    def _scalar(self, event: Any) -> Scalar:
        self._check_tag(event)
        style = event.style or None
        value = resolve_plain(event.value) if style is None and event.tag not in _STRING_TAGS else event.value
        start, end = event.start_mark.index, event.end_mark.index
        return Scalar(start, end, event.value, style, value, tagged=event.tag is not None)

    def _alias(self, event: Any) -> Node:
        if event.anchor in self.open_anchors.values():
            self._stop("recursive-alias", f"`*{event.anchor}` contains itself", event)
        if event.anchor not in self.anchors:
            self._stop("unknown-alias", f"`*{event.anchor}` has no anchor `&{event.anchor}` before it", event)
        return self.anchors[event.anchor]

    def _place(self, node: Node, anchor: str | None) -> None:
        """Put a finished node where it belongs."""
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.size += node.size
        if parent.size > MAX_NODES:
            message = f"more than {MAX_NODES:,} values once aliases are expanded"
            at = (parent.start, parent.start + 1)
            self.document.report("too-large", message, at, help="aliases of aliases multiply: use fewer of them")
            raise _LimitError
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif parent.pending is None:
            parent.pending = self._key(node)
        else:
            self._add_entry(parent, parent.pending, node)
            parent.pending = None
        parent.end = max(parent.end, node.end) if node.start >= parent.start else parent.end

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self.document.report("bad-key", "a key must be a plain text, got a list or a mapping", node)
        return Scalar(node.start, node.end, f"\0{node.start}", None, None)

    def _add_entry(self, mapping: Mapping, key: Scalar, value: Node) -> None:
        name = key.text
        if name.startswith("\0"):
            return
        if name == "<<" and key.style is None:
            help_text = "write the keys out, or share whole values with anchors (&name) and aliases (*name)"
            self.document.report("merge-key", "merge keys (`<<`) are not supported", key, help=help_text)
        elif name in mapping.entries:
            first = self.document.source.place(mapping.entries[name][0].start)
            message = f"key `{name}` is defined twice; it is first defined at line {first.line}"
            self.document.report("duplicate-key", message, key, help="remove one of them")
        else:
            mapping.entries[name] = (key, value)

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!" and event.tag not in _CORE_TAGS:
            at = (event.start_mark.index, event.end_mark.index)
            message = f"unknown YAML tag `{event.tag}`"
            help_text = "to start a text with `!`, put the whole text in quotes"
            self.document.report("unknown-tag", message, at, help=help_text)

    def _stop(self, code: str, message: str, event: Any) -> NoReturn:
        self.document.report(code, message, (event.start_mark.index, event.end_mark.index))
        raise _LimitError


def _report_broken(document: Document, error: yaml.YAMLError) -> None:
    text = document.source.text
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        index = getattr(error, "position", 0)
        message = f"not valid YAML: {getattr(error, 'reason', 'it cannot be read')}"
        document.report("broken-yaml", message, (min(index, len(text)), min(index, len(text)) + 1))
        return
    index = error.problem_mark.index
    problem = error.problem or "it cannot be read"
    help_text = ""
    line_start = text.rfind("\n", 0, index) + 1
    tab = text.find("\t", line_start, len(text) if index >= len(text) else index + 1)
    if tab >= 0 and not text[line_start:tab].strip():
        index = tab
        problem, help_text = "a tab is used for indentation", "YAML is indented with spaces only"
    elif "flow" in (error.context or "") and text.rfind("${", line_start, index + 1) >= 0:
        help_text = 'in { } and [ ] a substitution must be in quotes: "${NAME}"'
    elif "mapping values are not allowed" in problem:
        help_text = "a text that holds `: ` must be in quotes; or the indentation of this line does not fit those above"
    elif "cannot start any token" in problem or "expected key" in problem or "expected ',' or" in problem:
        help_text = (
            "a text that starts with a quote or one of @ % & * ! | > [ {, or stands in [ ] or { }, must be quoted whole"
        )
    context = ""
    if error.context and error.context_mark is not None and error.context_mark.index != index:
        context = f" ({error.context} that starts at line {error.context_mark.line + 1})"
    document.report("broken-yaml", f"not valid YAML: {problem}{context}", (index, index + 1), help=help_text)


def _hide_secrets(document: Document) -> None:
    """Hide the values of keys with a secret's name, and addresses with a password in them."""
    todo = [] if document.root is None else [document.root]
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Scalar):
            if _URL_PASSWORD.search(node.text):
                document.hide(node)
            continue
        if isinstance(node, Sequence):
            todo += node.items
            continue
        for key, (_, value) in node.entries.items():
            if is_secret_name(key):
                document.hide(value)
            else:
                todo.append(value)

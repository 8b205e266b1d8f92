"""Files → `ServiceConfig` and `PipelineConfig`, or one ConfigError with every problem of every file."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from collections.abc import Mapping as MappingType
from collections.abc import Sequence as SequenceType
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamd.component.model import Model
from streamd.component.registry import Registry
from streamd.config.definitions import DefinitionReader
from streamd.config.diagnostics import Diagnostic, config_error
from streamd.config.file_text import FileText
from streamd.config.interpolate import interpolate
from streamd.config.model_check import Check, describe
from streamd.config.pipeline import PipelineConfig, Place
from streamd.config.read_pipeline import PipelineReader
from streamd.config.service import ServiceConfig
from streamd.config.shared import Definition, Library, check_shared_keys, is_shared, read_library
from streamd.config.yaml_nodes import Document, Mapping, Node, Scalar, parse_document
from streamd.errors import ConfigError

MAX_FILE_BYTES = 4 * 1024 * 1024
SERVICE_FILE = "streamd.yaml"
_SUFFIXES = (".yaml", ".yml")
_NO_PIPELINES = "a pipeline file ends in .yaml or .yml; streamd.yaml, *.test.yaml and hidden files are none"


def load_service(path: Path | None, env: MappingType[str, str]) -> ServiceConfig:
    """The service's settings; the defaults when there is no file. Raises ConfigError with all problems."""
    if path is None:
        return ServiceConfig.model_validate({})
    document = _document(path, env)
    root = document.root
    if root is None and not document.problems:
        return ServiceConfig.model_validate({})
    config: ServiceConfig | None = None
    if isinstance(root, Mapping):
        top = Scalar(root.start, root.start, "", None, None)
        readers = {"kafka": _kafka_settings, "schema_registry": _registry_settings}
        entries = {name: root.entries.pop(name) for name in readers if name in root.entries}
        sections = {name: readers[name](document, node, at) for name, (at, node) in entries.items()}
        config = Check(document, ServiceConfig, root, "the service's settings", top).run()
        if config is not None:
            config = config.model_copy(update=sections)
    elif root is not None:
        message = f"the service's settings must be a mapping of keys to values, got {describe(root)}"
        document.report("wrong-type", message, root)
    if document.problems or config is None:
        raise config_error(document.problems)
    return config


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that pipelines import: what it offers, of files that it imports itself as well."""

    file: Path
    library: Library


@dataclass(slots=True)
class Files:
    """What was found in files and folders."""

    pipelines: list[PipelineConfig] = field(default_factory=list)
    shared: list[SharedFile] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)


def load_pipelines(
    paths: SequenceType[Path], registry: Registry, env: MappingType[str, str], service: ServiceConfig
) -> list[PipelineConfig]:
    """The pipelines of files, and of the *.yaml and *.yml files directly in folders, sorted by file name.

    Files that hold only chains and filters are checked and left out. Raises ConfigError with all problems of all files,
    and when there is no pipeline at all.
    """
    found = load_files(paths, registry, env, service)
    if not found.pipelines and not found.problems and found.shared:
        help_text = "pipelines import it; `streamd validate` checks it alone"
        problem = _problem(found.shared[0].file, "no-pipelines", "the file holds no pipeline", help_text=help_text)
        found.problems.append(problem)
    if found.problems:
        raise config_error(found.problems)
    return found.pipelines


def load_files(
    paths: SequenceType[Path], registry: Registry, env: MappingType[str, str], service: ServiceConfig
) -> Files:
    """As `load_pipelines`: the pipelines and the shared files that are right, and the problems of the others."""
    found = Files()
    for file in _pipeline_files(paths, found.problems):
        try:
            document = _document(file, env)
            if is_shared(document.root):
                found.shared.append(_load_shared(document, file, registry, env))
            else:
                found.pipelines.append(_load(document, file, registry, env, service, {}))
        except ConfigError as error:
            found.problems += _diagnostics(error)
    found.problems += _same_names(found.pipelines)
    return found


def load_pipeline_text(
    text: str,
    file: Path,
    registry: Registry,
    env: MappingType[str, str],
    service: ServiceConfig,
    imports: MappingType[str, str] | None = None,
) -> PipelineConfig:
    """One pipeline from the text of a file that is not read again. Raises ConfigError with all problems.

    `imports`: texts of files that it imports, by path (`PipelineConfig.imports`); others are read.
    """
    return _load(_parsed(FileText(str(file), text), file, env), file, registry, env, service, imports or {})


def load_definitions(paths: SequenceType[Path], registry: Registry, env: MappingType[str, str]) -> list[Definition]:
    """The chains and filters that files, and files directly in folders, define or import, by kind and name.

    Pipelines are not read beyond that. Raises ConfigError with all problems.
    """
    problems: list[Diagnostic] = []
    found: dict[Place, Definition] = {}
    for file in _pipeline_files(paths, problems):
        try:
            document = _document(file, env)
            library = read_library(document, file, lambda path: _document(path, env))
            DefinitionReader(document, registry, library, shared=is_shared(document.root)).check()
            problems += document.problems
            known = (*library.chains.values(), *library.filters.values())
            found |= {definition.place: definition for definition in known}
        except ConfigError as error:
            problems += _diagnostics(error)
    if problems:
        raise config_error(problems)
    return sorted(found.values(), key=lambda each: (each.kind, each.name, str(each.place)))


def _load_shared(document: Document, file: Path, registry: Registry, env: MappingType[str, str]) -> SharedFile:
    library = read_library(document, file, lambda path: _document(path, env))
    if isinstance(document.root, Mapping):
        check_shared_keys(document, document.root)
    DefinitionReader(document, registry, library, shared=True).check()
    if document.problems:
        raise config_error(document.problems)
    return SharedFile(file, library)


def _load(
    document: Document,
    file: Path,
    registry: Registry,
    env: MappingType[str, str],
    service: ServiceConfig,
    imports: MappingType[str, str],
) -> PipelineConfig:
    if document.root is None:
        if not document.problems:
            help_text = "a pipeline has a name, a source and a sink"
            document.report("empty-file", "the file is empty", (0, 1), help=help_text)
        raise config_error(document.problems)
    library = read_library(document, file, lambda path: _imported(path, env, imports))
    reader = PipelineReader(document, registry, _kafka_settings, _registry_settings, library)
    pipeline = reader.read(file, service.kafka, service.state, service.schema_registry)
    if pipeline is None or document.problems:
        raise config_error(document.problems)
    return pipeline


def _document(path: Path, env: MappingType[str, str]) -> Document:
    """The parsed file; ConfigError when it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise config_error([_problem(path, "too-large", f"larger than {MAX_FILE_BYTES >> 20} MiB")])
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise config_error([_problem(path, "missing-file", "there is no such file or folder")]) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise config_error([_problem(path, "not-utf-8", "the file is not UTF-8 text", line)]) from None
    except OSError as error:
        raise config_error([_problem(path, "unreadable-file", f"cannot be read: {error.strerror}")]) from None
    return _parsed(FileText(str(path), text), path, env)


def _imported(path: Path, env: MappingType[str, str], texts: MappingType[str, str]) -> Document:
    text = texts.get(str(path))
    return _document(path, env) if text is None else _parsed(FileText(str(path), text), path, env)


def _parsed(source: FileText, path: Path, env: MappingType[str, str]) -> Document:
    document = parse_document(source)
    interpolate(document, env, path.parent)
    return document


def _problem(path: Path, code: str, message: str, line: int = 1, help_text: str = "") -> Diagnostic:
    return Diagnostic(code, message, Place(str(path), line, 1), help=help_text)


def _diagnostics(error: ConfigError) -> Iterable[Diagnostic]:
    return (diagnostic for diagnostic in error.diagnostics if isinstance(diagnostic, Diagnostic))


def _pipeline_files(paths: SequenceType[Path], problems: list[Diagnostic]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            try:
                files = sorted(file for file in path.iterdir() if _is_pipeline_file(file))
            except OSError as error:
                problems.append(_problem(path, "unreadable-file", f"cannot be read: {error.strerror}"))
                continue
            if not files:
                problems.append(_problem(path, "no-pipelines", "no pipeline in this folder", help_text=_NO_PIPELINES))
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _is_pipeline_file(file: Path) -> bool:
    name = file.name
    return (
        name.endswith(_SUFFIXES)
        and not name.startswith(".")
        and not name.endswith((".test.yaml", ".test.yml"))
        and name != SERVICE_FILE
        and not file.is_dir()
    )


def _same_names(pipelines: Iterable[PipelineConfig]) -> list[Diagnostic]:
    problems = []
    first: dict[str, PipelineConfig] = {}
    for pipeline in pipelines:
        other = first.setdefault(pipeline.name, pipeline)
        if other is not pipeline:
            message = f"pipeline name `{pipeline.name}` is also used at {other.place}"
            source = FileText(pipeline.place.file, pipeline.text)
            start = source.index(pipeline.place.line) + pipeline.place.column - 1
            problems.append(
                Diagnostic(
                    "duplicate-name",
                    message,
                    pipeline.place,
                    help="names are part of consumer groups and of stored positions: each pipeline needs its own",
                    source=source,
                    start=start,
                    end=start + len(pipeline.name),
                )
            )
    return problems


def _kafka_settings(document: Document, node: Node, at: Node) -> Any:
    """The checked `kafka:` section; None when there are problems. Loads the client library only where there is one."""
    model: type[Model] = importlib.import_module("streamd.transport.kafka.settings").KafkaSettings
    return Check(document, model, node, "`kafka`", at).run()


def _registry_settings(document: Document, node: Node, at: Node) -> Any:
    """The checked `schema_registry:` section; None when there are problems."""
    model: type[Model] = importlib.import_module("streamd.transport.registry.settings").SchemaRegistrySettings
    return Check(document, model, node, "`schema_registry`", at).run()

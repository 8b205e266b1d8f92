"""Finds test files, and runs their cases one after another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_pipelines
from streamd.config.pipeline import PipelineConfig, Place
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError
from streamd.testing.bind import bind
from streamd.testing.case_file import Case, CaseFile, ExpectStep
from streamd.testing.read_cases import read_case_file
from streamd.testing.run_case import Problem, Result, run_case

SUFFIXES = (".test.yaml", ".test.yml")
# Folders that hold nothing of one's own.
_OTHERS = ("node_modules", "__pycache__")


@dataclass(slots=True)
class FileResult:
    """How the cases of a file went. `problems`: why some could not be run. `left_out`: cases not asked for."""

    path: Path
    file: CaseFile | None = None
    results: list[Result] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    left_out: int = 0

    @property
    def ok(self) -> bool:
        """Whether every case passed."""
        return not self.problems and all(result.ok for result in self.results)


def find_files(paths: Sequence[Path]) -> tuple[list[Path], list[Diagnostic]]:
    """The test files that the paths name: themselves, those of pipelines, those in folders and below."""
    found: dict[Path, Path] = {}
    problems: list[Diagnostic] = []
    for path in paths:
        if path.is_dir():
            files = sorted(_below(path))
        elif path.name.endswith(SUFFIXES):
            files = [path]
        else:
            beside = [path.with_name(path.name.removesuffix(path.suffix) + suffix) for suffix in SUFFIXES]
            files = [file for file in beside if file.is_file()]
        if not files:
            what = "holds no *.test.yaml" if path.is_dir() else f"has no {path.stem}.test.yaml beside it"
            message = f"{path} {what}" if path.exists() else f"there is no file or folder {path}"
            problems.append(Diagnostic("no-tests", message, Place(str(path))))
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values()), problems


def _below(folder: Path) -> Iterator[Path]:
    """The test files in a folder and below, but not in hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _OTHERS]
        yield from (Path(place, name) for name in names if name.endswith(SUFFIXES) and not name.startswith("."))


@dataclass(slots=True)
class Session:
    """What all cases are run with. `variables` come over the files' own. `only`: part of a case's name, or of its
    file's.
    """

    service: ServiceConfig
    variables: Mapping[str, str] = field(default_factory=dict)
    only: str = ""
    crash: bool = False
    fail_fast: bool = False

    def run(self, paths: Sequence[Path]) -> Iterator[FileResult]:
        """Run every file; each result is given when it is there."""
        with tempfile.TemporaryDirectory(prefix="streamd-test-") as folder:
            for number, path in enumerate(paths):
                result = self._file(path, Path(folder) / str(number))
                yield result
                if self.fail_fast and not result.ok:
                    return

    def _file(self, path: Path, folder: Path) -> FileResult:
        file, problems = read_case_file(path)
        result = FileResult(path, file, problems=problems)
        if file is None:
            return result
        ready: list[tuple[Case, PipelineConfig | ConfigError, dict[str, int]]] = []
        for case in file.cases:
            if not self._wanted(path, case):
                result.left_out += 1
                continue
            try:
                config = self._pipeline(file, case)
                ready.append((case, config, bind(file, case, config)))
            except ConfigError as error:
                ready.append((case, error, {}))
                if not _expects_an_error(case):
                    result.problems += _problems(error, file.pipeline)
        result.problems += file.document.problems
        result.problems = list(dict.fromkeys(result.problems))
        if result.problems:
            return result
        for number, (case, config_or_error, partitions) in enumerate(ready):
            if isinstance(config_or_error, ConfigError):
                result.results.append(_refused(case, config_or_error))
            else:
                state_dir = folder / str(number)
                state_dir.mkdir(parents=True)
                result.results.append(self._run(file, case, config_or_error, partitions, state_dir))
            if self.fail_fast and not result.results[-1].ok:
                break
        return result

    def _run(
        self, file: CaseFile, case: Case, config: PipelineConfig, partitions: Mapping[str, int], state_dir: Path
    ) -> Result:
        crash = self.crash and case.with_crash
        return run_case(case, file.document.source, config, partitions, state_dir, crash=crash)

    def _wanted(self, path: Path, case: Case) -> bool:
        return self.only.lower() in f"{path.name} {case.name}".lower()

    def _pipeline(self, file: CaseFile, case: Case) -> PipelineConfig:
        """The pipeline as this case has it. Raises ConfigError."""
        env = {**case.env, **self.variables}
        [config] = load_pipelines([file.pipeline], Registry.default(), env, self.service)
        return config


def _problems(error: ConfigError, pipeline: Path) -> list[Diagnostic]:
    found = [one for one in error.diagnostics if isinstance(one, Diagnostic)]
    return found or [Diagnostic("bad-plan", str(error), Place(str(pipeline)))]


def _expects_an_error(case: Case) -> bool:
    return any(isinstance(step, ExpectStep) and step.error is not None for step in case.steps)


def _refused(case: Case, error: ConfigError) -> Result:
    """What a case is worth that expects that the pipeline cannot be loaded."""
    result = Result(case)
    for step in case.steps:
        if isinstance(step, ExpectStep) and step.error is not None and step.error[0] not in str(error):
            message = f"the pipeline is refused with another message: {error}"
            result.problems.append(Problem(step.error[1], message))
    return result

"""Cases of small pipelines, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamd.config.service import ServiceConfig
from streamd.testing.session import FileResult, Session

Try = Callable[..., FileResult]

SIMPLE = """\
name: simple
source:
  log: {topic: orders}
stages:
  - filter: amount > 10
  - set: {double: amount * 2}
sink:
  log: {topic: big, key: user}
on_error: {dead_letter: {log: {topic: failed}}}
"""


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    """`attempt(cases, pipeline)`: the result of a test file beside a pipeline; keywords are the session's."""

    def attempt(cases: str, pipeline: str = SIMPLE, **options: object) -> FileResult:
        (tmp_path / "p.yaml").write_text(pipeline)
        test = tmp_path / "p.test.yaml"
        test.write_text(cases)
        service = ServiceConfig.model_validate({}).model_copy(update={"kafka": object()})
        [result] = Session(service, **options).run([test])  # type: ignore[arg-type]
        return result

    return attempt


@pytest.fixture
def messages() -> Callable[[FileResult], list[str]]:
    """What is wrong, in one sentence each."""

    def messages(result: FileResult) -> list[str]:
        assert result.problems == []
        return [problem.message for case in result.results for problem in case.problems]

    return messages

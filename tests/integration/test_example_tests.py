"""Every example pipeline in config/pipelines has a test beside it, and passes it, also with its tasks killed."""

from __future__ import annotations

import re

import pytest

from services.command import streamd
from services.process import REPOSITORY

PIPELINES = REPOSITORY / "config" / "pipelines"
EXAMPLES = sorted(
    path
    for path in PIPELINES.rglob("*.yaml")
    if not path.name.endswith(".test.yaml") and "nexmark" not in path.relative_to(PIPELINES).parts
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(PIPELINES)))
def test_an_example_has_a_test_beside_it(path):
    assert path.with_name(f"{path.stem}.test.yaml").is_file()


@pytest.mark.parametrize("options", [(), ("--crash",)], ids=["undisturbed", "crash"])
def test_the_examples_pass_their_tests(options):
    ended = streamd("test", PIPELINES, *options)
    assert ended.code == 0, ended.all
    passed = re.search(r"^(\d+) cases passed in", ended.out, re.MULTILINE)
    assert passed is not None, ended.all
    assert int(passed[1]) >= len(EXAMPLES)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (REPOSITORY / page).read_text(), re.MULTILINE | re.DOTALL)


def without_seconds(text: str) -> str:
    return re.sub(r"in \d+\.\d\d s$", "in 0 s", text.strip())


def test_the_page_shows_what_is_printed(tmp_path):
    pipeline, test = blocks("docs/test.md", "yaml")[:2]
    (tmp_path / "spend.yaml").write_text(pipeline)
    (tmp_path / "spend.test.yaml").write_text(test)
    ended = streamd("test", folder=tmp_path)
    assert ended.code == 1, ended.all
    shown = blocks("docs/test.md", "console")[0].removeprefix("$ streamd test\n")
    assert without_seconds(ended.out) == without_seconds(shown)


def test_the_test_in_the_readme_passes(tmp_path):
    found = blocks("README.md", "yaml")
    [test] = [text for text in found if text.startswith("cases:")]
    (tmp_path / "big-orders.yaml").write_text(found[0])
    (tmp_path / "big-orders.test.yaml").write_text(test)
    ended = streamd("test", folder=tmp_path)
    assert ended.code == 0, ended.all

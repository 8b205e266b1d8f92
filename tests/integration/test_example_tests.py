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

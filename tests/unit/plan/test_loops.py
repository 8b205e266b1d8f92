"""A pipeline that would read its own output is refused before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inline_app import InlineApp
from streamd.errors import FatalError


@pytest.mark.parametrize(
    ("source", "sink", "shared"),
    [
        ("log: {topic: in}", "log: {topic: in}", "topic in"),
        ("file: {path: a.ndjson}", "file: {path: ./a.ndjson}", "a.ndjson"),
        ("file: {path: '*.ndjson'}", "file: {path: '{pipeline}.ndjson'}", "p.ndjson"),
    ],
)
async def test_what_a_pipeline_reads_it_may_not_write(tmp_path: Path, source: str, sink: str, shared: str) -> None:
    for name in ("a", "p"):
        (tmp_path / f"{name}.ndjson").write_bytes(b"{}\n")
    app = InlineApp(tmp_path)
    await app.seed([{}])
    with pytest.raises(FatalError, match=f"{shared}, which source .* reads: it would read its own output for ever"):
        await app.run(f"name: p\nsource: {{{source}}}\nsink: {{{sink}}}\n")


async def test_files_of_other_names_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"{}\n")
    await InlineApp(tmp_path).run("name: p\nsource: {file: {path: a.ndjson}}\nsink: {file: {path: b.ndjson}}\n")
    assert (tmp_path / "b.ndjson").read_bytes() == b"{}\n"

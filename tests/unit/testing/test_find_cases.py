"""Which files `streamd test` finds."""

from __future__ import annotations

from streamd.testing.session import find_files


def test_folders_pipelines_and_files(tmp_path):
    for name in ("a.test.yaml", "a.yaml", "in/b.test.yml", ".hidden/c.test.yaml", "in/.d.test.yaml", "e.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    a, b = tmp_path / "a.test.yaml", tmp_path / "in" / "b.test.yml"
    assert find_files([tmp_path]) == ([a, b], [])
    assert find_files([tmp_path / "a.yaml", a, tmp_path / "in"]) == ([a, b], [])
    files, problems = find_files([tmp_path / "e.yaml", tmp_path / ".hidden" / "..", tmp_path / "nowhere"])
    assert len(files) == 2
    assert [problem.message.removeprefix(str(tmp_path)) for problem in problems] == [
        "/e.yaml has no e.test.yaml beside it",
        f"there is no file or folder {tmp_path}/nowhere",
    ]

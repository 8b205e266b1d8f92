"""Files and folders → pipelines, and what is said when there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.components import Load, Problems, demo_registry
from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import MAX_FILE_BYTES, load_pipelines
from streamd.config.pipeline import ErrorPolicy, ErrorThreshold, PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

GOOD = "name: {name}\nsource: {{topic: {{topic: x}}}}\nsink: discard\n"


def load(*paths: Path) -> list[PipelineConfig]:
    return load_pipelines(paths, demo_registry(), {}, ServiceConfig.model_validate({}))


def failures(*paths: Path) -> list[Diagnostic]:
    with pytest.raises(ConfigError) as caught:
        load(*paths)
    return [diagnostic for diagnostic in caught.value.diagnostics if isinstance(diagnostic, Diagnostic)]


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_whole_pipeline(load: Load) -> None:
    """Every key of a pipeline file arrives where it belongs."""
    config = load(
        """
        name: orders
        description: All of it
        source: {topic: {topic: x}}
        stages: [{filter: a > 1}]
        sink: discard
        delivery: at_least_once
        commit_interval: 1s
        batch: {max_records: 10}
        error_threshold: {rate: 0.5, window: 10s, min_records: 5}
        on_error: skip
        """
    )
    assert (config.name, config.description, config.delivery) == ("orders", "All of it", "at_least_once")
    assert (config.commit_interval, config.max_batch_records) == (1.0, 10)
    assert config.error_threshold == ErrorThreshold(0.5, 10.0, 5)
    assert config.on_error == ErrorPolicy("skip")
    assert config.text.startswith("name: orders\n")
    assert config.file is not None
    assert config.file.name == "p.yaml"
    assert (config.stages[0].place.line, config.stages[0].place.column) == (4, 11)


def test_a_text_loads_to_the_same_as_its_file(load: Load) -> None:
    """Workers load the text that the supervisor sends: ids, settings and inputs come out equal."""
    text = "name: p\nsource: {topic: {topic: x}}\nstages: [{filter: a}, {set: {b: a + 1}}]\nsink: discard\n"

    assert load(text) == load(text)


def test_defaults(load: Load) -> None:
    """What is promised without asking: exactly once, a commit each 200 ms, fail on errors."""
    config = load(GOOD.format(name="p"))

    assert (config.delivery, config.commit_interval, config.max_batch_records) == ("exactly_once", 0.2, 2000)
    assert (config.on_error, config.error_threshold, config.dead_letters) == (ErrorPolicy("fail"), None, ())
    assert config.kafka is None


def test_folders_and_files(tmp_path: Path) -> None:
    """A folder gives its *.yaml and *.yml files, sorted; not tests, hidden files, other files, nor streamd.yaml."""
    write(tmp_path, "b.yaml", GOOD.format(name="b"))
    write(tmp_path, "a.yml", GOOD.format(name="a"))
    for ignored in ("a.test.yaml", ".hidden.yaml", "notes.txt", "streamd.yaml"):
        write(tmp_path, ignored, "{{{")
    (tmp_path / "folder.yaml").mkdir()

    assert [config.name for config in load(tmp_path)] == ["a", "b"]
    assert [config.name for config in load(tmp_path / "b.yaml", tmp_path)] == ["b", "a"]


def test_problems_of_several_files_come_at_once(tmp_path: Path) -> None:
    """Sorted by file and line; good files between bad ones don't matter."""
    one = write(tmp_path, "1.yaml", "name: one\nsource: {topc: {topic: x}}\nsink: dscard\n")
    write(tmp_path, "2.yaml", GOOD.format(name="two"))
    three = write(tmp_path, "3.yaml", "a: [\n")

    found = failures(tmp_path)

    assert [(d.place.file, d.code, d.place.line) for d in found] == [
        (str(one), "unknown-component", 2),
        (str(one), "unknown-component", 3),
        (str(three), "broken-yaml", 2),
    ]


def test_the_error_text_has_a_line_for_each_problem(tmp_path: Path) -> None:
    """Where only the exception's text is seen (logs), it still says everything."""
    file = write(tmp_path, "1.yaml", "name: one\nsource: {topc: {topic: x}}\nsink: dscard\n")

    with pytest.raises(ConfigError) as caught:
        load(file)

    assert str(caught.value).split("\n") == [
        f"{file}:2:10: error[unknown-component]: unknown source `topc`",
        f"{file}:3:7: error[unknown-component]: unknown sink `dscard`",
    ]


def test_a_rendered_problem(tmp_path: Path) -> None:
    """Place, code, message; the line and the one before; a caret; what was expected; help."""
    file = write(tmp_path, "1.yaml", "name: one\nsource: {topc: {topic: x}}\nsink: discard\n")

    (problem,) = failures(file)

    assert problem.render() == (
        f"{file}:2:10: error[unknown-component]: unknown source `topc`\n"
        " 1 | name: one\n"
        " 2 | source: {topc: {topic: x}}\n"
        "   |          ^^^^\n"
        "   = expected: topic\n"
        "   = help: did you mean `topic`?"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty-file"),
        ("# only a comment\n", "empty-file"),
        ("- a\n- b\n", "wrong-type"),
        ("just text\n", "wrong-type"),
        ("42\n", "wrong-type"),
        ("~\n", "wrong-type"),
        ("{}\n", "missing-key"),
    ],
)
def test_files_that_are_no_pipeline(tmp_path: Path, text: str, code: str) -> None:
    """Each has a problem in its first line."""
    found = failures(write(tmp_path, "p.yaml", text))

    assert {(d.code, d.place.line, d.place.column) for d in found} == {(code, 1, 1)}


def test_missing_file(tmp_path: Path) -> None:
    """A path that is not there is a problem of its own, beside those of the others."""
    bad = write(tmp_path, "bad.yaml", "")

    found = failures(tmp_path / "nope.yaml", bad)

    assert [(d.code, d.place.file) for d in found] == [
        ("empty-file", str(bad)),
        ("missing-file", str(tmp_path / "nope.yaml")),
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    """Not permitted (tried as a path through a file, which root may not read either), not text, too large."""
    file = write(tmp_path, "x.yaml", GOOD.format(name="x"))
    (tmp_path / "latin.yaml").write_bytes(b"name: ok\nname: caf\xe9\n")
    with (tmp_path / "huge.yaml").open("wb") as huge:
        huge.truncate(MAX_FILE_BYTES + 1)

    assert [d.code for d in failures(file / "below.yaml")] == ["unreadable-file"]
    (latin,) = failures(tmp_path / "latin.yaml")
    assert (latin.code, latin.place.line) == ("not-utf-8", 2)
    assert [d.code for d in failures(tmp_path / "huge.yaml")] == ["too-large"]


def test_a_folder_without_pipelines(tmp_path: Path) -> None:
    """It is said which files would count."""
    write(tmp_path, "readme.md", "")

    (problem,) = failures(tmp_path)

    assert problem.code == "no-pipelines"
    assert ".yaml" in problem.help


def test_the_same_name_in_two_files(tmp_path: Path) -> None:
    """The second file's problem names the place of the first."""
    write(tmp_path, "a.yaml", GOOD.format(name="same"))
    write(tmp_path, "b.yaml", "# comment\n" + GOOD.format(name="same"))

    (problem,) = failures(tmp_path)

    assert (problem.code, problem.place.line, problem.place.column) == ("duplicate-name", 2, 7)
    assert f"{tmp_path / 'a.yaml'}:1:7" in problem.message


@pytest.mark.parametrize("name", ["", "a.b", "a b", "-a", "x" * 101, "ä"])
def test_names_that_cannot_be(problems: Problems, name: str) -> None:
    """Names are part of topics and transactional ids."""
    found = problems(GOOD.format(name=f'"{name}"'))

    assert [(d.code, d.place.line, d.place.column) for d in found] == [("wrong-value", 1, 7)]


def test_required_keys(problems: Problems) -> None:
    """Name, source and sink."""
    messages = [d.message for d in problems("description: x\n")]

    assert len(messages) == 3
    assert "`name` of the pipeline is missing" in messages
    assert any("no source" in message for message in messages)
    assert any("no sink" in message for message in messages)


def test_a_misspelt_key_of_the_pipeline(problems: Problems) -> None:
    """Keys with components are known as well."""
    found = problems("name: p\nsources: {a: {topic: {topic: x}}}\nstage: []\nsnik: discard\n")

    by_key = {d.place.line: d for d in found if d.code == "unknown-key"}
    assert by_key[3].help == "did you mean `stages`?"
    assert by_key[4].help == "did you mean `sink`?"


def test_a_component_that_cannot_be_loaded(
    tmp_path: Path, service: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A component whose package is missing is a problem at its name, and says which package."""
    package = tmp_path / "incomplete_sinks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "needy.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry({"sink": "incomplete_sinks"}, [spec for spec in _demo_specs() if spec.kind != "sink"])
    file = write(tmp_path, "p.yaml", "name: p\nsource: {topic: {topic: x}}\nsink: needy\n")

    with pytest.raises(ConfigError) as caught:
        load_pipelines([file], registry, {}, service)

    (problem,) = caught.value.diagnostics
    assert "`a_package_that_is_not_there`" in str(problem)
    assert ":3:7: error[unusable-component]" in str(problem)


def _demo_specs() -> list:  # type: ignore[type-arg]
    from demo.components import COMPONENTS

    return [cls.spec for cls in COMPONENTS]  # type: ignore[attr-defined]

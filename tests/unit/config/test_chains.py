"""Chains and what they become: stages with ids, inputs, parameters put in, problems with two places."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from streamd.component.registry import Registry
from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_files, load_pipeline_text, load_pipelines
from streamd.config.pipeline import PipelineConfig
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

ENDS = """
name: p
source: {log: {topic: in}}
sink: {log: {topic: out}}
"""


class Folder:
    """A folder with files, and the pipelines in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def load(self, text: str, **variables: str) -> PipelineConfig:
        file = self.write("p.yaml", ENDS + textwrap.dedent(text))
        [config] = load_pipelines([file], Registry.default(), variables, ServiceConfig())
        return config

    def problems(self, text: str, **variables: str) -> list[Diagnostic]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, **variables)
        return [problem for problem in caught.value.diagnostics if isinstance(problem, Diagnostic)]

    def spots(self, text: str) -> list[tuple[str, str, int]]:
        return [(p.code, Path(p.place.file).name, p.place.line) for p in self.problems(text)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def stages(config: PipelineConfig) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(stage.id, stage.name, stage.inputs) for stage in config.stages]


def settings(config: PipelineConfig) -> list[str]:
    return [str(next(iter(dict(stage.settings).values()))) for stage in config.stages]


TWO = """
chains:
  clean:
    parameters: {limit: {type: number, default: 50}}
    stages:
      - filter: amount > $limit
      - set: {large: amount > 400}
"""


def test_a_chain_is_the_stages_it_stands_for(folder: Folder) -> None:
    config = folder.load(TWO + "stages:\n  - chain: clean\n  - drop: [x]\n")
    assert stages(config) == [
        ("clean-filter", "filter", ("source",)),
        ("clean-set", "set", ("clean-filter",)),
        ("drop", "drop", ("clean-set",)),
    ]
    assert config.sinks[0].inputs == ("drop",)
    assert str(config.stages[0].settings.where) == "amount > 50"  # type: ignore[attr-defined]


def test_uses_have_ids_of_their_own_that_do_not_depend_on_other_stages(folder: Folder) -> None:
    text = TWO + "stages:\n  - chain: clean\n  - id: again\n    chain: {name: clean, with: {limit: 100}}\n"
    assert [id_ for id_, _, _ in stages(folder.load(text))] == [
        "clean-filter",
        "clean-set",
        "again-filter",
        "again-set",
    ]
    assert settings(folder.load(text))[2] == "amount > 100"
    more = folder.load(text.replace("stages:\n  - chain", "stages:\n  - filter: y > 1\n  - chain"))
    assert [id_ for id_, _, _ in stages(more)][1:] == [id_ for id_, _, _ in stages(folder.load(text))]


def test_the_chain_is_read_by_its_id_and_reads_what_stands_beside_it(folder: Folder) -> None:
    text = """
    chains:
      parted:
        stages:
          - id: first
            set: {x: 1}
          - from: first
            route: {outputs: {a: amount > 1, b: amount > 2}}
    stages:
      - id: before
        drop: [y]
      - id: one
        from: source
        chain: parted
      - from: [one.a, before]
        drop: [z]
      - from: one.b
        drop: [q]
      - from: [drop, drop_2]
        drop: [w]
    """
    config = folder.load(text)
    assert stages(config) == [
        ("before", "drop", ("source",)),
        ("one-first", "set", ("source",)),
        ("one-route", "route", ("one-first",)),
        ("drop", "drop", ("one-route.a", "before")),
        ("drop_2", "drop", ("one-route.b",)),
        ("drop_3", "drop", ("drop", "drop_2")),
    ]


def test_chains_use_chains(folder: Folder) -> None:
    text = """
    chains:
      outer:
        parameters: {least: number, what: expression}
        stages:
          - chain: {name: inner, with: {bound: $least, value: $what * 2}}
          - drop: [x]
      inner:
        parameters: {bound: number, value: expression}
        stages:
          - filter: $value + 1 > $bound
    stages:
      - chain: {name: outer, with: {least: -3, what: a or b}}
    """
    config = folder.load(text)
    assert stages(config) == [
        ("outer-inner-filter", "filter", ("source",)),
        ("outer-drop", "drop", ("outer-inner-filter",)),
    ]
    assert str(config.stages[0].settings.where) == "((a or b) * 2) + 1 > (-3)"  # type: ignore[attr-defined]
    assert config.chains[0].stages == ("outer-inner-filter", "outer-drop")


def test_errors_beside_a_chain_are_those_of_its_stages_and_share_one_dead_letter(folder: Folder) -> None:
    text = """
    chains:
      c:
        - {filter: a > 1, on_error: skip}
        - set: {b: a / c}
        - set: {d: b / c}
    stages:
      - chain: c
        on_error: {dead_letter: {log: {topic: bad}}}
    """
    config = folder.load(text)
    assert [stage.on_error.action for stage in config.stages if stage.on_error] == [
        "skip",
        "dead_letter",
        "dead_letter",
    ]
    assert {s.on_error.dead_letter for s in config.stages[1:] if s.on_error} == {"c_dead_letter"}
    assert [sink.id for sink in config.dead_letters] == ["c_dead_letter"]


def test_imports_go_on_from_the_file_they_stand_in_and_are_part_of_the_configuration(folder: Folder) -> None:
    folder.write("shared/a.yaml", "imports: b.yaml\nchains: {one: [{chain: two}]}")
    folder.write("shared/b.yaml", "chains: {two: [filter: a > 1]}\nfilters: {x: b > 1}")
    folder.write("shared/other.yaml", "imports: [b.yaml]\n")
    text = "imports: [shared/a.yaml, ./shared/other.yaml]\nstages:\n  - chain: one\n  - filter: {name: x}\n"
    config = folder.load(text)
    assert [id_ for id_, _, _ in stages(config)] == ["one-two-filter", "filter"]
    assert sorted(Path(name).name for name in config.imports) == ["a.yaml", "b.yaml", "other.yaml"]
    assert config.stages[0].place.file.endswith("shared/b.yaml")

    for file in (folder.path / "shared").iterdir():
        file.write_text("changed: true")
    assert config.file is not None
    again = load_pipeline_text(config.text, config.file, Registry.default(), {}, ServiceConfig(), config.imports)
    assert again == config


def test_a_problem_in_a_chain_is_told_at_its_file_with_a_note_of_where_it_was_used(folder: Folder) -> None:
    folder.write("c.yaml", "chains:\n  c:\n    parameters: {n: number}\n    stages:\n      - filter: {wher: a > $n}\n")
    [missing, unknown] = folder.problems("imports: [c.yaml]\nstages:\n  - chain: {name: c, with: {n: 1}}\n")
    assert (Path(missing.place.file).name, missing.place.line) == ("c.yaml", 5)
    assert unknown.code == "unknown-key"
    assert "did you mean `where`" in unknown.help
    assert "used at" in unknown.note
    assert "p.yaml:7:19" in unknown.note
    assert "   = note: chain `c` is used at " in unknown.render()


def test_all_mistakes_with_parameters_at_once(folder: Folder) -> None:
    text = """
    chains:
      c:
        parameters:
          limit: number
          currency: text
          size: duration
          other: {type: integer, default: x}
        stages:
          - filter: amount > $limt
          - set: {currency: $currency, $limit: 1, x: $nothing}
    stages:
      - chain:
          name: c
          with: {limt: 5, currency: [EUR], size: soon}
    """
    found = folder.problems(text)
    assert [(p.code, p.place.line) for p in found] == [
        ("wrong-value", 12),  # the default
        ("bad-expression", 14),
        ("unknown-parameter", 15),
        ("missing-parameter", 18),
        ("unknown-parameter", 19),
        ("wrong-value", 19),
        ("wrong-value", 19),
    ]
    assert "did you mean $limit?" in found[1].help
    assert "did you mean `limit`?" in found[4].help


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("stages: [{chain: nobody}]", "unknown-chain", 5),
        ("chains: {c: [{filter: a}]}\nstages: [{chain: {nam: c}}]", "unknown-key", 6),
        ("chains: {c: [{filter: a}]}\nstages: [{chain: c, with: {a: 1}}]", "unknown-key", 6),
        ("chains: {c: [{filter: a}]}\nstages: [c]", "unknown-component", 6),
        ("chains: {c: []}", "wrong-type", 5),
        ("chains: {c: {stages: [{filter: a >}]}}", "bad-expression", 5),
        ("chains: {c: {stages: [{fliter: a}]}}", "unknown-component", 5),
        ("chains: {c: {parameters: {x: nmber}, stages: [{filter: a}]}}", "wrong-value", 5),
        ("chains: {a: [{chain: b}], b: [{chain: a}]}", "cycle", 5),
        ("chains: {a: [{from: x, filter: b}]}", "unknown-input", 5),
        ("chains: {c: [{filter: a}]}\nstages: [{chain: c}, {id: c-filter, drop: [a]}]", "duplicate-id", 6),
        ("chains: {c: {parameters: {t: text}, stages: [{set: {x: 1}}, {drop: 'x-$t'}]}}", "bad-parameter", 5),
        ("chains: {c: [{join: {left: a, right: b, on: x, within: 1s}}]}\nstages: [{chain: c}]", "named-inputs", 5),
        ("imports: [no.yaml]", "missing-file", 5),
        ("imports: [p.yaml]", "cycle", 5),
        ("imports: {a: b}", "wrong-type", 5),
        ("import: [a.yaml]", "unknown-key", 5),
    ],
)
def test_bad_input(folder: Folder, text: str, code: str, line: int) -> None:
    assert (code, "p.yaml", line) in folder.spots(text + "\n")


def test_names_that_clash_name_both_places(folder: Folder) -> None:
    folder.write("a.yaml", "chains: {c: [filter: a]}")
    folder.write("b.yaml", "chains: {c: [filter: b]}")
    [clash] = folder.problems("imports: [a.yaml, b.yaml]\n")
    assert clash.place.file.endswith("b.yaml")
    assert "a.yaml:1:10" in clash.message


def test_files_that_import_each_other_are_refused(folder: Folder) -> None:
    folder.write("a.yaml", "imports: [b.yaml]")
    folder.write("b.yaml", "imports: [a.yaml]")
    [cycle] = folder.problems("imports: [a.yaml]\n")
    assert (cycle.code, Path(cycle.place.file).name) == ("cycle", "b.yaml")


def test_a_pipeline_is_nothing_to_import(folder: Folder) -> None:
    folder.write("q.yaml", ENDS)
    assert {p.code for p in folder.problems("imports: [q.yaml]\n")} == {"unknown-key"}


def test_sinks_belong_to_the_pipeline(folder: Folder) -> None:
    window = "window: {tumbling: 10s, by: u, aggregate: {n: count()}, late: %s}"
    folder.write("c.yaml", "chains:\n  c:\n    - " + window % "{log: {topic: late}}" + "\n")
    [problem] = folder.problems("imports: [c.yaml]\nstages: [{chain: c}]\n")
    assert problem.code == "sink-in-chain"
    folder.write("c.yaml", "chains:\n  c:\n    parameters: {late: mapping}\n    stages:\n      - " + window % "$late")
    text = "imports: [c.yaml]\nstages:\n  - chain: {name: c, with: {late: {log: {topic: late}}}}\n"
    config = folder.load(text)
    assert [sink.id for sink in config.sinks] == ["sink", "c-window_late"]
    assert config.sinks[1].place.file.endswith("p.yaml")


def test_a_file_of_chains_alone_is_checked_and_is_no_pipeline(folder: Folder) -> None:
    shared = folder.write("c.yaml", "chains: {c: [filter: a > 1]}\nfilters: {f: a > 1}")
    folder.write("p.yaml", ENDS)
    service = ServiceConfig()
    assert [config.name for config in load_pipelines([folder.path], Registry.default(), {}, service)] == ["p"]
    found = load_files([folder.path], Registry.default(), {}, service)
    assert [file.file.name for file in found.shared] == ["c.yaml"]
    with pytest.raises(ConfigError, match="holds no pipeline"):
        load_pipelines([shared], Registry.default(), {}, service)
    folder.write("c.yaml", "chains: {c: [filter: a >]}\nwhat: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_pipelines([folder.path], Registry.default(), {}, service)
    codes = {problem.code for problem in caught.value.diagnostics if isinstance(problem, Diagnostic)}
    assert codes == {"bad-expression", "unknown-key"}


def test_what_nobody_has_given_yet_is_no_mistake(folder: Folder) -> None:
    text = """
    chains:
      c:
        parameters: {size: duration, pattern: text, n: integer, key: field, agg: any, cond: expression}
        stages:
          - filter: matches(name, $pattern) and $cond
          - filter: {all: [$cond, {not: $cond}]}
          - window: {tumbling: $size, by: $key, aggregate: {n: sum(x * $n), $agg: count()}}
          - flatten: {list: $key}
    """
    assert {p.code for p in folder.problems(text + "stages: [{filter: a >}]")} == {"bad-expression"}
    assert folder.load(text).stages == ()


def test_chains_of_chains_of_chains_do_not_fill_the_memory(folder: Folder) -> None:
    lines = ["chains:", "  c0: [filter: a]"]
    lines += [f"  c{n}: [{', '.join([f'chain: c{n - 1}'] * 9)}]" for n in range(1, 12)]
    text = "\n".join([*lines, "stages: [{chain: c11}]", ""])
    assert "too-large" in {p.code for p in folder.problems(text)}


def test_values_from_the_environment_and_the_characters_themselves(folder: Folder) -> None:
    text = """
    chains:
      c:
        parameters: {limit: number, currency: text}
        stages:
          - filter: amount > $limit and currency == $currency and note != "$limit"
          - drop: $$limit
    stages:
      - chain: {name: c, with: {limit: "${LIMIT:5}", currency: "${CURRENCY}"}}
    """
    config = folder.load(text.replace('"${LIMIT:5}"', "'5'").replace("'5'", "5"), CURRENCY='x" or True or "')
    assert str(config.stages[0].settings.where) == (  # type: ignore[attr-defined]
        'amount > 5 and currency == \'x" or True or "\' and note != "$limit"'
    )
    assert config.stages[1].settings.fields == ["$limit"]  # type: ignore[attr-defined]

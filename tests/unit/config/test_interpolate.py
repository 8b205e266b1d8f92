"""Substitution in parsed leaves, and secrets that must not be seen in any message."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from demo.components import Load, Problems, Spots
from streamd.config.load import load_service
from streamd.errors import ConfigError

SECRET = "hunter2-very-secret"


def pipeline(settings: str) -> str:
    return f"name: p\nsource: {{topic: {settings}}}\nsink: discard\n"


def settings_of(load: Load, settings: str, **variables: str) -> Any:
    return load(pipeline(settings), **variables).sources[0].settings


def test_variables_defaults_and_escapes(load: Load) -> None:
    """A set variable wins over the default; `$${` is `${`; other dollars are left alone."""
    assert settings_of(load, '{topic: "a-${X}-${Y:z}-$${X}-$X-$"}', X="1").topic == "a-1-z-${X}-$X-$"
    assert settings_of(load, '{topic: "${X:default}"}', X="set").topic == "set"
    assert settings_of(load, '{topic: "${X:}x"}').topic == "x"
    assert settings_of(load, '{topic: "${X:a:b}"}').topic == "a:b"


@pytest.mark.parametrize("value", ["5", "0x05"])
def test_a_substituted_value_gets_its_type(load: Load, value: str) -> None:
    """The type is found after substitution."""
    text = "name: p\nsource:\n  topic:\n    topic: x\n    limit: ${LIMIT}\nsink: discard\n"

    assert load(text, LIMIT=value).sources[0].settings.limit == 5  # type: ignore[attr-defined]


def test_a_value_of_digits_is_text_where_text_is_wanted(load: Load) -> None:
    """A password or topic of digits needs no quotes in the environment; an empty one is an empty text."""
    text = "name: p\nsource:\n  topic:\n    topic: ${T}\n    password: ${P}\nsink: discard\n"
    settings: Any = load(text, T="2024", P="12345").sources[0].settings

    assert settings.topic == "2024"
    assert settings.password.get_secret_value() == "12345"
    assert load(text, T="", P="x").sources[0].settings.topic == ""  # type: ignore[attr-defined]


def test_a_value_cannot_change_the_yaml(load: Load) -> None:
    """Substitution happens after parsing: braces, colons and line breaks stay part of the value."""
    evil = "x}\nsink: {file: /etc/passwd}\n#"

    assert settings_of(load, '{topic: "${T}"}', T=evil).topic == evil


def test_an_expression_may_hold_a_variable(load: Load) -> None:
    """Parts of a text are replaced as well."""
    config = load(
        "name: p\nsource: {topic: {topic: x}}\nstages:\n  - filter: amount > ${MIN:50}\nsink: discard\n", MIN="7"
    )
    assert str(config.stages[0].settings.where) == "amount > 7"  # type: ignore[attr-defined]


def test_a_secret_file(load: Load, tmp_path: Path) -> None:
    """Without the line break at its end; relative paths start at the pipeline's folder."""
    (tmp_path / "secret").write_text(SECRET + "\n")

    assert settings_of(load, '{topic: x, password: "${file:secret}"}').password.get_secret_value() == SECRET
    absolute = f'{{topic: "${{file:{tmp_path}/secret}}"}}'
    assert settings_of(load, absolute).topic == SECRET


def test_problems_of_substitution(spots: Spots, tmp_path: Path) -> None:
    """Unset variables, missing files and broken references are each found at their place, once."""
    text = (
        "name: p\nsource:\n  topic:\n    topic: a-${UNSET}\n    limit: ${ALSO_UNSET}\n"
        "    start: ${file:nothing-here}\n    format: '${no such}'\n    dsn: ${\nsink: discard\n"
    )
    assert spots(text) == [
        ("unset-variable", 4, 14),
        ("unset-variable", 5, 12),
        ("unreadable-file", 6, 12),
        ("bad-substitution", 7, 14),
        ("bad-substitution", 8, 10),
    ]


def test_the_message_for_an_unset_variable(problems: Problems) -> None:
    """It says how to set it or give a default."""
    (problem,) = problems(pipeline('{topic: "${TOPIC}"}'))

    assert "`TOPIC` is not set" in problem.message
    assert "${TOPIC:default}" in problem.help


def test_a_folder_or_a_binary_as_secret_file(problems: Problems, tmp_path: Path) -> None:
    """The reason is told, without contents."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe" + SECRET.encode())
    (tmp_path / "huge").write_bytes(b"x" * 70_000)

    messages = [
        problems(pipeline(f'{{topic: "${{file:{name}}}"}}'))[0].message for name in ("binary", "huge", os.curdir)
    ]
    assert "not UTF-8" in messages[0]
    assert "larger than 64 KiB" in messages[1]
    assert "directory" in messages[2]
    assert SECRET not in "".join(messages)


SECRET_LEAKS = [
    # the value fails its own validation
    "name: p\nsource:\n  topic: {topic: x, limit: '${S}'}\nsink: discard\n",
    "name: p\nsource:\n  topic: {topic: x, format: '${S}'}\nsink: discard\n",
    "name: p\nsource:\n  topic: {topic: x, buffer: 'a${S}b'}\nsink: discard\n",
    "name: ${S}!\nsource: {topic: {topic: x}}\nsink: discard\n",
    # it is part of an expression, an id, a component's name, an input, a policy
    "name: p\nsource: {topic: {topic: x}}\nstages:\n  - filter: ${S}(1) + nope(${S})\nsink: discard\n",
    "name: p\nsource: {topic: {topic: x}}\nstages:\n  - filter: \"'${S}' + + nope(1)\"\nsink: discard\n",
    "name: p\nsource: {topic: {topic: x}, id: '${S}!'}\nsink: discard\n",
    "name: p\nsource: {topic: {topic: x}}\nsink: '${S}'\n",
    "name: p\nsource: {topic: {topic: x}}\nsink: {discard: , from: '${S}'}\n",
    "name: p\nsource: {topic: {topic: x}}\nsink: discard\non_error: '${S}'\n",
    # a component's own check quotes it
    "name: p\nsource: {topic: {topic: x}}\nstages:\n  - window: {size: '${N}'}\nsink: discard\n",
    # written in the file under a secret's name, or for a secret field, with a problem on it or beside it
    f"name: p\nsource:\n  topic:\n    topic: x\n    password: [{SECRET}]\n    limit: no\nsink: discard\n",
    f"name: p\nsource:\n  topic:\n    dsn: {SECRET}\n    limit: no\n    topic: x\nsink: discard\n",
    f"name: p\nsource: {{topic: {{topic: x, pasword: {SECRET}, limit: no}}}}\nsink: discard\n",
    f"name: p\nsource: {{topic: {{topic: x, password: '{SECRET}', limit: no}}}}\nsink: discard\n",
    f"name: p\nsource: {{topic: {{topic: x, password: '${{UNSET:{SECRET}}}', limit: no}}}}\nsink: discard\n",
    f"name: p\nsource: {{topic: {{topic: x, options: {{sasl.jaas.secret: {SECRET}}}, limit: no}}}}\nsink: discard\n",
    # the YAML is broken, so that nobody knows what is what
    f"name: p\npassword: {SECRET}\n\tx: 1\n",
    f"name: p\nprivate_key: |\n  {SECRET}\n\t{SECRET}\n",
    f"source: {{topic: x, password: {SECRET}, [}}\n",
    f"password: {SECRET}: {SECRET}\n",
]


@pytest.mark.parametrize("text", SECRET_LEAKS)
def test_a_secret_is_in_no_message(load: Load, text: str) -> None:
    """Neither the message, nor the lines shown, nor the exception's text hold it."""
    with pytest.raises(ConfigError) as caught:
        load(text, S=SECRET, N="7777s")

    shown = str(caught.value) + "".join(d.render() + repr(d) for d in caught.value.diagnostics)  # type: ignore[attr-defined]
    assert SECRET not in shown
    assert "7777" not in shown


def test_a_secret_of_the_service_is_in_no_message(tmp_path: Path) -> None:
    """The same for streamd.yaml."""
    file = tmp_path / "streamd.yaml"
    file.write_text(f"http:\n  token: {SECRET}\n  prt: 80\n")

    with pytest.raises(ConfigError) as caught:
        load_service(file, {})

    (problem,) = caught.value.diagnostics
    shown = problem.render()  # type: ignore[attr-defined]
    assert SECRET not in shown
    assert "token: ***" in shown
    assert "did you mean `port`?" in shown

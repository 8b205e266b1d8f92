"""streamd.yaml."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from streamd.config.diagnostics import Diagnostic
from streamd.config.load import load_service
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError


def service(tmp_path: Path, text: str, **variables: str) -> ServiceConfig:
    file = tmp_path / "streamd.yaml"
    file.write_text(text)
    return load_service(file, variables)


def failures(tmp_path: Path, text: str, **variables: str) -> list[Diagnostic]:
    with pytest.raises(ConfigError) as caught:
        service(tmp_path, text, **variables)
    return [diagnostic for diagnostic in caught.value.diagnostics if isinstance(diagnostic, Diagnostic)]


def test_defaults(tmp_path: Path) -> None:
    """No file, an empty one and a comment are the same; HTTP is for this machine only."""
    config = load_service(None, {})

    assert config == service(tmp_path, "") == service(tmp_path, "# nothing\n")
    assert (config.app, config.state_dir, config.workers) == ("streamd", Path(".streamd"), "auto")
    assert (config.http.enabled, config.http.host, config.http.port, config.http.token) == (
        True,
        "127.0.0.1",
        8470,
        None,
    )
    assert (config.drain_timeout, config.stall_timeout) == (30.0, 30.0)
    assert (config.restart.initial, config.restart.max) == (0.2, 30.0)
    assert (config.create_topics, config.exit_on_failure, config.kafka) == (True, False, None)


def test_a_whole_file(tmp_path: Path) -> None:
    """Everything at once, with values from the environment in their own types."""
    config = service(
        tmp_path,
        "app: shop\nstate_dir: /tmp/x\nworkers: ${W:2}\nhttp: {port: 0, token: secret-text, tls: {cert: a, key: b}}\n"
        "log: {level: debug, format: json}\nkafka: {bootstrap: 'a,b:1'}\ndrain_timeout: 1m\n"
        "restart: {initial: 1s, max: 2s}\ncreate_topics: ${CREATE}\nexit_on_failure: yes\n",
        CREATE="false",
    )
    assert (config.app, config.workers, config.http.port, config.drain_timeout) == ("shop", 2, 0, 60.0)
    assert (config.create_topics, config.exit_on_failure) == (False, True)
    assert config.http.token is not None
    assert config.http.token.get_secret_value() == "secret-text"
    assert config.kafka.bootstrap == ("a:9092", "b:1")
    assert "secret-text" not in repr(config)


def test_workers_from_the_environment(tmp_path: Path) -> None:
    """`auto` and numbers, also when they come as text."""
    text = "workers: ${W}\n"

    assert service(tmp_path, text, W="auto").workers == "auto"
    assert service(tmp_path, text, W="4").workers == 4
    assert service(tmp_path, "workers: '4'\n").workers == 4
    assert failures(tmp_path, "workers: 0\n")[0].code == "wrong-value"
    assert failures(tmp_path, "workers: many\n")[0].place.column == 10


def test_it_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    """Workers get it pickled, secrets included."""
    config = service(tmp_path, "http: {token: abcd}\nkafka: {bootstrap: a}\n")
    again = pickle.loads(pickle.dumps(config))

    assert again == config
    assert again.http.token.get_secret_value() == "abcd"


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "words"),
    [
        ("worker: 2\n", "unknown-key", 1, 1, "unknown key `worker`"),
        ("http:\n  prot: 1\n", "unknown-key", 2, 3, "`http` of the service's settings"),
        ("http: {port: 70000}\n", "wrong-value", 1, 14, "less than or equal to 65535"),
        ("log: {level: loud}\n", "wrong-value", 1, 14, "one of debug, info, warning, error"),
        ("drain_timeout: 0\n", "wrong-value", 1, 16, "greater than 0"),
        ("drain_timeout: long\n", "wrong-value", 1, 16, "a duration"),
        ("restart: {initial: 10s, max: 1s}\n", "wrong-value", 1, 1, "must not be below"),
        ("app: a.b\n", "wrong-value", 1, 6, "`app`"),
        ("kafka: {}\n", "missing-key", 1, 1, "`bootstrap` of `kafka`"),
        ("kafka: {bootstrap: a, sasl: {mechanism: SCRAM}}\n", "wrong-value", 1, 41, "SCRAM-SHA-256"),
        ("kafka: {bootstrap: a, sasl: {mechanism: PLAIN}}\n", "wrong-value", 1, 23, "PLAIN needs `username`"),
        ("kafka: {bootstap: a}\n", "unknown-key", 1, 9, "`bootstap`"),
        ("[]\n", "wrong-type", 1, 1, "must be a mapping"),
        ("a: b: c\n", "broken-yaml", 1, 5, "not valid YAML"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, code: str, line: int, column: int, words: str) -> None:
    """As in pipelines: each at its place."""
    found = [d for d in failures(tmp_path, text) if d.code == code]

    assert [(d.place.line, d.place.column) for d in found] == [(line, column)]
    assert words in found[0].message


def test_a_missing_file() -> None:
    """A file that was asked for has to be there."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml:1:1: error\[missing-file\]"):
        load_service(Path("nowhere.yaml"), {})


def test_the_schema_registry_is_checked_and_its_secrets_are_not_shown(tmp_path):
    file = tmp_path / "streamd.yaml"
    file.write_text('schema_registry: {url: "http://a:1", username: u, password: s3cret}\n')
    made = load_service(file, {}).schema_registry
    assert made.url == ("http://a:1",)
    assert "s3cret" not in repr(made)
    file.write_text("schema_registry: {url: a, tokne: s3cret}\n")
    with pytest.raises(ConfigError) as caught:
        load_service(file, {})
    found = sorted(problem.message for problem in caught.value.diagnostics)
    assert found[0].startswith("`url` of `schema_registry` does not fit")
    assert found[1] == "unknown key `tokne` in `schema_registry`"
    assert "s3cret" not in "".join(problem.render() for problem in caught.value.diagnostics)


@pytest.mark.parametrize("written", ['"http://me:s3cret9@a:1"', "http://me:s3cret9@a:1", '["http://me:s3cret9@a:1"]'])
def test_a_password_in_an_address_is_not_shown(tmp_path, written):
    file = tmp_path / "streamd.yaml"
    file.write_text(f"schema_registry: {{url: {written}, nobody: knows}}\n")
    with pytest.raises(ConfigError) as caught:
        load_service(file, {})
    shown = "".join(problem.render() for problem in caught.value.diagnostics)
    assert "does not fit" in shown
    assert "s3cret9" not in shown

"""The kafka section: what it takes, what it refuses and how it says so, and what aiokafka gets of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from pydantic import ValidationError

from streamd.errors import FatalError, NotFoundError
from streamd.transport.kafka.oauth import ClientCredentials, GivenToken
from streamd.transport.kafka.settings import KafkaSettings

PASSWORD = "correct horse battery"


def settings(**section: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": "kafka-1:9092"} | section)


def problems(**section: Any) -> dict[str, str]:
    """{where: message} of a section that must not pass."""
    with pytest.raises(ValidationError) as caught:
        settings(**section)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("kafka", ("kafka:9092",)),
        ("kafka-1:9092, kafka-2:19092", ("kafka-1:9092", "kafka-2:19092")),
        (["10.0.0.1:9092", "[::1]:9092"], ("10.0.0.1:9092", "[::1]:9092")),
    ],
)
def test_bootstrap_is_one_text_or_a_list(given: object, expected: tuple[str, ...]) -> None:
    assert settings(bootstrap=given).bootstrap == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("PLAINTEXT://kafka:9092", "without a scheme, got one that starts with PLAINTEXT://"),
        ("kafka:port", "expected host:port"),
        ("kafka:99999", "a port from 1 to 65535, got 99999"),
        ("", "expected host:port"),
        (9092, "expected host:port, or a list of them"),
        ("kafka:9092,,kafka-2", "expected host:port"),
    ],
)
def test_a_wrong_bootstrap_is_refused(given: object, said: str) -> None:
    assert said in problems(bootstrap=given)["bootstrap"]


def test_at_least_one_broker_is_needed() -> None:
    assert "bootstrap" in problems(bootstrap=[])


@pytest.mark.parametrize(
    ("section", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"tls": True}, "SSL"),
        ({"tls": False}, "PLAINTEXT"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u", "password": "p"}}, "SASL_PLAINTEXT"),
        ({"tls": {}, "sasl": {"mechanism": "PLAIN", "username": "u", "password": "p"}}, "SASL_SSL"),
    ],
)
def test_the_security_protocol_follows_from_tls_and_sasl(section: dict[str, Any], protocol: str) -> None:
    assert settings(**section).security_protocol == protocol


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "scram-sha-512"])
async def test_users_with_passwords(mechanism: str) -> None:
    made = settings(sasl={"mechanism": mechanism, "username": "streamd", "password": PASSWORD})
    arguments = made.client_arguments()
    assert arguments["sasl_mechanism"] == mechanism.upper()
    assert arguments["sasl_plain_username"] == "streamd"
    assert arguments["sasl_plain_password"] == PASSWORD
    assert AIOKafkaClient(**arguments)


async def test_oauthbearer_with_a_token_and_with_credentials() -> None:
    given = settings(sasl={"mechanism": "OAUTHBEARER", "oauth": {"token": "abc", "extensions": {"pool": "p1"}}})
    provider = given.client_arguments()["sasl_oauth_token_provider"]
    assert isinstance(provider, GivenToken)
    assert await provider.token() == "abc"
    assert provider.extensions() == {"pool": "p1"}
    assert AIOKafkaClient(**given.client_arguments())

    oauth = {"token_url": "https://login.example.com/token", "client_id": "me", "client_secret": PASSWORD}
    asked = settings(sasl={"mechanism": "OAUTHBEARER", "oauth": oauth})
    provider = asked.client_arguments()["sasl_oauth_token_provider"]
    assert isinstance(provider, ClientCredentials)
    assert provider is asked.client_arguments("consumer")["sasl_oauth_token_provider"], "one token for all clients"


@pytest.mark.parametrize(
    ("sasl", "where", "said"),
    [
        ({"mechanism": "PLAIN", "username": "u"}, "sasl.password", "PLAIN needs `password`"),
        ({"mechanism": "SCRAM-SHA-256", "password": "p"}, "sasl.username", "SCRAM-SHA-256 needs `username`"),
        ({"mechanism": "OAUTHBEARER"}, "sasl.oauth", "OAUTHBEARER needs `oauth`"),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {"token": "t"}, "password": "p"},
            "sasl.password",
            "OAUTHBEARER does not use `password`",
        ),
        (
            {"mechanism": "PLAIN", "username": "u", "password": "p", "oauth": {"token": "t"}},
            "sasl.oauth",
            "PLAIN does not use `oauth`",
        ),
        ({"mechanism": "GSSAPI", "username": "u"}, "sasl.mechanism", "Input should be 'PLAIN'"),
        ({"username": "u", "password": "p"}, "sasl.mechanism", "Field required"),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {}},
            "sasl.oauth.token",
            "exactly one of token, token_file and token_url",
        ),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {"token": "t", "token_file": "f"}},
            "sasl.oauth.token_file",
            "got token and token_file",
        ),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {"token_url": "https://x/", "client_id": "c"}},
            "sasl.oauth.client_secret",
            "token_url needs a client_secret",
        ),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {"token": "t", "client_id": "c"}},
            "sasl.oauth.client_id",
            "client_id is only used with token_url",
        ),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {"token": "t", "extensions": {"auth": "x"}}},
            "sasl.oauth.extensions",
            "got 'auth'",
        ),
        (
            {"mechanism": "OAUTHBEARER", "oauth": {"token_url": "x", "client_id": "c", "client_secret": "s"}},
            "sasl.oauth.token_url",
            "pattern",
        ),
    ],
)
def test_a_login_that_cannot_work_is_refused_where_it_is_wrong(sasl: dict[str, Any], where: str, said: str) -> None:
    assert said in problems(sasl=sasl)[where]


@pytest.mark.parametrize(
    "section",
    [
        {"sasl": {"mechanism": "PLAIN", "username": "u", "password": PASSWORD}},
        {"sasl": {"mechanism": "OAUTHBEARER", "oauth": {"token": PASSWORD}}},
        {"tls": {"certificate": "c.pem", "key": "k.pem", "key_password": PASSWORD}},
    ],
)
def test_secrets_are_never_shown(section: dict[str, Any]) -> None:
    made = settings(**section)
    assert PASSWORD not in repr(made) + str(made) + repr(made.model_dump()) + made.model_dump_json()


@pytest.mark.parametrize(
    "section",
    [
        {"sasl": {"mechanism": "PLAIN", "username": PASSWORD}},
        {"sasl": {"mechanism": PASSWORD}},
        {"sasl": {"mechanism": "PLAIN", "username": "u", "passwort": PASSWORD}},
        {"options": {"sasl.jaas.config": PASSWORD}},
        {"options": {"fetch.min.bytes": "12", "ssl.key.password": PASSWORD}},
    ],
)
def test_errors_do_not_show_what_may_be_a_secret(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**section)
    assert PASSWORD not in str(caught.value)


def test_a_key_needs_its_certificate() -> None:
    assert problems(tls={"key": "k.pem"})["tls.key"] == "a key needs its `certificate`"
    assert problems(tls={"key_password": "x"})["tls.key_password"] == "a key_password needs a `certificate`"


def test_tls_without_files_takes_the_machines_authorities() -> None:
    context = settings(tls=True).client_arguments()["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_verification_can_be_switched_off_in_two_steps() -> None:
    lax = settings(tls={"check_hostname": False}).client_arguments()["ssl_context"]
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_REQUIRED, False)
    none = settings(tls={"verify": False}).client_arguments()["ssl_context"]
    assert (none.verify_mode, none.check_hostname) == (ssl.CERT_NONE, False)


def test_a_tls_file_that_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(NotFoundError, match=r"kafka\.tls\.ca: there is no file .*missing\.pem"):
        settings(tls={"ca": missing}).client_arguments()
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    with pytest.raises(FatalError, match=r"kafka\.tls\.ca: .*junk\.pem cannot be used"):
        settings(tls={"ca": junk}).client_arguments()
    with pytest.raises(FatalError, match=r"kafka\.tls\.certificate: .*junk\.pem"):
        settings(tls={"certificate": junk}).client_arguments()


def test_a_context_is_shared_until_a_file_changes(tmp_path: Path) -> None:
    made = settings(tls=True)
    assert made.client_arguments()["ssl_context"] is made.client_arguments("consumer")["ssl_context"]


def test_options_go_to_the_clients_that_know_them() -> None:
    made = settings(
        options={"request.timeout.ms": "20000", "fetch.min.bytes": 4096, "batch.size": 65536, "check.crcs": "false"}
    )
    consumer, producer = made.arguments("consumer"), made.arguments("producer")
    assert (consumer["request_timeout_ms"], producer["request_timeout_ms"]) == (20000, 20000)
    assert (consumer["fetch_min_bytes"], consumer["check_crcs"]) == (4096, False)
    assert producer["max_batch_size"] == 65536
    assert "fetch_min_bytes" not in producer
    assert "max_batch_size" not in consumer


def test_what_is_said_for_one_kind_of_client_wins() -> None:
    made = settings(options={"request.timeout.ms": 20000, "consumer.request.timeout.ms": 30000})
    assert made.option("consumer", "request.timeout.ms") == 30000
    assert made.option("producer", "request.timeout.ms") == 20000
    further = made.with_options("consumer", {"request.timeout.ms": 40000})
    assert further.option("consumer", "request.timeout.ms") == 40000
    assert further.option("admin", "request.timeout.ms") == 20000
    assert made.option("consumer", "request.timeout.ms") == 30000, "the original stays as it is"


def test_settings_that_say_the_same_are_equal_also_after_use() -> None:
    one, two = settings(tls=True), settings(tls=True)
    one.client_arguments()
    assert one == two

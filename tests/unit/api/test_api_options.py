"""Where the server may listen, and what is said when it may not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from streamd.api.options import ApiOptions, is_loopback, listen_error
from streamd.config.service import HttpConfig
from streamd.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_loopback_addresses_need_no_token(host: str):
    assert is_loopback(host)
    assert ApiOptions(host=host).check() == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.com", "localhost.example.com"])
def test_other_addresses_are_refused_without_a_token(host: str):
    with pytest.raises(ConfigError, match="set a token") as refused:
        ApiOptions(host=host).check()
    assert repr(host) in str(refused.value)


def test_other_addresses_with_a_token_or_on_purpose():
    assert ApiOptions(host="0.0.0.0", token="t" * 20, certificate=Path("tls.crt")).check() == ()
    (plain,) = ApiOptions(host="0.0.0.0", token="t" * 20).check()
    assert "unencrypted" in plain
    (everyone,) = ApiOptions(host="0.0.0.0", allow_anonymous=True).check()
    assert "open to everyone" in everyone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": ""}, "http.token is empty"),
        ({"token": "  "}, "http.token is empty"),
        ({"token": "a\nb"}, "printable ASCII"),
        ({"token": "schlüssel"}, "printable ASCII"),
        ({"key": Path("tls.key")}, "a key and no certificate"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message) as refused:
        ApiOptions(**options).check()
    assert "schlüssel" not in str(refused.value)


def test_the_token_is_not_in_the_repr():
    assert "secret-token" not in repr(ApiOptions(token="secret-token"))


def test_certificate_files_that_are_missing_or_wrong(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        ApiOptions(certificate=tmp_path / "missing.crt").tls()
    (tmp_path / "wrong.crt").write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"wrong\.crt.*PEM form"):
        ApiOptions(certificate=tmp_path / "wrong.crt").tls()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "the port is in use"),
        (errno.EACCES, "below 1024"),
        (errno.EADDRNOTAVAIL, "no such address"),
        (errno.ENETDOWN, "check http.host"),
    ],
)
def test_listen_errors_say_what_to_do(number: int, advice: str):
    assert advice in str(listen_error(ApiOptions(), OSError(number, "from the system")))


def test_options_come_from_the_configuration():
    http = HttpConfig.model_validate(
        {
            "host": "0.0.0.0",
            "port": 1,
            "token": "secret-token",
            "tls": {"cert": "c", "key": "k", "ca": "a"},
            "protect_health": True,
            "advertise": "node-1",
        }
    )
    assert ApiOptions.of(http) == ApiOptions(
        "0.0.0.0", 1, "secret-token", Path("c"), Path("k"), protect_health=True, advertise="node-1", ca=Path("a")
    )
    assert ApiOptions.of(HttpConfig.model_validate({})) == ApiOptions()

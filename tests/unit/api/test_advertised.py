"""Where other nodes are told to find a node's HTTP server, and which of these a node can ask."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from streamd.api.advertised import advertised, reachable, this_host
from streamd.api.options import ApiOptions
from streamd.config.service import HttpConfig


def told(**options: Any) -> str:
    return advertised(ApiOptions(**options), 8471)


def test_what_is_told() -> None:
    assert told(host="node-a") == "/http://node-a:8471"
    assert told(host="node-a", certificate=Path("tls.crt")) == "/https://node-a:8471"
    assert told(host="fd00::3") == "/http://" + "[fd00::3]:8471"
    assert told(host="0.0.0.0", advertise="node-a") == "/http://node-a:8471"
    assert told(host="0.0.0.0", advertise="node-a:9000") == "/http://node-a:9000"
    assert told(host="0.0.0.0", advertise="node-a:0") == "/http://node-a:8471", "0 is the port that was taken"
    assert told(host="127.0.0.1", advertise="https://proxy:443") == "/https://proxy:443"


def test_a_loopback_address_is_of_its_host_alone() -> None:
    assert told(host="127.0.0.1") == f"{this_host()}/http://127.0.0.1:8471"
    assert told(host="0.0.0.0", advertise="localhost:1") == f"{this_host()}/http://localhost:1"
    assert reachable(told(host="127.0.0.1")) == "http://127.0.0.1:8471"
    assert reachable("another/http://127.0.0.1:8471") is None
    assert reachable("/http://127.0.0.1:8471") is None, "it would be this node itself, or a stranger"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_who_listens_everywhere_tells_an_address_that_is_its_own(host: str) -> None:
    url = told(host=host).partition("/")[2]
    # A machine without any route has none to tell.
    assert not url or not ipaddress.ip_address(urlsplit(url).hostname or "").is_unspecified


@pytest.mark.parametrize(
    "said",
    [
        "",
        "/",
        "/ftp://node:21",
        "/file:///etc/passwd",
        "/http://node",
        "/http://node:80/path",
        "/http://node:80?query",
        "/http://user:word@node:80",
        "/http://[node:80",
        "/http://node:port",
        "elsewhere/http://node:80",
    ],
)
def test_what_is_never_asked(said: str) -> None:
    assert reachable(said) is None


@pytest.mark.parametrize(
    "right", ["node-a", "node-a:8470", "10.0.0.3:0", "[fd00::3]:1", "https://proxy", "http://a:1/"]
)
def test_settings_that_are_right(right: str) -> None:
    assert HttpConfig.model_validate({"advertise": right}).advertise == right


@pytest.mark.parametrize(
    "wrong", ["", ":80", "a:b", "ftp://a", "http://a/b", "a?b", "u:w@a", "a b", "a:99999", "fd00::3"]
)
def test_settings_that_are_wrong(wrong: str) -> None:
    with pytest.raises(ValidationError, match="expected host, host:port or an http"):
        HttpConfig.model_validate({"advertise": wrong})

"""Tokens for OAUTHBEARER: from a file, and from a real HTTP token endpoint."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from streamd.errors import AccessDeniedError, FatalError, UnavailableError
from streamd.transport.kafka.oauth import ClientCredentials, GivenToken, TokenError
from streamd.transport.kafka.settings import OAuthSettings

SECRET = "s3cret/with:odd chars"


class TokenEndpoint:
    """Gives tokens t1, t2, …; what it answers can be set, what it was asked is kept."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.answer: Callable[[int], Any] = lambda n: {"access_token": f"t{n}", "expires_in": 100}
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str | None] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        self.authorizations.append(request.headers.get("Authorization"))
        body = self.answer(len(self.forms))
        return web.Response(status=self.status, body=body if isinstance(body, bytes) else orjson.dumps(body))


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    served = TokenEndpoint()
    application = web.Application()
    application.router.add_post("/token", served.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    served.url = f"http://{host}:{port}/token"
    yield served
    await runner.cleanup()


def credentials(endpoint: TokenEndpoint, now: Callable[[], float] = time.time, **more: Any) -> ClientCredentials:
    section = {"token_url": endpoint.url, "client_id": "me", "client_secret": SECRET} | more
    return ClientCredentials(OAuthSettings.model_validate(section), now)


async def test_a_token_is_kept_and_renewed_before_it_expires(endpoint: TokenEndpoint) -> None:
    now = [1000.0]
    provider = credentials(endpoint, lambda: now[0])
    assert await provider.token() == "t1"
    now[0] = 1079.0
    assert await provider.token() == "t1"
    now[0] = 1081.0
    assert await provider.token() == "t2"
    assert len(endpoint.forms) == 2


async def test_what_is_asked(endpoint: TokenEndpoint) -> None:
    await credentials(endpoint, scope="read write", audience="kafka").token()
    assert endpoint.forms == [{"grant_type": "client_credentials", "scope": "read write", "audience": "kafka"}]
    basic = base64.b64decode((endpoint.authorizations[0] or "").removeprefix("Basic ")).decode()
    assert basic == "me:s3cret%2Fwith%3Aodd%20chars"


async def test_credentials_can_go_into_the_form(endpoint: TokenEndpoint) -> None:
    await credentials(endpoint, credentials="body").token()
    assert endpoint.forms == [{"grant_type": "client_credentials", "client_id": "me", "client_secret": SECRET}]
    assert endpoint.authorizations == [None]


async def test_the_life_of_a_jwt_is_in_it(endpoint: TokenEndpoint) -> None:
    claims = base64.urlsafe_b64encode(orjson.dumps({"exp": 1200})).decode().rstrip("=")
    endpoint.answer = lambda n: {"access_token": f"h.{claims}.s{n}"}
    now = [1000.0]
    provider = credentials(endpoint, lambda: now[0])
    first = await provider.token()
    now[0] = 1159.0
    assert await provider.token() == first
    now[0] = 1161.0
    assert await provider.token() != first


async def test_a_token_at_hand_outlives_a_provider_that_is_down(endpoint: TokenEndpoint) -> None:
    now = [1000.0]
    provider = credentials(endpoint, lambda: now[0])
    await provider.token()
    endpoint.status = 503
    now[0] = 1090.0
    assert await provider.token() == "t1"
    now[0] = 1101.0
    with pytest.raises(TokenError) as caught:
        await provider.token()
    assert isinstance(caught.value.reason, UnavailableError)
    endpoint.status = 200
    assert await provider.token() == "t4"


@pytest.mark.parametrize(
    ("status", "answer", "error", "said"),
    [
        (401, {"error": "invalid_client", "error_description": SECRET}, AccessDeniedError, "HTTP 401, invalid_client"),
        (400, b"nonsense", AccessDeniedError, "(HTTP 400)"),
        (503, {}, UnavailableError, "HTTP 503"),
        (429, {}, UnavailableError, "HTTP 429"),
        (302, {}, FatalError, "HTTP 302, expected 200"),
        (200, b"<html>", FatalError, "not a JSON object"),
        (200, {"token": "x"}, FatalError, "has no access_token"),
    ],
)
async def test_answers_without_a_token(
    endpoint: TokenEndpoint, status: int, answer: Any, error: type[Exception], said: str
) -> None:
    endpoint.status, endpoint.answer = status, lambda n: answer
    with pytest.raises(error) as caught:
        await credentials(endpoint).fetch()
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_provider_that_is_not_there(endpoint: TokenEndpoint) -> None:
    provider = ClientCredentials(
        OAuthSettings.model_validate(
            {"token_url": "http://127.0.0.1:1/token", "client_id": "me", "client_secret": SECRET}
        )
    )
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1/token cannot be reached"):
        await provider.fetch()


async def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    provider = GivenToken(OAuthSettings.model_validate({"token_file": path}))
    assert await provider.token() == "one"
    path.write_text("two")
    assert await provider.token() == "two"
    path.write_text("two words")
    with pytest.raises(TokenError, match="does not hold exactly one token"):
        await provider.token()
    path.unlink()
    with pytest.raises(TokenError, match="cannot be read"):
        await provider.token()

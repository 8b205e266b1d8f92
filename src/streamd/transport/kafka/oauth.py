"""Tokens for OAUTHBEARER: given, read from a file, or asked for at an OIDC provider and renewed before they expire."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import aiokafka.conn
import orjson
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from streamd.errors import AccessDeniedError, FatalError, StreamdError, UnavailableError
from streamd.transport.kafka.settings import OAuthSettings

# A token is renewed once less than this share of its life is left: a provider that is down for a while is no outage.
RENEW_SHARE = 0.2
_MAX_ANSWER = 1 << 20


class _CheckedAuthenticator(aiokafka.conn.OAuthAuthenticator):  # type: ignore[misc]
    """A refused token is answered with a JSON text and no error code (RFC 7628 §3.2.2). aiokafka takes that for a yes,
    and everything after it fails with errors that say nothing.
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if self._token_sent and payload:
            raise AuthenticationFailedError(f"the token was refused{_error_code(payload, 'status')}")
        answer: tuple[bytes, bool] | None = await super().step(payload)
        return answer


aiokafka.conn.OAuthAuthenticator = _CheckedAuthenticator


class TokenError(KafkaConnectionError):  # type: ignore[misc]
    """There is no token, so there is no connection: aiokafka tries again, as with any connection that failed.

    `reason` is the error to show; any other class would end aiokafka's background tasks for good.
    """

    def __init__(self, reason: StreamdError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def token_provider(settings: OAuthSettings) -> AbstractTokenProvider:
    """What aiokafka asks for a token each time it opens a connection."""
    if settings.token_url is not None:
        return ClientCredentials(settings)
    return GivenToken(settings)


class _Provider(AbstractTokenProvider):  # type: ignore[misc]
    def __init__(self, settings: OAuthSettings) -> None:
        self._settings = settings

    def extensions(self) -> dict[str, str]:
        return dict(self._settings.extensions)

    async def token(self) -> str:
        """A token for a new connection. Raises TokenError."""
        try:
            return await self.fetch()
        except StreamdError as error:
            raise TokenError(error) from error

    async def fetch(self) -> str:
        raise NotImplementedError


class GivenToken(_Provider):
    """`token`, or `token_file` read anew for every connection, so that whoever renews the file need not tell us."""

    async def fetch(self) -> str:
        """The token. Raises FatalError when the file cannot be read or holds no token."""
        if self._settings.token is not None:
            return self._settings.token.get_secret_value().strip()
        path = self._settings.token_file
        if path is None:
            raise FatalError("kafka.sasl.oauth: there is neither a token nor a token_file")
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise FatalError(f"kafka.sasl.oauth.token_file: {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise FatalError(f"kafka.sasl.oauth.token_file: {path} is not a token: it is not plain text") from error
        if not text or any(character.isspace() for character in text):
            raise FatalError(f"kafka.sasl.oauth.token_file: {path} does not hold exactly one token")
        return text


class ClientCredentials(_Provider):
    """Tokens from `token_url`, kept until a fifth of their life is left. Shared by all clients of the process."""

    def __init__(self, settings: OAuthSettings, now: Callable[[], float] = time.time) -> None:
        super().__init__(settings)
        self._now = now
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._renew_at = 0.0
        self._expires_at = 0.0

    async def fetch(self) -> str:
        """A token that is valid for a while. Raises UnavailableError, AccessDeniedError, FatalError."""
        async with self._lock:
            if self._token is None or self._now() >= self._renew_at:
                try:
                    await self._renew()
                except StreamdError:
                    if self._token is None or self._now() >= self._expires_at:
                        raise  # the token at hand is spent; as long as it holds, the next connection tries again
            assert self._token is not None
            return self._token

    async def _renew(self) -> None:
        asked_at = self._now()
        answer = await self._ask()
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise FatalError(f"kafka.sasl.oauth: the answer of {self._settings.token_url} has no access_token")
        lifetime = _lifetime(answer, token, asked_at)
        self._token = token
        self._expires_at = asked_at + lifetime
        self._renew_at = asked_at + lifetime * (1 - RENEW_SHARE)

    async def _ask(self) -> dict[str, Any]:
        settings = self._settings
        url, client_id = str(settings.token_url), str(settings.client_id)
        secret = settings.client_secret.get_secret_value() if settings.client_secret else ""
        form = {"grant_type": "client_credentials"}
        headers = {"Accept": "application/json"}
        if settings.scope is not None:
            form["scope"] = settings.scope
        if settings.audience is not None:
            form["audience"] = settings.audience
        if settings.credentials == "header":
            # RFC 6749 §2.3.1: both are form-encoded before they are put together.
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        trust = True if settings.ca is None else ssl.create_default_context(cafile=settings.ca)
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(settings.timeout), trust_env=True) as session,
                session.post(url, data=form, headers=headers, ssl=trust, allow_redirects=False) as response,
            ):
                return _answer(url, response.status, await response.content.read(_MAX_ANSWER))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise UnavailableError(f"kafka.sasl.oauth: {url} cannot be reached: {what}") from error


def _answer(url: str, status: int, body: bytes) -> dict[str, Any]:
    if status in (400, 401, 403):
        raise AccessDeniedError(
            f"kafka.sasl.oauth: {url} refused the client credentials (HTTP {status}{_error_code(body)}): "
            "check client_id, client_secret, scope and audience"
        )
    if status == 429 or status >= 500:
        raise UnavailableError(f"kafka.sasl.oauth: {url} answered HTTP {status}")
    if status != 200:
        raise FatalError(f"kafka.sasl.oauth: {url} answered HTTP {status}, expected 200: is it a token endpoint?")
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise FatalError(f"kafka.sasl.oauth: the answer of {url} is not a JSON object: is it a token endpoint?")
    return answer


def _error_code(body: bytes, name: str = "error") -> str:
    """The error code in an answer (RFC 6749 §5.2), which holds no secret; its free text might."""
    try:
        code = orjson.loads(body).get(name)
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return f", {code}" if isinstance(code, str) and code.isascii() and len(code) < 64 else ""


def _lifetime(answer: dict[str, Any], token: str, asked_at: float) -> float:
    """Seconds the token is good for: as the provider says, else as the token says (if it is a JWT), else 5 minutes."""
    expires_in = answer.get("expires_in")
    try:
        if expires_in is not None:
            return max(0.0, float(expires_in))
    except (TypeError, ValueError):
        pass
    try:
        payload = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return max(0.0, float(claims["exp"]) - asked_at)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return 300.0

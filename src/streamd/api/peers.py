"""Questions about views are passed on to the nodes that run the other tasks, and the answers put together.

Which node has a key nobody knows, so all are asked at once, each for what it knows alone (`local=true`): a question
that was passed on is never passed on again. Whoever does not answer makes partitions `waiting`, never keys missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec
import orjson
from yarl import URL

from streamd.api.advertised import reachable
from streamd.api.options import ApiOptions
from streamd.supervisor.views import WITHIN, Asked, Looked

LOCAL_WITHIN: Final = WITHIN - 1.0
"""Seconds for the tasks of a node that was asked by another one: its answer has a way to go."""
LOCAL_BYTES: Final = 4 * 1024 * 1024
"""Bytes of entries in one answer to another node; there is one more that may be larger."""
READ_BYTES: Final = 64 * 1024 * 1024
"""Bytes of another node's answer that are read."""


class ViewSource(Protocol):
    """Who knows what views hold on this node: the supervisor has one."""

    def of(self, name: str) -> list[str] | None:
        """The stages of a pipeline that keep a view; None when it does not run here."""

    def nodes(self, name: str) -> Mapping[str, int]:
        """{`HOST/URL` of the nodes of its group, "" of those without: how many}; empty when it is not known."""

    async def look(self, name: str, stage: str, asked: Asked, within: float = WITHIN) -> Looked:
        """What the view of a stage, one of `of`, holds on this node."""


class Peers:
    """The other nodes, as one client. `start` once it is known where this node itself is to be found."""

    def __init__(self, options: ApiOptions) -> None:
        """Raises ConfigError when the authorities of `http.tls.ca` cannot be read."""
        self._tls = options.peer_tls()
        self._headers = {} if options.token is None else {"Authorization": f"Bearer {options.token}"}
        self._own = ""
        self._session: aiohttp.ClientSession | None = None

    def start(self, own: str) -> None:
        """`own`: the `HOST/URL` of this node, which is never asked."""
        self._own = own
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit_per_host=8, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=WITHIN),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """May be called twice, and without `start`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def look(self, source: ViewSource, name: str, stage: str, asked: Asked) -> Looked:
        """What the view holds on all nodes, within 5 s. `elsewhere` are partitions of nodes that cannot be asked."""
        nodes = source.nodes(name)
        others = sorted({url for one in nodes if one != self._own and (url := reachable(one)) is not None})
        everybody = len(others) + 1 == sum(nodes.values())
        asking = [asyncio.create_task(self._ask(url, name, stage, asked)) for url in others]
        try:
            found = await source.look(name, stage, asked)
            if found.elsewhere and not _enough(found, asked):
                for answer in asyncio.as_completed(asking):
                    found.add(await answer)
                    if _enough(found, asked):
                        break
                found.settle(everybody)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return found

    async def _ask(self, url: str, name: str, stage: str, asked: Asked) -> Looked:
        """What one node knows; that it does not answer is in `reasons`."""
        query = {"local": "true", "limit": str(asked.limit), "prefix": asked.prefix}
        query |= {k: v for k, v in (("after", asked.after), ("key", asked.key)) if v is not None}
        path = f"/api/v1/pipelines/{quote(name, safe='')}/views/{quote(stage, safe='')}"
        target = URL(url + path, encoded=True).with_query(query)
        assert self._session is not None
        try:
            async with self._session.get(target, headers=self._headers, allow_redirects=False) as response:
                if response.status != 200:
                    return Looked(reasons=[f"{url} {_refusal(response.status)}"])
                return _looked(url, await _read(response))
        except TimeoutError:
            return Looked(reasons=[f"{url} did not answer within {WITHIN:g} s"])
        except aiohttp.ClientSSLError as error:
            return Looked(reasons=[f"{url} has a certificate that is not trusted here ({error}); see http.tls.ca"])
        except (aiohttp.ClientError, OSError) as error:
            return Looked(reasons=[f"{url} cannot be reached ({type(error).__name__})"])


class _Entry(msgspec.Struct):
    partition: int
    key: msgspec.Raw
    value: msgspec.Raw


class _Told(msgspec.Struct):
    entries: list[_Entry]
    upto: str | None
    checkpoints: dict[int, int]
    not_ready: list[int]
    reasons: list[str]
    too_large: int
    failed: str


def told(looked: Looked, asked: Asked) -> dict[str, Any]:
    """What a node that was asked by another answers, as a JSON value."""
    shown, upto = looked.first(asked.limit if asked.key is None else len(looked.entries), LOCAL_BYTES)
    return {
        "entries": [
            {"partition": partition, "key": orjson.Fragment(key), "value": orjson.Fragment(value)}
            for _, partition, key, value in shown
        ],
        "upto": upto,
        "checkpoints": looked.checkpoints,
        "not_ready": looked.waiting,
        "reasons": looked.reasons,
        "too_large": looked.too_large,
        "failed": looked.failed,
    }


def _looked(url: str, body: bytes | None) -> Looked:
    if body is None:
        return Looked(reasons=[f"{url} answered with more than {READ_BYTES} bytes"])
    try:
        found = msgspec.json.decode(body, type=_Told)
        entries = [(one.partition, bytes(one.key), bytes(one.value)) for one in found.entries]
        for _, key, _ in entries:
            orjson.loads(key)
    except (msgspec.DecodeError, orjson.JSONDecodeError):
        return Looked(reasons=[f"{url} answers in another form; is it of another version?"])
    reasons = [f"{url}: {reason}" for reason in found.reasons]
    return Looked(
        entries, found.upto, found.checkpoints, found.not_ready,
        reasons=reasons, too_large=found.too_large, failed=found.failed,
    )  # fmt: skip


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, None when it is too large."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > READ_BYTES:
            return None
    return bytes(body)


def _refusal(status: int) -> str:
    match status:
        case 401:
            return "refuses this node's token: http.token has to be the same on all nodes"
        case 404:
            return "has no such pipeline or view"
        case _:
            return f"answered with status {status}"


def _enough(found: Looked, asked: Asked) -> bool:
    """Whether nothing that others say can change the answer: a key was found as text, which goes before all."""
    return asked.key is not None and any(key[:1] == b'"' for _, key, _ in found.entries)

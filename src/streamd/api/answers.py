"""Answers: JSON, text, errors. All go through `Answer`, which gives up on clients that do not read."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, is_dataclass
from typing import Any

import orjson
from aiohttp import web

WRITE_TIMEOUT = 15.0


class Answer(web.Response):
    """A response that a client has to take within 15 s; then its connection is cut."""

    async def write_eof(self, data: Any = b"") -> None:
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await super().write_eof(data)
        except TimeoutError:
            transport = self._req.transport if self._req is not None else None
            if transport is not None:
                transport.abort()


def json_answer(value: Any, status: int = 200) -> Answer:
    """A JSON document; dataclasses become objects."""
    body = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
    return Answer(body=body, status=status, content_type="application/json")


def error_answer(status: int, code: str, message: str) -> Answer:
    """`{"error": {"code": …, "message": …}}`."""
    return json_answer({"error": {"code": code, "message": message}}, status)


def _plain(value: Any) -> Any:
    # Positions are any JSON value of any source: what orjson does not know becomes text rather than an error page.
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)

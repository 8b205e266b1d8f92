"""The HTTP server of a node: metrics, health, the API and the dashboard. It shows, and changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from streamd.api.access import access
from streamd.api.advertised import advertised
from streamd.api.context import CONTEXT, ApiContext, StatusSource
from streamd.api.options import ApiOptions, listen_error
from streamd.api.routes import dashboard, health, metrics, pipelines, version, views, workers
from streamd.clock import SYSTEM_CLOCK, Clock
from streamd.errors import FatalError

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 100
MAX_BODY = 16 * 1024  # nothing here takes a body
MAX_LINE = 8 * 1024
KEEPALIVE = 15.0  # also how long a client may take to send a request's head
SAMPLE_INTERVAL = 1.0
STOP_TIMEOUT = 2.0


class ApiServer:
    """One listening server. `async with ApiServer(source, options) as server:` or `start` and `stop`."""

    def __init__(self, source: StatusSource, options: ApiOptions, clock: Clock = SYSTEM_CLOCK) -> None:
        """Raises ConfigError for options that would open the node to everyone by mistake, or a bad certificate."""
        self._warnings = options.check()
        self._tls = options.tls()
        self._options = options
        self._context = ApiContext.of(source, options, clock)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._sampler: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the port that was really taken. Raises FatalError before `start`."""
        if self._listener is None:
            raise FatalError("the HTTP server does not listen; start it first")
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def advertised(self) -> str:
        """Where other nodes find it (`api/advertised.py`). Raises FatalError before `start`."""
        if self._listener is None:
            raise FatalError("the HTTP server does not listen; start it first")
        return advertised(self._options, self._listener.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises FatalError, with what to do, when the address cannot be had."""
        runner = web.AppRunner(
            application(self._context, self._options),
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            lingering_time=1.0,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            shutdown_timeout=STOP_TIMEOUT,
        )
        await runner.setup()
        server = runner.server
        assert server is not None

        def connection() -> asyncio.Protocol:
            return server() if len(server.connections) < MAX_CONNECTIONS else _Refusal()

        options = self._options
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                connection, options.host, options.port, ssl=self._tls, backlog=64
            )
        except OSError as error:
            await runner.cleanup()
            raise listen_error(options, error) from error
        self._runner = runner
        self._context.peers.start(self.advertised)
        self._context.sample()
        self._sampler = asyncio.create_task(self._sample(), name="api-sampler")
        for warning in self._warnings:
            log.warning(warning, url=self.url)
        log.info("HTTP server listens", url=self.url)

    async def stop(self) -> None:
        """Stop listening, let running requests end within 2 s, cut the rest. May be called twice."""
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.cancel()
            await asyncio.gather(sampler, return_exceptions=True)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        await self._context.peers.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL)
            try:
                self._context.sample()
                self._context.publish()
            except Exception:
                log.exception("Live figures cannot be made")


def application(context: ApiContext, options: ApiOptions) -> web.Application:
    """The routes with their access rules, without a socket."""
    app = web.Application(middlewares=[access(options)], client_max_size=MAX_BODY)
    app[CONTEXT] = context
    for area in (health, metrics, pipelines, views, workers, version, dashboard):
        app.add_routes(area.ROUTES)
    return app


class _Refusal(asyncio.Protocol):
    """What a connection gets that is one too many: its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        with contextlib.suppress(AttributeError):
            transport.abort()  # type: ignore[attr-defined]

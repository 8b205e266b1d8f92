"""The schema registry of a scratch: knows what the user's own one knows, keeps to itself what is registered with it.

It speaks Confluent's API to the nodes, on this machine alone, and asks the user's registry what it does not know;
nothing is ever registered there, nor set. Each run has its own, at another path, so that all begin with what the user's
has. The ids that are given out here are far above those of real registries. It takes any schema: whether the user's
registry would take it as compatible is not shown.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from streamd.codecs.beside import header_formats, key_format
from streamd.codecs.format import format_of
from streamd.codecs.schema_registry import Reference, RegisteredSchema, SchemaRegistry, SchemaType
from streamd.config.pipeline import PipelineConfig
from streamd.errors import AccessDeniedError, NotFoundError, StreamdError

FIRST_ID = 2_000_000_000
_LOCAL = "127.0.0.1"
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class ScratchRegistry:
    """`SchemaRegistry` (codecs/schema_registry.py) for who compares, and a server for the nodes."""

    def __init__(self, own: SchemaRegistry, prefix: str) -> None:
        """`own`: the user's; only what reads is called. `prefix`: of the scratch's topics."""
        self._own, self._prefix = own, prefix
        # {(run, subject): its versions here}, {text: the schema}, {id: the schema}
        self._versions: dict[tuple[str, str], list[RegisteredSchema]] = {}
        self._by_text: dict[str, RegisteredSchema] = {}
        self._by_id: dict[int, RegisteredSchema] = {}
        self._registering = asyncio.Lock()
        self._held = AsyncExitStack()
        self._port = 0

    async def start(self) -> None:
        """Listen, on a port that nobody else has."""
        app = web.Application()
        app.router.add_route("*", "/{run}/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._held.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, _LOCAL, 0)
        await site.start()
        self._port = runner.addresses[0][1]

    def url(self, run: str) -> str:
        """Where the registry of a run is."""
        return f"http://{_LOCAL}:{self._port}/{run}"

    async def close(self) -> None:
        """Listen no more."""
        await self._held.aclose()

    async def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of an id, of here or of the user's."""
        return self._by_id.get(schema_id) or await self._own.by_id(schema_id)

    async def _version(self, run: str, subject: str, version: int | None) -> RegisteredSchema | None:
        """A version of a subject, None for the latest."""
        versions = self._versions.get((run, subject), ())
        if version is None and versions:
            return versions[-1]
        for one in versions:
            if one.version == version:
                return one
        own = self._of_user(subject)
        return await (self._own.latest(own) if version is None else self._own.version(own, version))

    async def _find(
        self, run: str, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference]
    ) -> RegisteredSchema | None:
        for one in self._versions.get((run, subject), ()):
            if one.schema == schema:
                return one
        if any((run, reference.subject) in self._versions for reference in references):
            return None  # the user's has none that refers to what is only here
        return await self._own.find(self._of_user(subject), schema, kind, references)

    async def _register(
        self, run: str, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference]
    ) -> RegisteredSchema:
        async with self._registering:
            found = await self._find(run, subject, schema, kind, references)
            if found is not None:
                return found
            before = await self._version(run, subject, None)
            known = self._by_text.get(schema)
            if known is None:
                known = RegisteredSchema(FIRST_ID + len(self._by_text), schema, kind, tuple(references))
                self._by_text[schema] = self._by_id[known.id] = known
            found = replace(known, version=1 if before is None else before.version + 1)
            self._versions.setdefault((run, subject), []).append(found)
            return found

    def _of_user(self, subject: str) -> str:
        """What a subject is called whose topic has the user's name."""
        return re.sub(rf"^{re.escape(self._prefix)}(-[a-z]+)?\.", "", subject)

    # The server.

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            status, body = await self._answered(request)
        except AccessDeniedError as error:
            status, body = 403, {"error_code": 40301, "message": str(error)}
        except StreamdError as error:
            # The user's cannot be reached, or makes no sense: the nodes wait, as they would for it itself.
            status, body = 503, {"error_code": 50301, "message": str(error)}
        return web.json_response(body, status=status, content_type=_CONTENT_TYPE)

    async def _answered(self, request: web.Request) -> tuple[int, Any]:
        run, path = request.match_info["run"], request.match_info["path"].split("/")
        body: dict[str, Any] = await request.json() if request.can_read_body else {}
        schema, kind = body.get("schema", ""), body.get("schemaType", "AVRO")
        references = [await self._reference(run, one) for one in body.get("references", ())]
        match request.method, path:
            case "GET", ["schemas", "ids", number]:
                return _told(await self.by_id(int(number)))
            case "GET", ["subjects", subject, "versions", version]:
                return _told(await self._version(run, subject, None if version == "latest" else int(version)))
            case "POST", ["subjects", subject]:
                return _told(await self._find(run, subject, schema, kind, references))
            case "POST", ["subjects", subject, "versions"]:
                return _told(await self._register(run, subject, schema, kind, references))
            case "POST", ["compatibility", *_]:
                return 200, {"is_compatible": True}
            case (("GET" | "PUT"), ["config", *_]):
                return 200, {"compatibilityLevel": "NONE"}
        return 404, {"error_code": 404, "message": "no such thing"}

    async def _reference(self, run: str, written: Mapping[str, Any]) -> Reference:
        subject, version = str(written["subject"]), int(written["version"])
        found = await self._version(run, subject, version)
        if found is None:
            raise NotFoundError(f"there is no version {version} of {subject!r}, which a schema refers to")
        return Reference(str(written["name"]), subject, version, found.schema)


def _told(found: RegisteredSchema | None) -> tuple[int, Any]:
    if found is None:
        return 404, {"error_code": 40401, "message": "not found"}
    references = [{"name": r.name, "subject": r.subject, "version": r.version} for r in found.references]
    told = {"id": found.id, "schema": found.schema, "schemaType": found.type, "references": references}
    return 200, told | ({"version": found.version} if found.version else {})


@asynccontextmanager
async def schemas_of(
    config: PipelineConfig, prefix: str
) -> AsyncIterator[tuple[SchemaRegistry | None, ScratchRegistry | None]]:
    """The user's schema registry and that of a scratch, for the time of the block; None where none is used."""
    if config.schema_registry is None or not uses_registry(config):
        yield None, None
        return
    # Imported late: a pipeline without one must not pay for its client.
    from streamd.transport.registry.client import SchemaRegistryClient

    schemas = SchemaRegistryClient(config.schema_registry)
    registry = ScratchRegistry(schemas, prefix)
    try:
        await registry.start()
        yield schemas, registry
    finally:
        await registry.close()
        await schemas.close()


def uses_registry(config: PipelineConfig) -> bool:
    """Whether any format takes the schema registry."""
    for one in (*config.sources, *config.tables, *config.sinks, *config.dead_letters):
        forms = (format_of(one.settings), key_format(one.settings), *header_formats(one.settings).values())
        if any(getattr(form.settings, "registry", False) for form in forms):
            return True
    return False

"""The client of a schema registry: asks each thing that does not change once, and tells errors apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from streamd.codecs.schema_registry import IncompatibleSchemaError, Reference, RegisteredSchema, SchemaType
from streamd.errors import AccessDeniedError, FatalError, UnavailableError
from streamd.transport.registry.settings import SchemaRegistrySettings

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
# Much of an answer to show of what a registry says is wrong.
_MOST_SHOWN = 400
# Answers that may be others a moment later.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# How often others may come first with a version of a subject.
_MOST_CONFLICTS = 10
# Schemas that a schema may refer to, over all levels.
_MOST_REFERENCES = 1000


class SchemaRegistryClient:
    """See `codecs.schema_registry.SchemaRegistry`. Made anywhere; the first request opens its connections."""

    def __init__(self, settings: SchemaRegistrySettings, waited: Callable[[], None] = lambda: None) -> None:
        """`waited` is called for each request that could not be answered by any address."""
        self._settings, self._waited = settings, waited
        self._session: aiohttp.ClientSession | None = None
        self._asking = asyncio.Lock()
        self._known: dict[int, RegisteredSchema] = {}
        self._registered: dict[tuple[str, str], RegisteredSchema] = {}

    async def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of an id, with all that it refers to; None when the registry has none."""
        async with self._asking:
            if schema_id not in self._known:
                status, answer = await self._ask("GET", f"/schemas/ids/{schema_id}")
                if status == 404:
                    return None
                self._known[schema_id] = await self._complete(schema_id, answer)
            return self._known[schema_id]

    async def latest(self, subject: str) -> RegisteredSchema | None:
        """The last version of a subject; None when there is none. Asked anew each time."""
        return await self._version(subject, "latest")

    async def version(self, subject: str, version: int) -> RegisteredSchema | None:
        """A version of a subject; None when there is none, or none any more."""
        return await self._version(subject, str(version))

    async def find(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema | None:
        """The same schema as a version of the subject; None when it is not registered there."""
        body = _body(schema, kind, references)
        status, answer = await self._ask("POST", f"/subjects/{quote(subject, safe='')}", body)
        if status == 404:
            return None
        needed = await self._needed(body.get("references"))
        return RegisteredSchema(int(answer["id"]), schema, kind, needed, int(answer.get("version") or 0))

    async def register(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema:
        """Make it a version of the subject, unless it is one. Raises IncompatibleSchemaError with the reasons."""
        async with self._asking:
            found = self._registered.get((subject, schema))
            if found is None:
                body = _body(schema, kind, references)
                for _ in range(_MOST_CONFLICTS):
                    await self._check(subject, body)
                    status, answer = await self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", body)
                    # It was compatible just now. Somebody else may have registered a version meanwhile, or this one.
                    if status != 409:
                        break
                    if (same := await self.find(subject, schema, kind, references)) is not None:
                        status, answer = 200, {"id": same.id}
                        break
                if status in (409, 422):
                    raise IncompatibleSchemaError(await self._refusal(subject, _said(answer)))
                needed = await self._needed(body.get("references"))
                found = RegisteredSchema(int(answer["id"]), schema, kind, needed)
                self._registered[subject, schema] = found
            return found

    async def set_compatibility(self, subject: str, level: str) -> None:
        """Say what new versions of the subject must be compatible with."""
        status, answer = await self._ask("PUT", f"/config/{quote(subject, safe='')}", {"compatibility": level})
        if status >= 400:
            raise FatalError(f"the schema registry refuses compatibility {level} for {subject!r}: {_said(answer)}")

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Inside.

    async def _check(self, subject: str, body: Mapping[str, Any]) -> None:
        """Raise IncompatibleSchemaError, with the registry's reasons, before anything is changed."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        status, answer = await self._ask("POST", path, body)
        if status == 422:
            raise IncompatibleSchemaError(await self._refusal(subject, _said(answer)))
        if status == 200 and answer.get("is_compatible") is False:
            reasons = "; ".join(map(str, answer.get("messages") or ())) or str(answer.get("reason") or "it gives none")
            raise IncompatibleSchemaError(await self._refusal(subject, reasons[:_MOST_SHOWN]))

    async def _refusal(self, subject: str, reasons: str) -> str:
        level = await self._level(subject)
        return (
            f"the schema registry refuses the schema for subject {subject!r}, whose compatibility is {level}: {reasons}"
        )

    async def _level(self, subject: str) -> str:
        """The subject's, or else the registry's own: some say NONE of a subject that has none of its own."""
        level = "not told"
        for path in (f"/config/{quote(subject, safe='')}", "/config"):
            status, answer = await self._ask("GET", path)
            if status == 200:
                level = str(answer.get("compatibilityLevel") or level)
            if level not in ("NONE", "not told"):
                break
        return level

    async def _version(self, subject: str, version: str) -> RegisteredSchema | None:
        status, answer = await self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/{version}")
        return None if status == 404 else await self._complete(int(answer["id"]), answer)

    async def _complete(self, schema_id: int, answer: Mapping[str, Any]) -> RegisteredSchema:
        """A schema with the texts of all that it refers to."""
        needed = await self._needed(answer.get("references"))
        kind: SchemaType = answer.get("schemaType") or "AVRO"
        return RegisteredSchema(schema_id, str(answer["schema"]), kind, needed, int(answer.get("version") or 0))

    async def _needed(self, references: Sequence[Mapping[str, Any]] | None) -> tuple[Reference, ...]:
        """The references with all that they refer to, each before who names it."""
        found: dict[tuple[str, int], Reference] = {}
        await self._follow(references or (), found)
        return tuple(found.values())

    async def _follow(
        self, references: Sequence[Mapping[str, Any]], found: dict[tuple[str, int], Reference], deep: int = 0
    ) -> None:
        for reference in references:
            subject, version = str(reference["subject"]), int(reference["version"])
            if (subject, version) in found:
                continue
            if deep > 50 or len(found) > _MOST_REFERENCES:
                raise FatalError(f"the schemas that {subject!r} refers to are too many, or refer to each other")
            path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
            status, answer = await self._ask("GET", path)
            if status == 404:
                raise FatalError(f"a schema refers to version {version} of {subject!r}, which the registry lacks")
            await self._follow(answer.get("references") or (), found, deep + 1)
            found[subject, version] = Reference(str(reference["name"]), subject, version, str(answer["schema"]))

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON) of an answer that says something: 2xx, 404, 409, 422. Other addresses are tried first."""
        problem = ""
        for url in self._settings.url:
            try:
                return await self._ask_at(url.rstrip("/"), method, path, body)
            except UnavailableError as error:
                problem = str(error)
        self._waited()
        raise UnavailableError(problem)

    async def _ask_at(self, url: str, method: str, path: str, body: Any) -> tuple[int, Any]:
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._opened().request(method, url + path, data=data) as response:
                status, content = response.status, await response.read()
                of = response.content_type
        except TimeoutError:
            seconds = self._settings.timeout
            raise UnavailableError(f"the schema registry {url} does not answer within {seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise UnavailableError(f"the schema registry {url} cannot be reached ({type(error).__name__})") from None
        if status in (401, 403):
            raise AccessDeniedError(
                f"the schema registry {url} does not let us ({status}): look at username and password, or token, of "
                "`schema_registry`"
            )
        if status in _PASSING:
            raise UnavailableError(f"the schema registry {url} is not well: it answers {status}")
        try:
            answer = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError:
            answer = None
        if status == 404 and (not isinstance(answer, dict) or "error_code" not in answer):
            raise FatalError(f"{url} is no schema registry: it does not know {path.split('?')[0]} (404)")
        if status < 400 and not isinstance(answer, dict):
            raise FatalError(
                f"{url} is no schema registry: to {method} {path.split('?')[0]} it answers {status} with "
                f"{of[:_MOST_SHOWN]}, expected a JSON object; look at `url` of `schema_registry`"
            )
        if not isinstance(answer, dict) or (status >= 400 and status not in (404, 409, 422)):
            raise FatalError(f"the schema registry {url} answers {status} to {method} {path.split('?')[0]}")
        return status, answer

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            tls = settings.tls.context() if settings.tls is not None else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=4, ssl=tls if tls is not None else True),
                timeout=aiohttp.ClientTimeout(total=settings.timeout),
                headers={
                    "Content-Type": CONTENT_TYPE,
                    "Accept": f"{CONTENT_TYPE}, application/json",
                    **settings.headers(),
                },
            )
        return self._session


def _body(schema: str, kind: SchemaType, references: Sequence[Reference]) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": schema}
    if kind != "AVRO":
        body["schemaType"] = kind
    if references:
        body["references"] = [{"name": r.name, "subject": r.subject, "version": r.version} for r in references]
    return body


def _said(answer: Mapping[str, Any]) -> str:
    """What the registry gives as its reason."""
    return str(answer.get("message") or "it gives no reasons")[:_MOST_SHOWN]

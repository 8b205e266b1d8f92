"""The client against a real registry, and against servers that are not well."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from services.process import free_ports
from services.registry import SchemaRegistry
from streamd.codecs import CodecContext, codec, registered
from streamd.codecs.avro.settings import AvroSettings
from streamd.codecs.schema_registry import IncompatibleSchemaError, Reference
from streamd.errors import AccessDeniedError, FatalError, LoadError, UnavailableError
from streamd.transport.registry.client import SchemaRegistryClient
from streamd.transport.registry.settings import SchemaRegistrySettings

ID = {"name": "id", "type": "string"}
V1 = {"type": "record", "name": "Order", "fields": [ID]}
V2 = {**V1, "fields": [ID, {"name": "count", "type": "int", "default": 0}]}
BROKEN = {**V1, "fields": [ID, {"name": "price", "type": "double"}]}


@pytest.fixture
def subject():
    return f"orders/{uuid.uuid4().hex[:8]}-value"


@asynccontextmanager
async def client_of(*urls, **settings):
    client = SchemaRegistryClient(SchemaRegistrySettings.model_validate({"url": list(urls), **settings}))
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def client(schema_registry):
    async with client_of(schema_registry.url) as made:
        yield made


@asynccontextmanager
async def serving(handler):
    """A server of the test's own, its address, and what it was asked."""
    asked = []

    async def handle(request):
        asked.append((request.method, request.raw_path, dict(request.headers)))
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2]), asked
    finally:
        await runner.cleanup()


def answers(status, body=None, **headers):
    async def handle(request):
        return web.json_response(body if body is not None else {}, status=status, headers=headers)

    return handle


async def test_a_schema_is_registered_found_and_fetched(client, schema_registry, subject):
    assert await client.latest(subject) is None
    assert await client.find(subject, json.dumps(V1), "AVRO") is None
    registered = await client.register(subject, json.dumps(V1), "AVRO")
    assert await client.register(subject, json.dumps(V1), "AVRO") == registered
    assert (await client.find(subject, json.dumps(V1), "AVRO")).id == registered.id
    assert (await client.latest(subject)).id == registered.id
    async with client_of(schema_registry.url) as other:
        found = await other.by_id(registered.id)
        assert (found.type, json.loads(found.schema)["name"]) == ("AVRO", "Order")


async def test_an_id_that_there_is_not(client):
    assert await client.by_id(2**31 - 1) is None


async def test_a_compatible_version_is_taken_and_another_is_refused_with_the_reasons(client, subject):
    first = await client.register(subject, json.dumps(V1), "AVRO")
    second = await client.register(subject, json.dumps(V2), "AVRO")
    assert second.id != first.id
    with pytest.raises(IncompatibleSchemaError) as caught:
        await client.register(subject, json.dumps(BROKEN), "AVRO")
    message = str(caught.value)
    assert f"for subject {subject!r}, whose compatibility is BACKWARD" in message
    assert "price at /fields/1" in message
    assert (await client.latest(subject)).id == second.id


async def test_versions_that_come_at_the_same_moment_are_all_taken(schema_registry, client, subject):
    await client.register(subject, json.dumps(V1), "AVRO")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(schema_registry.url)) for _ in range(8)]
        grown = [{**V1, "fields": [ID, {"name": f"f{n}", "type": "int", "default": 0}]} for n in range(len(clients))]
        asked = zip(clients, grown, strict=True)
        found = await asyncio.gather(*(one.register(subject, json.dumps(schema), "AVRO") for one, schema in asked))
    assert len({registered.id for registered in found}) == len(clients)


async def test_sinks_that_evolve_at_the_same_moment_leave_a_version_with_the_fields_of_all(schema_registry, subject):
    """Whoever comes later finds what came in between, and puts it together with its own."""
    topic = subject.removesuffix("-value")
    async with AsyncExitStack() as stack:
        sinks = []
        for _ in range(4):
            client = await stack.enter_async_context(client_of(schema_registry.url, timeout="60s"))
            settings = AvroSettings(registry=True, schema=V1, on_schema_change="evolve")
            sinks.append(codec("avro", settings, CodecContext("out", "sink", topic, registry=client)))
        await asyncio.gather(*(sink.prepare() for sink in sinks))
        documents = [{"id": "1", f"f{n}": n} for n in range(len(sinks))]
        for sink, document in zip(sinks, documents, strict=True):
            with pytest.raises(LoadError):
                sink.encode(document)
        assert all(await asyncio.gather(*(sink.learn() for sink in sinks)))
        for sink, document in zip(sinks, documents, strict=True):
            read = sink.decode(sink.encode(document))
            assert {name: value for name, value in read.items() if value is not None} == document
        latest = await client.latest(subject)
    assert {field["name"] for field in json.loads(latest.schema)["fields"]} == {"id", *(f"f{n}" for n in range(4))}


@pytest.fixture
def compares_nothing(schema_registry):
    """This registry does not compare Avro schemas with references, and knows NONE for all subjects only."""
    schema_registry.ask("PUT", "/config", {"compatibility": "NONE"})
    yield
    schema_registry.ask("PUT", "/config", {"compatibility": "BACKWARD"})


@pytest.mark.usefixtures("compares_nothing")
async def test_a_schema_with_references_evolves_and_keeps_them(client, schema_registry, subject):
    city, at = {"type": "record", "name": "shop.City", "fields": [ID]}, f"{subject}.city".replace("/", ".")
    schema_registry.register(at, city)
    settings = AvroSettings(registry=True, schema=V1, on_schema_change="evolve")
    sink = codec("avro", settings, CodecContext("out", "sink", subject.removesuffix("-value"), registry=client))
    await sink.prepare()
    fields = [ID, {"name": "city", "type": ["null", "shop.City"], "default": None}]
    to_city = [Reference("shop.City", at, 1, json.dumps(city))]
    await client.register(subject, json.dumps({**V1, "fields": fields}), "AVRO", to_city)
    document = {"id": "1", "city": {"id": "2"}, "user": "ada"}
    with pytest.raises(LoadError):
        sink.encode(document)
    assert await sink.learn()
    assert sink.decode(sink.encode(document)) == document
    latest = await client.latest(subject)
    assert [field["name"] for field in json.loads(latest.schema)["fields"]] == ["id", "city", "user"]
    assert len(latest.references) == 1


async def test_what_was_refused_is_taken_when_the_compatibility_is_relaxed(client, subject, monkeypatch):
    settings = AvroSettings(registry=True, schema=V1, on_schema_change="evolve", compatibility="FULL")
    sink = codec("avro", settings, CodecContext("out", "sink", subject.removesuffix("-value"), registry=client))
    await sink.prepare()
    await client.set_compatibility(subject, "FORWARD")
    document = {"id": None}
    with pytest.raises(LoadError):
        sink.encode(document)
    assert await sink.learn()
    with pytest.raises(LoadError, match="its schema cannot evolve: the schema registry refuses"):
        sink.encode(document)
    await client.set_compatibility(subject, "BACKWARD")
    now = registered.time.monotonic()
    monkeypatch.setattr(registered.time, "monotonic", lambda: now + registered.ASKED_AGAIN_AFTER + 1)
    with pytest.raises(LoadError):
        sink.encode(document)
    assert await sink.learn()
    assert sink.decode(sink.encode(document)) == document


async def test_the_compatibility_of_a_subject_can_be_set(client, subject):
    await client.set_compatibility(subject, "FORWARD")
    await client.register(subject, json.dumps(V1), "AVRO")
    with pytest.raises(FatalError, match=r"answers 400 to PUT /config/|refuses compatibility"):
        await client.set_compatibility(subject, "SIDEWAYS")


async def test_what_is_no_schema_is_refused(client, subject):
    with pytest.raises(IncompatibleSchemaError, match="refuses the schema"):
        await client.register(subject, '{"type": "rekord"}', "AVRO")


async def test_references_come_along_each_before_who_names_it(client, schema_registry, subject):
    city = {"type": "record", "name": "shop.City", "fields": [{"name": "name", "type": "string"}]}
    address = {"type": "record", "name": "shop.Address", "fields": [{"name": "city", "type": "shop.City"}]}
    user = {"type": "record", "name": "shop.User", "fields": [{"name": "at", "type": "shop.Address"}]}
    schema_registry.register(f"{subject}.city".replace("/", "."), city)
    to_city = {"name": "shop.City", "subject": f"{subject}.city".replace("/", "."), "version": 1}
    schema_registry.register(f"{subject}.address".replace("/", "."), address, references=[to_city])
    to_address = {"name": "shop.Address", "subject": f"{subject}.address".replace("/", "."), "version": 1}
    number = schema_registry.register(f"{subject}.user".replace("/", "."), user, references=[to_address])
    found = await client.by_id(number)
    assert [reference.name for reference in found.references] == ["shop.City", "shop.Address"]
    assert json.loads(found.references[0].schema)["name"].endswith("City")
    again = await client.register(
        subject, json.dumps(user), "AVRO", [Reference("shop.Address", to_address["subject"], 1, json.dumps(address))]
    )
    assert again.references


async def test_ids_are_asked_for_once_however_many_want_them():
    body = {"schema": json.dumps(V1)}
    async with serving(answers(200, body)) as (url, asked), client_of(url) as client:
        found = await asyncio.gather(*(client.by_id(7) for _ in range(20)))
        assert {one.id for one in found} == {7}
        assert len(asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_registry_that_is_not_well_is_waited_for(status):
    async with serving(answers(status)) as (url, _), client_of(url) as client:
        with pytest.raises(UnavailableError, match=f"is not well: it answers {status}"):
            await client.by_id(1)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_registry_that_does_not_let_us(status):
    async with serving(answers(status)) as (url, _), client_of(url, token="t-4711") as client:
        with pytest.raises(AccessDeniedError, match=f"does not let us \\({status}\\)") as caught:
            await client.by_id(1)
        assert "4711" not in str(caught.value)


async def test_what_is_no_registry_at_all():
    async def hello(request):
        return web.Response(text="hello", status=200)

    async with serving(hello) as (url, _), client_of(url) as client:
        with pytest.raises(
            FatalError, match="to GET /schemas/ids/1 it answers 200 with text/plain, expected a JSON object"
        ):
            await client.by_id(1)
    async with serving(answers(404)) as (url, _), client_of(url) as client:
        with pytest.raises(FatalError, match="is no schema registry"):
            await client.by_id(1)


async def test_a_registry_that_answers_nothing(schema_registry):
    async def never(request):
        await asyncio.Event().wait()

    async with serving(never) as (url, _), client_of(url, timeout="100ms") as client:
        with pytest.raises(UnavailableError, match=r"does not answer within 0\.1 s"):
            await client.by_id(1)
    async with client_of(f"http://127.0.0.1:{free_ports(1)[0]}") as client:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await client.by_id(1)


async def test_the_next_address_is_asked_when_one_is_out_of_reach(schema_registry, subject):
    async with client_of(f"http://127.0.0.1:{free_ports(1)[0]}", schema_registry.url) as client:
        assert (await client.register(subject, json.dumps(V1), "AVRO")).id


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"username": "ada", "password": "s3cret"}, "Basic YWRhOnMzY3JldA=="),
        ({"token": "s3cret"}, "Bearer s3cret"),
    ],
)
async def test_who_we_are_is_told(settings, header):
    async with serving(answers(200, {"schema": "{}"})) as (url, asked), client_of(url, **settings) as client:
        await client.by_id(1)
        assert asked[0][2]["Authorization"] == header
        made = SchemaRegistrySettings.model_validate({"url": url, **settings})
        assert "s3cret" not in repr(made)


async def test_it_is_known_again_after_it_was_down(tmp_path):
    registry = SchemaRegistry(tmp_path)
    await asyncio.to_thread(registry.start)
    try:
        async with client_of(registry.url) as client:
            number = (await client.register("a", json.dumps(V1), "AVRO")).id
            await asyncio.to_thread(registry.kill)
            assert (await client.register("a", json.dumps(V1), "AVRO")).id == number, "what is known is not asked again"
            with pytest.raises(UnavailableError):
                await client.register("a", json.dumps(V2), "AVRO")
            await asyncio.to_thread(registry.start)
            assert (await client.register("a", json.dumps(V2), "AVRO")).id
    finally:
        await asyncio.to_thread(registry.discard)

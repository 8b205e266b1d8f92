"""Questions about views that nodes pass on to each other: real servers, whose tasks answer what is set."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.api_node import Client, KnownViews, Node
from streamd.api import peers
from streamd.api.advertised import this_host
from streamd.api.options import ApiOptions
from streamd.api.server import ApiServer
from streamd.errors import ConfigError
from streamd.supervisor.views import Looked

TOTALS = "/api/v1/pipelines/spend/views/totals"
FIRST = Looked([(0, b'"ann"', b"1"), (0, b'"cy"', b"3")], checkpoints={0: 7}, elsewhere=[1, 2])
SECOND = Looked([(1, b'"bob"', b"2")], checkpoints={1: 4}, elsewhere=[0, 2])
THIRD = Looked([(2, b'"dee"', b"4")], checkpoints={2: 9}, elsewhere=[0, 1])

Start = Callable[..., Awaitable[tuple[Client, KnownViews]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(answer, **options)`: one more node, and its views. `told` of all is as the group would tell it."""
    every: list[tuple[Client, KnownViews]] = []
    async with AsyncExitStack() as stack:

        async def one(answer: Looked, **options: Any) -> tuple[Client, KnownViews]:
            node, known = Node(), KnownViews(deepcopy(answer))
            node.views = known  # type: ignore[attr-defined]
            session = await stack.enter_async_context(aiohttp.ClientSession())
            server = await stack.enter_async_context(ApiServer(node, ApiOptions(**{"port": 0, **options})))
            every.append((Client(server, session), known))
            for _, each in every:
                each.told = {client.server.advertised: 1 for client, _ in every}
            return every[-1]

        yield one


@pytest.fixture
async def serving() -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    """`await serving(handler)`: the `HOST/URL` of a server that is no node."""
    async with AsyncExitStack() as stack:

        async def serve(handler: Any) -> str:
            app = web.Application()
            app.add_routes([web.get("/{path:.*}", handler)])
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"{this_host()}/http://127.0.0.1:{runner.addresses[0][1]}"

        yield serve


async def refused(client: Client, path: str) -> tuple[int, str, str]:
    status, _, body = await client.ask(TOTALS + path)
    return status, body["error"]["code"], body["error"]["message"]


async def test_any_node_answers_for_all(start: Start) -> None:
    nodes = [await start(answer) for answer in (FIRST, SECOND, THIRD)]
    for own, (client, _) in enumerate(nodes):
        found = await client.get(TOTALS)
        assert [entry["key"] for entry in found["entries"]] == ["ann", "bob", "cy", "dee"]
        others = [number for number in range(3) if number != own]
        assert found["partitions"] == {"here": [own], "peers": others, "elsewhere": [], "not_ready": []}
        cut = await client.get(f"{TOTALS}?limit=2")
        assert ([entry["key"] for entry in cut["entries"]], cut["next"]) == (["ann", "bob"], "bob")
        assert await client.get(f"{TOTALS}/bob") == {"key": "bob", "value": 2, "partition": 1, "checkpoint": 4}
        assert (await refused(client, "/nobody"))[:2] == (404, "no_such_key")


async def test_what_was_passed_on_is_not_passed_on_again(start: Start) -> None:
    (client, first), (_, second) = [await start(answer) for answer in (FIRST, SECOND)]
    found = await client.get(f"{TOTALS}?local=true&limit=1")
    assert found["entries"] == [{"partition": 0, "key": "ann", "value": 1}]
    assert (found["upto"], found["checkpoints"]) == ("ann", {"0": 7})
    await client.get(f"{TOTALS}/bob?local=true")
    assert (len(first.asked), len(second.asked)) == (2, 0)
    await client.ask(f"{TOTALS}/nobody")
    assert (len(first.asked), len(second.asked)) == (3, 1), "each node is asked once"


async def test_keys_arrive_as_they_are(start: Start) -> None:
    (client, _), (_, second) = [await start(answer) for answer in (FIRST, SECOND)]
    for key, sent in (
        ("a/b?c&d=e#f%", "a%2Fb%3Fc%26d%3De%23f%25"),
        ("zoë+ 1", "zo%C3%AB%2B%201"),
        ('["x"]', "[%22x%22]"),
    ):
        await client.ask(f"{TOTALS}/{sent}")
        assert second.asked[-1][2].key == key
    await client.ask(f"{TOTALS}?prefix=a%26b&after=%2B&limit=7")
    asked = second.asked[-1][2]
    assert (asked.key, asked.prefix, asked.after, asked.limit) == (None, "a&b", "+", 7)


async def test_a_page_ends_where_any_node_has_said_no_more(start: Start) -> None:
    many = Looked([(1, b'"bob"', b"2")], "bob", {1: 4}, elsewhere=[0])
    (client, _), _ = [
        await start(answer) for answer in (Looked(FIRST.entries, checkpoints={0: 1}, elsewhere=[1]), many)
    ]
    found = await client.get(TOTALS)
    assert ([entry["key"] for entry in found["entries"]], found["next"]) == (["ann", "bob"], "bob")


async def test_text_goes_before_a_number_on_whatever_node(start: Start) -> None:
    (one, _), (two, _) = [
        await start(answer)
        for answer in (
            Looked([(0, b"7", b"1")], checkpoints={0: 1}, elsewhere=[1]),
            Looked([(1, b'"7"', b"2")], checkpoints={1: 1}, elsewhere=[0]),
        )
    ]
    assert [(await client.get(f"{TOTALS}/7"))["value"] for client in (one, two)] == [2, 2]


async def test_a_node_that_is_gone(start: Start) -> None:
    (client, _), (other, _) = [await start(answer) for answer in (FIRST, SECOND)]
    await other.server.stop()
    status, code, message = await refused(client, "/bob")
    assert (status, code) == (503, "not_ready")
    assert "partition 1, 2 does not answer now" in message
    assert "cannot be reached" in message
    assert (await refused(client, ""))[0] == 503
    assert (await client.get(f"{TOTALS}/ann"))["value"] == 1, "found is found"


async def test_a_partition_that_is_nowhere_just_now_moves(start: Start) -> None:
    (client, _), _ = [await start(answer) for answer in (FIRST, SECOND)]
    status, _, body = await client.ask(f"{TOTALS}/nobody")
    assert (status, body["error"]["code"]) == (503, "not_ready")
    assert body["error"]["partitions"] == {"here": [0], "peers": [1], "elsewhere": [], "not_ready": [2]}


async def test_a_task_of_another_node_that_does_not_answer(start: Start) -> None:
    waiting = Looked(waiting=[1], elsewhere=[0])
    (client, _), _ = [await start(answer) for answer in (Looked(checkpoints={0: 1}, elsewhere=[1]), waiting)]
    assert (await refused(client, "/bob"))[:2] == (503, "not_ready")


async def test_a_node_that_does_not_say_where_it_is(start: Start) -> None:
    client, known = await start(FIRST)
    known.told[""] = 2
    status, code, message = await refused(client, "/bob")
    assert (status, code) == (404, "not_here")
    assert "partition 1, 2" in message
    assert "http.advertise" in message
    assert (await client.get(TOTALS))["partitions"]["elsewhere"] == [1, 2]


async def test_nodes_have_one_token(start: Start) -> None:
    (client, _), (other, _) = [await start(answer, token="same") for answer in (FIRST, SECOND)]
    headers = {"Authorization": "Bearer same"}
    assert (await client.get(f"{TOTALS}/bob", headers=headers))["value"] == 2
    assert (await other.ask(f"{TOTALS}/bob"))[0] == 401
    await start(THIRD, token="another")
    status, _, body = await client.ask(f"{TOTALS}/dee", headers=headers)
    assert status == 503
    assert "refuses this node's token" in body["error"]["message"]
    assert body["error"]["partitions"]["not_ready"] == [2]


async def test_nodes_speak_https_to_each_other(start: Start, certificate: tuple[Path, Path]) -> None:
    trusting = {"certificate": certificate[0], "key": certificate[1], "ca": certificate[0]}
    (client, _), _ = [await start(answer, **trusting) for answer in (FIRST, SECOND)]
    tls = ssl.create_default_context(cafile=certificate[0])
    assert (await client.get(f"{TOTALS}/bob", ssl=tls))["value"] == 2
    doubtful, _ = await start(THIRD)
    status, code, message = await refused(doubtful, "/bob")
    assert (status, code) == (503, "not_ready")
    assert "not trusted here" in message


async def test_what_a_peer_cannot_search_cannot_be_searched(start: Start) -> None:
    (client, _), (_, second) = [await start(answer) for answer in (FIRST, SECOND)]
    second.answer.too_large = 1_000_000
    assert (await refused(client, ""))[:2] == (422, "too_large")
    second.answer = Looked(failed="no")
    assert (await refused(client, ""))[:2] == (500, "view_failed")


async def test_no_redirect_is_followed(start: Start, serving: Any) -> None:
    client, known = await start(FIRST)
    other, second = await start(SECOND)

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(other.server.url + request.path_qs)

    known.told = {client.server.advertised: 1, await serving(away): 1}
    assert "answered with status 302" in (await refused(client, "/bob"))[2]
    assert not second.asked


async def test_an_answer_that_is_none(start: Start, serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, known = await start(FIRST)
    said = b'{"key": "bob", "value": 2}'

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=said)

    known.told = {client.server.advertised: 1, await serving(answer): 1}
    assert "answers in another form" in (await refused(client, "/bob"))[2]
    said = b'{"entries": ['
    assert "answers in another form" in (await refused(client, "/bob"))[2]
    monkeypatch.setattr(peers, "READ_BYTES", 1000)
    said = b" " * 1001
    assert "more than 1000 bytes" in (await refused(client, "/bob"))[2]


async def test_a_node_that_says_nothing(start: Start, serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "WITHIN", 0.2)
    client, known = await start(FIRST)

    async def nothing(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    known.told = {client.server.advertised: 1, await serving(nothing): 1}
    status, code, message = await refused(client, "/bob")
    assert (status, code) == (503, "not_ready")
    assert "did not answer within" in message


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none")
    for name in ("ca.crt", "absent.crt"):
        with pytest.raises(ConfigError, match=r"http\.tls\.ca: .* cannot be read"):
            ApiServer(Node(), ApiOptions(ca=tmp_path / name))

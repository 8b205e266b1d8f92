"""What the routes of views answer, by what the tasks of the node say."""

from __future__ import annotations

from typing import Any

import pytest

from services.api_node import Client, KnownViews, Node, Serve
from streamd.supervisor.views import Asked, Looked

VIEWS = "/api/v1/pipelines/spend/views"


@pytest.fixture
def known(node: Node) -> KnownViews:
    node.views = made = KnownViews(Looked(checkpoints={0: 3, 1: 5}))  # type: ignore[attr-defined]
    return made


@pytest.fixture
async def client(known: KnownViews, serve: Serve) -> Client:
    return await serve()


async def failure(client: Client, path: str) -> tuple[int, Any]:
    status, _, body = await client.ask(VIEWS + path)
    return status, body["error"]


async def test_which_there_are(client: Client) -> None:
    assert await client.get(VIEWS) == {"views": ["totals", "regions"]}


async def test_a_key(client: Client, known: KnownViews) -> None:
    known.answer.entries = [(1, b'"ann"', b'{"orders":3}')]
    assert await client.get(f"{VIEWS}/totals/ann") == {
        "key": "ann",
        "value": {"orders": 3},
        "partition": 1,
        "checkpoint": 5,
    }
    await client.ask(f"{VIEWS}/totals/%5B%22eu%22%2C%22a%2Fb%22%5D")
    assert known.asked[-1] == ("spend", "totals", Asked('["eu","a/b"]'))


async def test_a_text_goes_before_what_it_is_json_of(client: Client, known: KnownViews) -> None:
    known.answer.entries = [(0, b"7", b"1"), (1, b'"7"', b"2")]
    assert (await client.get(f"{VIEWS}/totals/7"))["value"] == 2


async def test_a_prefix_over_all_partitions(client: Client, known: KnownViews) -> None:
    known.answer.entries = [(0, b'"b"', b"2"), (1, b'"a"', b"1"), (1, b'"c"', b"3")]
    found = await client.get(f"{VIEWS}/totals?prefix=x&limit=2&after=w")
    assert found["entries"] == [{"key": "a", "value": 1}, {"key": "b", "value": 2}]
    assert found["next"] == "b"
    assert found["partitions"] == {"here": [0, 1], "peers": [], "elsewhere": [], "not_ready": []}
    assert known.asked == [("spend", "totals", Asked(None, "x", "w", 2))]
    assert (await client.get(f"{VIEWS}/totals"))["next"] is None
    known.answer.upto = "b"
    cut = await client.get(f"{VIEWS}/totals")
    assert [entry["key"] for entry in cut["entries"]] == ["a", "b"], "what is behind may not be all there"
    assert cut["next"] == "b"


async def test_a_key_that_is_not_there_may_be_elsewhere(client: Client, known: KnownViews) -> None:
    status, error = await failure(client, "/totals/ann")
    assert (status, error["code"]) == (404, "no_such_key")
    known.answer.elsewhere = [2, 3]
    status, error = await failure(client, "/totals/ann")
    assert (status, error["code"]) == (404, "not_here")
    assert error["partitions"] == {"here": [0, 1], "peers": [], "elsewhere": [2, 3], "not_ready": []}
    assert "run partition 2, 3: ask them" in error["message"]


async def test_a_task_that_does_not_answer(client: Client, known: KnownViews) -> None:
    known.answer.waiting = [1]
    status, headers, body = await client.ask(f"{VIEWS}/totals/ann")
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "not_ready", "1")
    assert (await failure(client, "/totals"))[0] == 503
    known.answer.entries = [(0, b'"ann"', b"1")]
    assert (await client.get(f"{VIEWS}/totals/ann"))["value"] == 1, "found is found"


async def test_what_is_wrong_is_said(client: Client, known: KnownViews) -> None:
    assert (await failure(client, "/nix"))[1]["code"] == "no_such_view"
    assert "there is: totals, regions" in (await failure(client, "/nix/a"))[1]["message"]
    for query in ("key=a", "limit=0", "limit=1001", "limit=x", "limit=²", "size=3"):
        assert (await failure(client, f"/totals?{query}"))[0] == 400
    assert (await failure(client, "/totals/" + "x" * 4097))[0] == 400
    known.answer.too_large = 1_000_000
    assert (await failure(client, "/totals"))[0] == 422
    known.answer = Looked(failed="no")
    assert await failure(client, "/totals") == (500, {"code": "view_failed", "message": "no"})


async def test_a_pipeline_that_is_not_here(client: Client) -> None:
    status, _, body = await client.ask("/api/v1/pipelines/other/views")
    assert (status, body["error"]["code"]) == (404, "no_such_pipeline")
    assert (await client.ask("/api/v1/pipelines/other/views/a/b"))[0] == 404


async def test_a_node_without_views(serve: Serve) -> None:
    client = await serve()
    assert (await client.ask(VIEWS))[0] == 404

"""The server over real connections: who gets an answer, who does not, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.api_node import Node, Serve, until
from services.process import require
from streamd.api import answers, server
from streamd.api.options import ApiOptions
from streamd.api.server import ApiServer
from streamd.errors import ConfigError, FatalError
from streamd.observability import catalog
from streamd.observability.metrics import MetricSet

TOKEN = "a-long-random-token"
PATHS = ["/metrics", "/api/v1/pipelines", "/api/v1/pipelines/x", "/api/v1/workers", "/api/v1/version", "/nothing"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("wrong"),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer("sch\u00fcssel"),
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"X-Token": TOKEN},
    ],
    ids=str,
)
async def test_without_the_token_there_is_no_answer(serve: Serve, path: str, headers: dict[str, str]):
    client = await serve(token=TOKEN)
    status, answered, body = await client.ask(path, headers=headers)
    assert status == 401
    assert answered["WWW-Authenticate"].startswith("Bearer")
    assert body["error"]["code"] == "unauthorized"


async def test_the_token_opens_everything(serve: Serve):
    client = await serve(token=TOKEN)
    assert (await client.ask("/metrics", headers=bearer(TOKEN)))[0] == 200
    assert (await client.ask("/api/v1/version", headers={"Authorization": f"bearer  {TOKEN} "}))[0] == 200
    assert (await client.ask("/nothing", headers=bearer(TOKEN)))[0] == 404


async def test_a_token_in_the_address_is_none(serve: Serve):
    client = await serve(token=TOKEN)
    assert (await client.ask(f"/metrics?token={TOKEN}&access_token={TOKEN}"))[0] == 401


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_health_is_open_unless_protected(serve: Serve, path: str):
    assert (await (await serve(token=TOKEN)).ask(path))[0] == 200
    protected = await serve(token=TOKEN, protect_health=True)
    assert (await protected.ask(path))[0] == 401
    assert (await protected.ask(path, headers=bearer(TOKEN)))[0] == 200


@pytest.mark.parametrize(
    "path", ["//health/live", "/health/live/../../metrics", "/health/live%2f..%2fmetrics", "/Metrics"]
)
async def test_other_spellings_of_a_path_open_nothing(serve: Serve, path: str):
    client = await serve(token=TOKEN)
    status, body = await raw(client.server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert status in {400, 401, 404}
    assert b"streamd_" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8470", "127.0.0.1.evil.example", "localhost@evil", "["])
async def test_web_pages_of_others_cannot_ask_a_server_without_token(serve: Serve, host: str):
    client = await serve()
    status, _ = await raw(client.server, f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert status in {400, 403}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8470", "[::1]:8470", "127.0.0.2:1"])
async def test_local_names_may_ask(serve: Serve, host: str):
    client = await serve()
    assert (await client.ask("/metrics", headers={"Host": host}))[0] == 200


async def test_with_a_token_any_host_name_will_do(serve: Serve):
    client = await serve(token=TOKEN)
    assert (await client.ask("/metrics", headers={"Host": "streamd.example", **bearer(TOKEN)}))[0] == 200


async def test_every_answer_keeps_browsers_from_helping_attackers(serve: Serve):
    client = await serve(token=TOKEN)
    for path in ("/", "/health/live", "/metrics", "/nothing"):
        _, headers, _ = await client.ask(path, headers={"Origin": "https://evil.example"})
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "streamd"
        assert not [name for name in headers if name.startswith("Access-Control")]


async def test_methods_that_change_things_are_refused(serve: Serve):
    client = await serve()
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, headers, body = await client.ask("/api/v1/pipelines", method=method)
        assert status == 405
        assert headers["Allow"] == "GET,HEAD"
        assert body["error"]["code"] == "method_not_allowed"
    assert (await client.ask("/api/v1/pipelines", method="HEAD"))[0] == 200


async def test_a_broken_node_is_an_error_that_shows_nothing(serve: Serve, node: Node):
    client = await serve()
    node.broken = True
    status, _, body = await client.ask("/api/v1/pipelines")
    assert status == 500
    assert body == {"error": {"code": "internal_error", "message": "the request failed; the node's log says why"}}


async def test_answers_are_counted_by_route_not_by_path(serve: Serve, node: Node):
    client = await serve()
    for name in ("a", "b"):
        await client.ask(f"/api/v1/pipelines/{name}")
    await client.ask("/nothing/at/all")
    await client.ask("/metrics")
    counted = node.metrics.series(catalog.HTTP_REQUESTS)
    assert counted == {("/api/v1/pipelines/{name}", "404"): 2, ("unknown", "404"): 1}


async def raw(api: ApiServer, request: str | bytes) -> tuple[int, bytes]:
    """Send bytes as they are; the status and everything after the head."""
    reader, writer = await connect(api)
    writer.write(request if isinstance(request, bytes) else request.encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


async def connect(api: ApiServer, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = api.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port), **options)


async def closed(reader: asyncio.StreamReader) -> None:
    """Returns once the server has ended the connection, with an end or a reset."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass


@pytest.mark.parametrize(
    "request_",
    [f"GET /{'x' * 100_000} HTTP/1.1\r\n\r\n", f"GET / HTTP/1.1\r\nX-Large: {'x' * 100_000}\r\n\r\n", "\0\1\2\r\n\r\n"],
)
async def test_requests_too_large_or_senseless_are_refused(serve: Serve, request_: str):
    client = await serve()
    status, _ = await raw(client.server, request_)
    assert status == 400
    assert (await client.ask("/health/live"))[0] == 200


async def test_a_large_body_is_not_read(serve: Serve):
    client = await serve()
    reader, writer = await connect(client.server)
    writer.write(b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while not reader.at_eof():
                writer.write(b"x" * 65536)
                await writer.drain()
                await asyncio.sleep(0)
    await closed(reader)
    writer.close()


async def test_a_client_that_never_finishes_its_request_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "KEEPALIVE", 0.2)
    client = await serve()
    for start in (b"", b"GET /metrics HTT", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        reader, writer = await connect(client.server)
        writer.write(start)
        await closed(reader)
        writer.close()


async def test_a_client_that_does_not_read_is_cut_off(serve: Serve, node: Node, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answers, "WRITE_TIMEOUT", 0.2)
    metrics = MetricSet()
    for partition in range(60_000):
        metrics.gauge(catalog.WATERMARK, pipeline="p" * 200, part=0, partition=partition)
    node.metrics.update("worker-0", metrics.snapshot())
    client = await serve()
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = client.server.url.removeprefix("http://").split(":")
    held.setblocking(False)
    await asyncio.get_running_loop().sock_connect(held, (host, int(port)))
    held.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    runner = client.server._runner
    assert runner is not None
    assert runner.server is not None
    connections = runner.server
    await until(lambda: bool(connections.connections))
    await until(lambda: not connections.connections)
    held.close()
    assert (await client.ask("/health/live"))[0] == 200


async def test_the_number_of_connections_is_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    client = await serve()
    held = []
    for _ in range(3):
        reader, writer = await connect(client.server)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        held.append(writer)
    reader, writer = await connect(client.server)
    await closed(reader)
    writer.close()
    for each in held:
        each.close()


async def test_a_port_in_use_is_a_clear_error(serve: Serve, node: Node):
    client = await serve()
    port = int(client.server.url.rsplit(":", 1)[1])
    with pytest.raises(FatalError, match=f"127.0.0.1:{port}: the port is in use"):
        await ApiServer(node, ApiOptions(port=port)).start()


async def test_an_address_of_another_machine_is_a_clear_error(node: Node):
    with pytest.raises(FatalError, match="this machine has no such address"):
        await ApiServer(node, ApiOptions(host="192.0.2.1", port=0, token=TOKEN)).start()


async def test_listening_for_everyone_needs_a_token(node: Node):
    with pytest.raises(ConfigError, match="set a token"):
        ApiServer(node, ApiOptions(host="0.0.0.0", port=0))


async def test_listening_for_everyone_on_purpose(serve: Serve):
    client = await serve(host="0.0.0.0", allow_anonymous=True)
    port = client.server.url.rsplit(":", 1)[1]
    async with client.session.get(f"http://127.0.0.1:{port}/metrics", headers={"Host": "any.example"}) as response:
        assert response.status == 200


async def test_stopping_lets_a_running_request_end_and_frees_the_port(serve: Serve, node: Node):
    client = await serve()
    url = client.server.url
    reader, writer = await connect(client.server)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await client.server.stop()
    await client.server.stop()
    await closed(reader)
    writer.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.session.get(url)
    with pytest.raises(FatalError, match="start it first"):
        _ = client.server.url
    again = await serve(port=int(url.rsplit(":", 1)[1]))
    assert (await again.ask("/health/live"))[0] == 200


async def test_tls(serve: Serve, certificate: tuple[Path, Path]):
    client = await serve(certificate=certificate[0], key=certificate[1], token=TOKEN)
    assert client.server.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    assert (await client.ask("/api/v1/version", ssl=trusting, headers=bearer(TOKEN)))[0] == 200
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await client.ask("/api/v1/version")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(str(certificate[0]))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.ask("/api/v1/version", ssl=old)


async def test_plain_http_to_a_tls_port_gets_nothing(serve: Serve, certificate: tuple[Path, Path]):
    client = await serve(certificate=certificate[0], key=certificate[1])
    with pytest.raises(aiohttp.ClientError):
        await client.session.get(client.server.url.replace("https", "http") + "/metrics")


def test_a_key_of_another_certificate_is_refused(certificate: tuple[Path, Path], tmp_path: Path):
    other = tmp_path / "other.key"
    command = [require("openssl", "openssl"), "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", other]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ConfigError, match="are not a certificate and its"):
        ApiOptions(certificate=certificate[0], key=other).tls()


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(certificate: tuple[Path, Path], tmp_path: Path):
    locked = tmp_path / "locked.key"
    command = [require("openssl", "openssl"), "pkey", "-in", certificate[1], "-aes256", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", locked], check=True, capture_output=True)
    with pytest.raises(ConfigError, match="unencrypted"):
        ApiOptions(certificate=certificate[0], key=locked).tls()


async def test_ipv6_loopback(serve: Serve):
    client = await serve(host="::1")
    assert client.server.url.startswith("http://[::1]:")
    assert json.loads(json.dumps(await client.get("/health/live")))["ok"]

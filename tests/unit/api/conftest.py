"""A node, and servers for it on free ports."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.api_node import Client, Node, Serve
from services.process import require
from streamd.api.options import ApiOptions
from streamd.api.server import ApiServer


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def serve(node: Node) -> AsyncIterator[Serve]:
    """`await serve(**options)` gives a client of a running server; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start(clock: Any = None, **options: Any) -> Client:
            given = ApiOptions(**{"port": 0, **options})
            server = ApiServer(node, given) if clock is None else ApiServer(node, given, clock)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))
            return Client(await stack.enter_async_context(server), session)

        yield start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "tls.crt", folder / "tls.key"
    command = [require("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key

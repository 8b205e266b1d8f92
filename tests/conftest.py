"""Fixtures for every test. A service that does not come up fails the tests that need it; nothing skips."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from services.kafka import KafkaBroker, KafkaCluster, Topics
from services.registry import SchemaRegistry
from streamd.observability import logs, redact

# How long an example takes to make or to run says how busy the machine is, and nothing about the code.
settings.register_profile("streamd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamd")

GRACE = 120.0  # seconds beyond its timeout that a test may take to clean up
MakeTopic = Callable[..., Awaitable[str]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the whole run with a message when a test hangs in its clean-up, which pytest-timeout does not watch."""
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker and marker.args else item.config.getini("timeout"))
    watchdog = threading.Timer(limit + GRACE, _give_up, (item,))
    watchdog.daemon = True
    watchdog.start()
    try:
        return (yield)
    finally:
        watchdog.cancel()


def _give_up(item: pytest.Item) -> None:
    capture = item.config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture()
    print(f"\n{item.nodeid} does not end. The whole run is given up.", file=sys.stderr)
    for frame in sys._current_frames().values():
        print("".join(traceback.format_stack(frame)), file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


@pytest.fixture(autouse=True)
def secrets_of_its_own() -> Iterator[None]:
    """What one test makes known as a secret is not hidden in the messages of the next."""
    before = set(redact._known)
    yield
    redact._known.clear()
    redact._known.update(before)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sets up logging for good."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    chatty = {name: logging.getLogger(name).level for name in logs._CHATTY}
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(False)
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        if isinstance(handler, logs.LibraryHandler):
            root.removeHandler(handler)
    for name, before in chatty.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One real broker for the session (`kafka.bootstrap`). Whoever stops or pauses brokers starts one of their own."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka", numbered=True), proxied=True)
    try:
        broker.start()
        yield broker
    finally:
        broker.discard()


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three real brokers for the session; a test that takes one down brings it back."""
    cluster = KafkaCluster(tmp_path_factory.mktemp("kafka-cluster", numbered=True))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.discard()


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    """One real schema registry for the session (`schema_registry.url`); subjects are named after their tests."""
    registry = SchemaRegistry(tmp_path_factory.mktemp("registry", numbered=True))
    try:
        registry.start()
        yield registry
    finally:
        registry.discard()


@pytest.fixture
async def make_topic(kafka: KafkaBroker) -> AsyncIterator[MakeTopic]:
    """`await make_topic(partitions=1, **config)` gives the name of a new topic, deleted after the test."""
    topics = Topics(kafka.bootstrap)
    try:
        yield topics.make
    finally:
        await topics.delete_all()

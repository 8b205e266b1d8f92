"""A system to run on, a node, and the tally of what was injected, for the fault tests."""

from __future__ import annotations

import contextlib

import pytest

from faults.daemon import Daemon
from faults.nodes import OPTIONS, CountedSystem, Nodes
from faults.systems import EmbeddedSystem, KafkaSystem
from faults.tally import FILE, SYSTEMS, Ledger, promise_of

# A node that was killed leaves its group after this many ms without a heartbeat, and not after the usual 45 s.
SHORT_SESSION = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}


@contextlib.asynccontextmanager
async def opened(request, tmp_path, **options):
    if request.param == "kafka":
        made = KafkaSystem(tmp_path, request.getfixturevalue("kafka").bootstrap, **options, **SHORT_SESSION)
    else:
        made = EmbeddedSystem(tmp_path, **options)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(params=SYSTEMS)
async def system(request, tmp_path):
    """Input, output and pipeline on Kafka and on the embedded log."""
    async with opened(request, tmp_path) as made:
        yield made


@pytest.fixture(params=SYSTEMS)
async def counting(request, tmp_path):
    """The same with a stage that counts per key, and so with state and a changelog."""
    async with opened(request, tmp_path, stateful=True) as made:
        yield made


@pytest.fixture
def nodes_system():
    """The kind of system that `nodes` run on; a module may have its own."""
    return CountedSystem


@pytest.fixture
async def nodes(kafka, tmp_path, nodes_system):
    """Several nodes of one app, none yet, and the system that they run on."""
    system = nodes_system(tmp_path, kafka.bootstrap, **OPTIONS)
    await system.open()
    made = Nodes(system)
    try:
        yield made
    finally:
        made.discard()
        await system.close()


@pytest.fixture
async def run_daemon(tmp_path):
    """`await run_daemon(workers=…, env=…, …)` starts `streamd run` over the system's pipeline."""
    made = []

    async def run(**options):
        daemon = Daemon(tmp_path, **options)
        made.append(daemon)
        await daemon.start()
        return daemon

    yield run
    for daemon in made:
        daemon.kill()


LEDGER = Ledger()


@pytest.fixture
def tally(request):
    """Counts the faults of this test: `tally.injected(system, what, count)`, `tally.judged(system, verdict)`."""
    return LEDGER.open(request.node.nodeid, promise_of(request.node))


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed:
        LEDGER.ended(report.nodeid, report.passed)


def pytest_terminal_summary(terminalreporter):
    if LEDGER.used():
        terminalreporter.section("faults injected")
        for line in LEDGER.lines():
            terminalreporter.write_line(line)
        LEDGER.write(FILE)

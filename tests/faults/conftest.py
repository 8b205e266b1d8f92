"""A system to run on, and a node, for the fault tests."""

from __future__ import annotations

import pytest

from faults.daemon import Daemon
from faults.systems import EmbeddedSystem, KafkaSystem

# A node that was killed leaves its group after this many ms without a heartbeat, and not after the usual 45 s.
SHORT_SESSION = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}


@pytest.fixture(params=["kafka", "embedded"])
async def system(request, tmp_path):
    """Input, output and pipeline on Kafka and on the embedded log."""
    if request.param == "kafka":
        made = KafkaSystem(tmp_path, request.getfixturevalue("kafka").bootstrap, **SHORT_SESSION)
    else:
        made = EmbeddedSystem(tmp_path)
    await made.open()
    yield made
    await made.close()


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

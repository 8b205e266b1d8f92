"""Two deployments with one app id do not fence each other for ever: who started later stops, and names both."""

from __future__ import annotations

import asyncio
import random
import re
import textwrap

import pytest

from faults.campaign import flow
from faults.daemon import Daemon
from faults.systems import KafkaSystem

SOON = 90.0  # seconds from the start of the second to its end; 14 on a quiet machine


def second_folder(system, tmp_path, change):
    """A folder of its own for a second deployment, with the pipeline of the first, changed."""
    folder = tmp_path / "second"
    (folder / "pipelines").mkdir(parents=True)
    for file in (system.folder / "pipelines").iterdir():
        (folder / "pipelines" / file.name).write_text(change(file.read_text()))
    return folder


async def first_failure(daemons, deadline=SOON):
    """The log line of the first pipeline that fails, and whose it is."""
    async with asyncio.timeout(deadline):
        while True:
            for daemon in daemons:
                daemon.check()
                for line in daemon.logged("Pipeline failed"):
                    return daemon, line
            await asyncio.sleep(0.05)


def assert_names_both(message, daemons):
    pids = set(map(int, re.findall(r"host [^,]+, pid (\d+), since \d{4}-\d\d-\d\d ", message)))
    assert pids == {daemon.pid for daemon in daemons}, message


@pytest.fixture
async def kafka_system(tmp_path, kafka):
    made = KafkaSystem(tmp_path, kafka.bootstrap)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def second(tmp_path):
    made = []

    async def run(folder, **options):
        daemon = Daemon(folder, **options)
        made.append(daemon)
        await daemon.start()
        return daemon

    yield run
    for daemon in made:
        daemon.kill()


async def test_the_same_app_with_another_group_is_told_who_the_other_is(
    kafka_system, run_daemon, second, tmp_path, tally
):
    """No generation keeps the two apart, only the transactional id: the second stops, the first goes on."""
    system = kafka_system
    source = f"{{kafka: {{topic: {system.input},"
    other = f"{source} group: other-{system.input},"
    folder = second_folder(system, tmp_path, lambda text: text.replace(source, other))
    first = await run_daemon(workers=1)
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow(system, enough, random.Random(5), pause=0.05))
        await system.until(lambda: min(system.newest.values()) >= 0, "the first output")
        rival = await second(folder, workers=1)
        failed, line = await first_failure([first, rival])
        assert failed is rival, line["message"]
        # Left alone, the first goes on.
        came = system.came
        await system.until(lambda: system.came >= came + 1000, "the first goes on")
        enough.set()
    assert not first.logged("Pipeline failed")
    assert_names_both(line["message"], [first, rival])
    assert f"which commits to group {system.group}" in line["message"]
    assert "This one started later, and gives up." in line["message"]
    assert "needs an `app` name of its own" in line["message"]
    tally.injected("kafka", "second deployment")
    assert await rival.drain() == 1
    assert await first.drain() == 0


async def test_a_pipeline_without_a_kafka_source_on_two_deployments(kafka_system, run_daemon, second, tmp_path, tally):
    """Its positions are records of one topic, and so each reads there who else has written, and who came later."""
    system = kafka_system
    text = textwrap.dedent(f"""
        name: {system.pipeline}
        kafka: {{bootstrap: "{system.bootstrap}"}}
        commit_interval: 100ms
        source: {{generate: {{rate: 2000, fields: {{number: _offset, key: "0"}}}}}}
        sink: {{kafka: {{topic: {system.output}}}}}
    """)
    (system.folder / "pipelines" / "copy.yaml").write_text(text)
    folder = second_folder(system, tmp_path, str)
    first = await run_daemon(workers=1)
    await system.until(lambda: system.came > 0, "the first output")
    rival = await second(folder, workers=1)
    failed, line = await first_failure([first, rival])
    assert failed is rival, line["message"]
    assert_names_both(line["message"], [first, rival])
    came = system.came
    await system.until(lambda: system.came > came, "the first goes on")
    assert not first.logged("Pipeline failed")
    tally.injected("kafka", "second deployment")
    assert await rival.drain() == 1
    assert await first.drain() == 0


async def test_the_same_state_folder_is_refused_to_the_second(tmp_path, run_daemon, second, tally):
    """On the embedded log the second does not even begin, and the first is not disturbed."""
    from faults.systems import EmbeddedSystem

    system = EmbeddedSystem(tmp_path)
    await system.open()
    try:
        folder = second_folder(system, tmp_path, str)
        first = await run_daemon(workers=1)
        await system.feed(5_000)
        await system.complete()
        rival = await second(folder, workers=1, state_dir=tmp_path / "state")
        failed, line = await first_failure([first, rival])
        assert failed is rival
        assert "Pipeline copy already runs on this state_dir, with the same app" in line["message"]
        assert_names_both(line["message"], [first, rival])
        await system.feed(5_000)
        await system.complete()
        tally.injected("embedded", "second deployment")
        assert await rival.drain() == 1
        assert await first.drain() == 0
        verdict = await system.verdict()
        tally.judged("embedded", verdict)
        assert verdict.exact, verdict
        # With the first gone, the pipeline is free.
        again = await second(folder, workers=1, state_dir=tmp_path / "state")
        await system.feed(1_000)
        await system.complete()
        assert await again.drain() == 0
    finally:
        await system.close()

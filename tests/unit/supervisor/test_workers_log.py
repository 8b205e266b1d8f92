"""What the log calls a worker."""

from __future__ import annotations

import os
import signal

from structlog.testing import capture_logs


async def test_a_spare_process_that_dies_is_called_so(node):
    node.pipeline(partitions=1, records=None)
    pool = node.start(workers=1).pool
    await node.until(lambda: pool._spare.process is not None and pool._spare.process.heard_at is not None)
    with capture_logs() as logs:
        os.kill(pool._spare.process.child.pid, signal.SIGKILL)
        await node.until(lambda: any(entry["event"] == "Worker died" for entry in logs))
    assert [entry["worker"] for entry in logs if entry["event"] == "Worker died"] == ["spare"]

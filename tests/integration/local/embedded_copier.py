"""A process that copies `in` to `out` on an embedded log, one task per partition named, and says when it commits.

    python embedded_copier.py FILE PARTITION…

Ends with code 0 when everything is copied and committed, 3 when it is fenced.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamd.errors import FencedError
from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.reader import LogReader
from streamd.transport.embedded.transaction import EmbeddedTransaction


async def copy(path: Path, partition: int) -> None:
    transaction = EmbeddedTransaction(path, f"copy.{partition}")
    committed = await transaction.open()
    log = EmbeddedLog.acquire(path)
    reader = LogReader(log, await log.stream("in", partition), committed.positions.get(("in", partition), 0))
    while reader.lag() > 0:
        for record in await reader.read(20, 1):
            transaction.append("out", 0, record.key, record.value, record.timestamp, record.headers)
        await transaction.drain()
        await transaction.put_positions({("in", partition): reader.position()}, {})
        await transaction.commit()
        print(partition, reader.position(), flush=True)
    await reader.close()
    await transaction.close()


async def main() -> int:
    try:
        await asyncio.gather(*(copy(Path(sys.argv[1]), int(partition)) for partition in sys.argv[2:]))
    except FencedError:
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

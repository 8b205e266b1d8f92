"""A process that writes the numbers 0, 1, … to the file sink in checkpoints on an embedded log, and says each of them.

python file_writer.py FOLDER COUNT SETTINGS-AS-JSON
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamd.codecs import CodecContext
from streamd.component.context import PipelineContext, TaskContext
from streamd.record import TaskId
from streamd.sinks.file import FileSink, FileSinkConfig
from streamd.transport.embedded.transaction import EmbeddedTransaction


async def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    context = PipelineContext("app", "write", folder, folder)
    task = TaskId("app", "write", 0, 0)
    transaction = EmbeddedTransaction(folder / "app.db", task)
    committed = await transaction.open()
    config = FileSinkConfig.model_validate_json(sys.argv[3])
    encode = config.format.codec(CodecContext("out", "sink")).encode
    sink = FileSink(config, context)
    writer = await sink.open(TaskContext(context, task, 1, transaction, "embedded"), committed.cursors.get("out"))
    at = committed.positions.get(("in", 0), 0)
    while at < count:
        writer.write([(None, encode({"n": n}), 0, ()) for n in range(at, min(at + 7, count))])
        at = min(at + 7, count)
        await writer.drain()
        await transaction.put_positions({("in", 0): at}, {"out": await writer.flush()})
        await transaction.commit()
        await writer.committed()
        print(at, flush=True)
    await writer.close()
    await transaction.close()


if __name__ == "__main__":
    asyncio.run(main())

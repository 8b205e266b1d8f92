"""A full disk, a file that may not be written, a lock that is kept, a damaged file: a clear error, and no loss."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from streamd.errors import FatalError, NotFoundError, TransientError
from streamd.transport.embedded import database
from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.transaction import EmbeddedTransaction


async def made(path):
    log = EmbeddedLog.acquire(path)
    await log.create_topic("out", 1)
    await log.release()


async def opened(path, name="t"):
    task = EmbeddedTransaction(path, name)
    return task, await task.open()


async def end_of(path):
    log = EmbeddedLog.acquire(path)
    end = (await log.stream("out", 0)).end
    await log.release()
    return end


def limit_files(size):
    """From here on this process may not make a file longer: what a quota does."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
def file_limit():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield limit_files
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_file_that_may_not_grow_loses_nothing(tmp_path, file_limit):
    path = tmp_path / "app.db"
    await made(path)
    task, _ = await opened(path)
    task.append("out", 0, None, b"before", 0, ())
    await task.put_positions({("in", 0): 1}, {})
    await task.commit()
    task.append("out", 0, None, b"x" * 1_000_000, 0, ())
    await task.put_positions({("in", 0): 2}, {})
    file_limit(300_000)
    with pytest.raises(TransientError, match=r"cannot write to the embedded log .*nothing was lost"):
        await task.commit()
    task.abandon()
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])

    task, committed = await opened(path)
    assert committed.positions == {("in", 0): 1}
    assert await end_of(path) == 1
    task.append("out", 0, None, b"x" * 1_000_000, 0, ())
    await task.put_positions({("in", 0): 2}, {})
    await task.commit()
    await task.close()
    assert await end_of(path) == 2


# Runs in namespaces of its own, so that it needs no privilege and leaves no mount behind.
FULL_DISK = """
    import asyncio, pathlib, subprocess, sys
    from streamd.errors import TransientError
    from streamd.transport.embedded.log import EmbeddedLog
    from streamd.transport.embedded.transaction import EmbeddedTransaction

    folder = pathlib.Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    path, filler = folder / "app.db", folder / "filler"

    async def main():
        log = EmbeddedLog.acquire(path)
        await log.create_topic("out", 1)
        task = EmbeddedTransaction(path, "t")
        await task.open()
        done, failures = 0, 0
        filler.write_bytes(bytes(1_000_000))
        for _ in range(40):
            task.append("out", 0, None, b"x" * 40_000, 0, ())
            await task.put_positions({("in", 0): done + 1}, {})
            try:
                await task.commit()
            except TransientError as error:
                assert "disk is full" in str(error), error
                task.abandon()
                failures += 1
                filler.unlink(missing_ok=True)
                task = EmbeddedTransaction(path, "t")
                committed = await task.open()
                assert committed.positions.get(("in", 0), 0) == done, committed
                if failures == 2:
                    break
            else:
                done += 1
            assert (await log.stream("out", 0)).end == done
        assert failures == 2 and done > 15, (failures, done)
        await task.close()
        await log.release()

    asyncio.run(main())
"""


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path):
    code = textwrap.dedent(FULL_DISK)
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


AS_NOBODY = """
    import asyncio, os, pathlib, sys
    from streamd.errors import AccessDeniedError
    from streamd.transport.embedded.log import EmbeddedLog
    from streamd.transport.embedded.transaction import EmbeddedTransaction

    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)

    async def main():
        try:
            await EmbeddedTransaction(pathlib.Path(sys.argv[1]), "t").open()
        except AccessDeniedError as error:
            print(error)

    asyncio.run(main())
"""


def test_a_file_that_is_read_only_is_a_clear_error(tmp_path):
    path = tmp_path / "app.db"
    asyncio.run(made(path))
    path.chmod(0o444)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AS_NOBODY), path], capture_output=True, text=True, check=False
    )
    assert f"cannot write the embedded log {path}: no permission" in done.stdout, done.stderr


async def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(NotFoundError, match="its folder does not exist"):
        await opened(tmp_path / "missing" / "app.db")


async def test_a_folder_in_its_place_is_a_clear_error(tmp_path):
    (tmp_path / "app.db").mkdir()
    with pytest.raises(FatalError, match="there is something else of that name"):
        await opened(tmp_path / "app.db")


async def test_a_lock_that_is_not_given_back_is_a_transient_error(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_DEADLINE", 0.05)
    path = tmp_path / "app.db"
    await made(path)
    task, _ = await opened(path)
    task.append("out", 0, None, b"x", 0, ())
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError, match="another process has held it locked"):
        await task.commit()
    task.abandon()
    holder.execute("COMMIT")
    holder.close()
    task, _ = await opened(path)
    task.append("out", 0, None, b"x", 0, ())
    await task.commit()
    await task.close()
    assert await end_of(path) == 1


async def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    path = tmp_path / "app.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(FatalError, match="damaged or no SQLite database"):
        await opened(path)
    assert path.read_bytes() == b"no database" * 1000


async def test_a_damaged_file_is_a_clear_error(tmp_path):
    path = tmp_path / "app.db"
    await made(path)
    task, _ = await opened(path)
    task.append("out", 0, None, b"x" * 100_000, 0, ())
    await task.commit()
    await task.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(FatalError, match="damaged"):
        await opened(path)


async def test_a_file_of_a_later_format_is_refused(tmp_path):
    path = tmp_path / "app.db"
    await made(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(FatalError, match="has format 99, this streamd reads and writes 1"):
        await opened(path)


async def test_a_file_deleted_while_in_use_stops_the_writer(tmp_path):
    path = tmp_path / "app.db"
    await made(path)
    task, _ = await opened(path)
    path.unlink()
    task.append("out", 0, None, b"x", 0, ())
    with pytest.raises(FatalError, match="was removed or replaced while in use"):
        await task.commit()
    task.abandon()


async def test_the_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "app.db"
    task, _ = await opened(path)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    await task.close()


ONE_RECORD = """
    import asyncio, pathlib, sys
    from streamd.transport.embedded.transaction import EmbeddedTransaction

    async def main():
        task = EmbeddedTransaction(pathlib.Path(sys.argv[1]), "other")
        await task.open()
        task.append("out", 0, None, b"theirs", 0, ())
        await task.commit()
        await task.close()

    asyncio.run(main())
"""


async def test_a_process_that_ends_does_not_take_the_write_ahead_log_of_the_others(tmp_path):
    """The last one to close the file deletes it; a lock that was lost makes others believe that they are the last."""
    path = tmp_path / "app.db"
    await made(path)
    task, _ = await opened(path)
    database.connect(path).close()
    command = [sys.executable, "-c", textwrap.dedent(ONE_RECORD), path]
    for n in range(2):
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        task.append("out", 0, None, b"ours", 0, ())
        await task.commit()
        assert await end_of(path) == 2 * (n + 1)
    await task.close()
    assert await end_of(path) == 4

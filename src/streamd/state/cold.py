"""What of a task's tables does not fit in memory: a RocksDB in a folder of its own, of use to one attempt alone.

It holds nothing that the changelog does not have. So it needs no log of its own, and what a process that was killed has
left is deleted by the next one that comes by.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from streamd.errors import FatalError, TransientError

_AT_ONCE: Final = 1000
_BUFFER: Final = 4 << 20  # bytes of what was written last, kept in memory; there are two of these
_CACHE: Final = 8 << 20  # bytes of what was read last
_OPEN_FILES: Final = 128
HELD: Final = ".held"  # what a living attempt holds a lock on, beside its folder

Entry: TypeAlias = tuple[bytes, bytes | None]


class ColdTier:
    """{name: value} on disk. Makes its folder below `place` when the first entry comes.

    Everything but `close` raises TransientError when the disk does not do its part.
    """

    def __init__(self, place: Path, task: str) -> None:
        self._place, self._task = place, task
        self._folder = place
        self._held = -1
        self._db: Any = None
        self._options: Any = None

    def get(self, name: bytes) -> bytes | None:
        """The value of a name, None when it has none."""
        if self._db is None:
            return None
        value: bytes | None = self._asked(self._db.get, name)
        return value

    def write(self, entries: Iterable[Entry]) -> None:
        """Set names to their values, and remove those without one. In order."""
        if self._db is None:
            self._open()
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for name, value in entries:
            if value is None:
                batch.delete(name)
            else:
                batch.put(name, value)
            if batch.len() >= _AT_ONCE:
                self._asked(self._db.write, batch, self._options)
                batch = WriteBatch(raw_mode=True)
        if batch.len():
            self._asked(self._db.write, batch, self._options)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What begins with a prefix, without it, as it is now."""
        if self._db is None:
            return
        length = len(prefix)
        for name, value in self._asked(self._items, prefix):
            if name[:length] != prefix:
                return
            yield name[length:], value

    def drop(self, prefix: bytes) -> None:
        """Remove what begins with a prefix; no name goes on with the byte 255."""
        if self._db is not None:
            self._asked(self._db.delete_range, prefix, prefix + b"\xff", self._options)

    def close(self) -> None:
        """Remove it all."""
        if self._db is not None:
            with suppress(Exception):
                self._db.close()
            self._db = None
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._held >= 0:
            self._folder.with_name(self._folder.name + HELD).unlink(missing_ok=True)
            os.close(self._held)
            self._held = -1

    def _open(self) -> None:
        try:
            self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(self._place)
            self._folder = self._place / f"{self._task}-{os.getpid()}-{os.urandom(4).hex()}"
            held = self._folder.with_name(self._folder.name + HELD)
            self._held = os.open(held, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TransientError(
                f"cannot put state of task {self._task} in {self._place}, which does not fit in memory: "
                f"{error.strerror}",
            ) from None
        try:
            self._db, self._options = database(self._folder)
        except ImportError:
            raise FatalError(
                "State larger than memory (`state: {memory: …}`) needs the package rocksdict, which cannot be imported"
            ) from None
        except Exception as error:
            raise self._trouble(error) from None

    def _items(self, prefix: bytes) -> Any:
        return self._db.items(from_key=prefix)

    def _asked(self, what: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except Exception as error:
            raise self._trouble(error) from None

    def _trouble(self, error: Exception) -> TransientError:
        return TransientError(
            f"state of task {self._task} that does not fit in memory cannot be kept in {self._folder} "
            f"({type(error).__name__}): is the disk full? Nothing was lost, the task starts anew from its changelog",
            1.0,
        )


def database(folder: Path) -> tuple[Any, Any]:
    """(the database in a folder, which is made where it is missing, and how to write to it)."""
    from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteOptions

    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_CACHE))
    blocks.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(_BUFFER)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(_OPEN_FILES)
    options.set_max_background_jobs(1)
    options.set_target_file_size_base(8 << 20)
    options.set_max_bytes_for_level_base(32 << 20)
    options.set_keep_log_file_num(1)
    options.set_stats_dump_period_sec(0)
    writing = WriteOptions()
    writing.disable_wal = True  # type: ignore[method-assign, assignment]  # its stub takes the property for a method
    return Rdict(str(folder), options), writing


def _sweep(place: Path) -> None:
    """Delete what attempts have left that live no more."""
    for held in place.glob(f"*{HELD}"):
        try:
            descriptor = os.open(held, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(held.with_name(held.name.removesuffix(HELD)), ignore_errors=True)
            held.unlink(missing_ok=True)
        except OSError:
            pass  # somebody lives there
        finally:
            os.close(descriptor)

"""One deployment per pipeline and state folder: who runs a pipeline whose checkpoints are in the embedded log holds it.

Two that run the same pipeline over the same file would fence each other for ever. So the second is refused at its
start, and told who is first. The kernel lets go of the lock with the process, however that ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Final

import orjson

from streamd.errors import AccessDeniedError, FatalError, NotFoundError, TransientError
from streamd.observability.identity import Identity, identity

PATIENCE: Final = 5.0
"""Seconds to wait for one that is just ending: it may be draining, or its workers may outlive it for a moment."""
_PAUSE: Final = 0.1

# {path: (descriptor, users)}: a pipeline that is replaced by its new version runs beside it for a while.
_held: dict[Path, tuple[int, int]] = {}


def lock_path(state_dir: Path, pipeline: str) -> Path:
    """Where the lock of a pipeline lies."""
    return state_dir / f"{pipeline}.lock"


async def hold(path: Path, pipeline: str, patience: float = PATIENCE) -> None:
    """Hold the lock until `let_go`. Raises FatalError that names who has it, after `patience` seconds."""
    until = time.monotonic() + patience
    while not _taken(path):
        if time.monotonic() > until:
            raise FatalError(
                f"Pipeline {pipeline} already runs on this state_dir, with the same app. This one: {identity()}. The "
                f"other: {holder(path)}. Stop one of them, or give each a `state_dir` or an `app` of its own "
                "(streamd.yaml)."
            )
        await asyncio.sleep(_PAUSE)


def let_go(path: Path) -> None:
    """One user less in this process; the last one lets others have it."""
    descriptor, users = _held.get(path, (-1, 0))
    if users > 1:
        _held[path] = descriptor, users - 1
    elif users == 1:
        del _held[path]
        os.close(descriptor)


def _taken(path: Path) -> bool:
    if path in _held:
        descriptor, users = _held[path]
        _held[path] = descriptor, users + 1
        return True
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise AccessDeniedError(f"cannot write {path}: {error.strerror}; is state_dir ours?") from None
    except FileNotFoundError:
        raise NotFoundError(f"cannot open {path}: its folder does not exist") from None
    except OSError as error:
        raise TransientError(f"cannot open {path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    who = identity()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, orjson.dumps({"host": who.host, "pid": who.pid, "since": who.since}), 0)
    _held[path] = descriptor, 1
    return True


def holder(path: Path) -> Identity | str:
    """Who holds a lock, or held it last."""
    try:
        found = orjson.loads(path.read_bytes())
        return Identity(str(found["host"]), int(found["pid"]), int(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"

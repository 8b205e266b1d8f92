"""The folder of a verification, and what one that was killed has left: the next one of the same user deletes it.

A folder holds a file that its owner has locked for as long as it lives, and a claim that says what is in Kafka.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from streamd.transport.kafka.settings import KafkaSettings

NAME = "streamd-verify-"
_PREFIX = re.compile(rf"{NAME}[0-9a-f]{{8}}")
_LOCK, _CLAIM = "lock", "claim.json"


class Claim(msgspec.Struct, frozen=True):
    """What belongs to a folder. `prefix`: in the names of all its topics and groups; `kafka`: the address, "" for none;
    `groups`: by name.
    """

    prefix: str
    kafka: str = ""
    groups: tuple[str, ...] = ()


class Folder:
    """A locked folder. `claim` as it was written last."""

    def __init__(self, path: Path, lock: int, claim: Claim) -> None:
        self.path, self.claim = path, claim
        self._lock = lock

    @classmethod
    def new(cls) -> Folder:
        """Make one of mode 0700 below $TMPDIR, with a prefix of its own."""
        prefix = f"{NAME}{secrets.token_hex(4)}"
        path = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now: a folder without a claim is nobody's leftover, so none is taken for one before it is locked.
        folder = cls(path, lock, Claim(prefix))
        folder.write(folder.claim)
        return folder

    def write(self, claim: Claim) -> None:
        """Say what belongs to the folder, before it is made."""
        self.claim = claim
        partial = self.path / f"{_CLAIM}.partial"
        partial.write_bytes(msgspec.json.encode(claim))
        partial.rename(self.path / _CLAIM)

    def remove(self) -> None:
        """Delete the folder; its lock is held until it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def keep_claim(self) -> None:
        """Delete all but the claim: the next verification deletes what could not be deleted now."""
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name not in (_LOCK, _CLAIM):
                entry.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the folder as it is."""
        os.close(self._lock)


def leftovers() -> Iterator[Folder]:
    """This user's folders below $TMPDIR whose owners are gone, each locked; whoever takes one removes or closes it."""
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{NAME}*")):
        folder = _taken(path)
        if folder is not None:
            yield folder


def _taken(path: Path) -> Folder | None:
    """The folder, locked; None when it is not ours, not one of these, or its owner lives."""
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or not (path / _CLAIM).is_file():
            return None
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        claim = msgspec.json.decode((path / _CLAIM).read_bytes(), type=Claim)
        named = _PREFIX.fullmatch(claim.prefix) and path.name.startswith(f"{claim.prefix}-")
        if named and all(claim.prefix in group for group in claim.groups):
            return Folder(path, lock, claim)
    except (OSError, msgspec.MsgspecError):
        pass
    os.close(lock)
    return None


async def delete_leftovers(settings: KafkaSettings | None) -> list[str]:
    """Delete what killed verifications have left: folders, and what is theirs in this Kafka. Gives their prefixes."""
    deleted = []
    for folder in leftovers():
        if await _is_gone(folder.claim, settings):
            folder.remove()
            deleted.append(folder.claim.prefix)
        else:
            folder.close()
    return deleted


async def _is_gone(claim: Claim, settings: KafkaSettings | None) -> bool:
    """Whether nothing of a claim is in Kafka, or not any more; what is in another one stays."""
    if not claim.kafka:
        return True
    if settings is None or settings.address != claim.kafka:
        return False
    from streamd.verify import kafka

    return not await kafka.delete_all(settings, claim.prefix, (), claim.groups)

"""Which file is which partition: fixed once known, so that files that come later do not move the others."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import orjson

from streamd.errors import FatalError, NotFoundError
from streamd.transport.files.failures import translated


def find_files(patterns: Sequence[str], base: Path) -> list[Path]:
    """All files that the patterns match, sorted by name, each once; a plain path is given even if nothing is there."""
    found: set[Path] = set()
    for pattern in patterns:
        full = str(base / Path(pattern).expanduser())
        if glob.has_magic(pattern):
            found.update(Path(match) for match in glob.iglob(full, recursive=True) if Path(match).is_file())  # noqa: PTH207
        else:
            found.add(Path(full))
    return sorted(found)


class Listing:
    """The files of one source, in the order of their partitions, kept in the folder for state."""

    def __init__(self, patterns: Sequence[str], base: Path, state_dir: Path, pipeline: str) -> None:
        self._patterns = tuple(patterns)
        self._base = base.absolute()
        name = hashlib.sha256("\0".join((str(self._base), *self._patterns)).encode()).hexdigest()[:16]
        self._file = state_dir / "files" / f"{pipeline}-{name}.json"

    def known(self) -> list[Path]:
        """The files as last refreshed; those that are there now when that was never done."""
        with translated("read", self._file):
            if self._file.exists():
                return [Path(path) for path in orjson.loads(self._file.read_bytes())]
        return find_files(self._patterns, self._base)

    def refresh(self) -> list[Path]:
        """Look for files; new ones come behind those already known. Raises NotFoundError when there is none."""
        known = self.known()
        paths = [*known, *(path for path in find_files(self._patterns, self._base) if path not in set(known))]
        if not paths:
            raise NotFoundError(f"no file matches {', '.join(self._patterns)} (from {self._base})")
        with translated("write", self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_bytes(orjson.dumps([str(path) for path in paths]))
            temporary.replace(self._file)
        return paths

    def at(self, partition: int) -> Path:
        """The file of a partition."""
        known = self.known()
        if partition >= len(known):
            raise FatalError(f"there is no file {partition}: {', '.join(self._patterns)} matches {len(known)}")
        return known[partition]

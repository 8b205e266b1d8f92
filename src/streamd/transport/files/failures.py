"""What the operating system's errors about a file mean."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamd.errors import AccessDeniedError, FatalError, NotFoundError, TransientError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def translated(doing: str, path: Path | str) -> Iterator[None]:
    """Turn OSErrors into streamd's errors. `doing` completes "cannot …": read, write, list."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"cannot {doing} {path}: it does not exist") from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        kind = AccessDeniedError if isinstance(error, PermissionError) else FatalError
        raise kind(f"cannot {doing} {path}: {error.strerror}") from error
    except OSError as error:
        if error.errno in _FULL:
            message = f"cannot {doing} {path}: {error.strerror}; nothing was lost, it goes on when there is room"
            raise TransientError(message, 1.0) from error
        if error.errno == errno.EROFS:
            raise AccessDeniedError(f"cannot {doing} {path}: {error.strerror}") from error
        raise TransientError(f"cannot {doing} {path}: {error.strerror or error}") from error

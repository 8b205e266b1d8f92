"""Have the process keep the memory of its large buffers."""

from __future__ import annotations

import ctypes
import functools
import logging
from typing import Final

log = logging.getLogger("streamd.kafka")

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST: Final = 32 << 20  # the most that glibc takes as M_MMAP_THRESHOLD
_KEPT: Final = 128 << 20


@functools.cache
def keep_freed_buffers() -> bool:
    """Tell glibc not to give freed buffers back to the kernel; False where the C library is another one.

    Responses and batches are some 100 KB to a few MB, made and freed all the time. By default each is mapped and
    unmapped, and its pages come in anew one fault at a time: that cost 0.2 µs for each record read and each one
    written. At most 128 MiB that are free stay with the process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST) == 1 and mallopt(_M_TRIM_THRESHOLD, _KEPT) == 1
    log.debug("glibc keeps freed buffers: %s", kept)
    return bool(kept)

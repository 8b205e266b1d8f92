"""Which kernel keeps which windows."""

from __future__ import annotations

from streamd.windows.counted import CountedWindows
from streamd.windows.hopping import PanedWindows
from streamd.windows.kernel import Kernel
from streamd.windows.running import RunningTotals
from streamd.windows.session import SessionWindows
from streamd.windows.sliding import SlidingWindows
from streamd.windows.spec import WindowSpec
from streamd.windows.timed import AlignedWindows


def kernel_of(spec: WindowSpec) -> Kernel:
    """The kernel for these windows, of one task."""
    match spec.kind:
        case "tumbling":
            return AlignedWindows(spec)
        case "hopping":
            whole = spec.emit != "close" or spec.fallible or spec.every == spec.size
            return AlignedWindows(spec) if whole else PanedWindows(spec)
        case "sliding":
            return SlidingWindows(spec)
        case "session":
            return SessionWindows(spec)
        case "count":
            return CountedWindows(spec)
        case "global":
            return RunningTotals(spec)

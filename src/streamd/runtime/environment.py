"""Under which Python and which Kafka client nothing is started: those under which exactly once is not known to hold."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from streamd.errors import ConfigError

TESTED_AIOKAFKA: Final = "0.14.0"
"""transport/kafka speaks this version's client and record internals."""


def refuse_untested() -> None:
    """Called wherever streamd is started: the command, a worker, the Python API. Raises ConfigError."""
    check_environment(optimised=not __debug__, aiokafka=installed_aiokafka())


def check_environment(optimised: bool, aiokafka: str | None) -> None:
    """Raises ConfigError for a Python or a Kafka client under which exactly once is not known to hold."""
    if optimised:
        raise ConfigError(
            "python -O and PYTHONOPTIMIZE remove checks that the Kafka client relies on; run without them"
        )
    if aiokafka is not None and aiokafka != TESTED_AIOKAFKA:
        raise ConfigError(
            f"aiokafka {aiokafka} is installed and streamd is tested with {TESTED_AIOKAFKA} only, whose internals it "
            f"uses; install it with: pip install aiokafka=={TESTED_AIOKAFKA}"
        )


def installed_aiokafka() -> str | None:
    """The version that is installed, None when there is none."""
    try:
        return version("aiokafka")
    except PackageNotFoundError:
        return None

"""What a call of the command line gave, and the types of the fixtures that make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]
Process = Callable[..., Outcome]
Write = Callable[[str, str], Path]

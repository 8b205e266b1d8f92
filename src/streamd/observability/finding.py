"""What a check found: seen, needed, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one thing. `seen` and `needed` are phrases; `remedy` is a sentence, empty when all is well."""

    check: str
    level: Level
    subject: str
    seen: str
    needed: str = ""
    remedy: str = ""


def judged(
    check: str, fine: bool, subject: str, seen: str, needed: str = "", remedy: str = "", *, bad: Level = "problem"
) -> Finding:
    """A finding that is `ok`, and without a remedy, when all is fine, else as `bad` as said."""
    return Finding(check, "ok" if fine else bad, subject, seen, needed, "" if fine else remedy)

"""When a worker process that died gets its replacement. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamd.runtime.backoff import Failures, RestartPolicy, next_delay


@dataclass(frozen=True, slots=True)
class Crashes:
    """The history of one worker's place. `in_row`: deaths without useful work between them; `total`: all of them."""

    in_row: int = 0
    total: int = 0

    def and_one(self, useful: bool) -> Crashes:
        """These, and one more death, of a process that had been `useful` or not."""
        return replace(self, in_row=1 if useful else self.in_row + 1, total=self.total + 1)


def was_useful(lifetime: float, records_in: int, policy: RestartPolicy) -> bool:
    """Whether a process worked: it took records in, or lived for a calm time. Then its death is not a repetition."""
    return records_in > 0 or lifetime >= policy.calm


def replacement_delay(crashes: Crashes, policy: RestartPolicy, chance: float) -> float:
    """Seconds to wait with the replacement: none after the first death of a row, then the policy's delays."""
    if crashes.in_row <= 1:
        return 0.0
    return next_delay(policy, Failures(count=crashes.in_row - 1), chance)

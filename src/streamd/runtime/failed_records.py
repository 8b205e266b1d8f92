"""What a task does with records that fail, or come too late: leave them out, write them to a dead-letter sink, stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamd.clock import Clock
from streamd.component.sink import Writer
from streamd.config.pipeline import ComponentConfig, ErrorPolicy
from streamd.errors import RecordError
from streamd.plan.graph import PartPlan
from streamd.record import Row, TaskId
from streamd.runtime.assembly import Assembly
from streamd.runtime.counting import Counting
from streamd.runtime.failure import (
    Failure,
    RecordFailedError,
    cut_letter,
    dead_letter,
    failure_of,
    load_error,
    policy_of,
    stop_message,
)


class FailedRecords:
    """Of one task. `once`: what it read can not be read again."""

    def __init__(
        self, task: TaskId, part: PartPlan, assembly: Assembly, writers: Mapping[str, Writer], count: Counting,
        clock: Clock, *, once: bool,
    ) -> None:  # fmt: skip
        self._task, self._assembly, self._writers = task, assembly, writers
        self._config = assembly.plan.config
        self._components: dict[str, ComponentConfig] = {c.id: c for c in part.components}
        self._count, self._clock, self._once = count, clock, once

    def policy(self, component: ComponentConfig) -> ErrorPolicy:
        """The component's own, or else the pipeline's."""
        return policy_of(component, self._config)

    def topic(self, failure: Failure) -> str:
        """The topic, or else the source, that the record came from."""
        known = getattr(failure.record, "topic", None)
        source = self._components[failure.entry]
        return str(known or getattr(source.settings, "topic", None) or source.id)

    def for_good(self, failure: Failure, policy: ErrorPolicy, attempt: int = 1) -> None:
        """Count and dispose of a record that is not tried again: it was tried enough, or it would fail again."""
        self._count.failed(failure)
        self.dispose(failure, policy, policy.then if policy.action == "retry" else None, attempt)

    def dispose(self, failure: Failure, policy: ErrorPolicy, action: str | None = None, attempt: int = 1) -> None:
        """Do with a failed record what the settings say. Raises RecordFailedError for `fail`."""
        topic = self.topic(failure)
        match action or policy.action:
            case "skip":
                self._count.skipped(failure)
            case "dead_letter":
                assert policy.dead_letter is not None
                sink = self._components[policy.dead_letter]
                row = dead_letter(
                    failure, sink, self._config, topic, self._task.partition, self._clock.now_ms(), attempt,
                    include_details=policy.include_details,
                )  # fmt: skip
                row, refusal = self._keep(sink, row)
                if refusal is not None:
                    self._count.stopped_by(failure)
                    raise RecordFailedError(
                        f"{sink.place}: the dead-letter sink {sink.id!r} refused a record that failed before: "
                        + stop_message(failure, topic, self._task.partition, lost=self._once, refused=str(refusal)),
                        failure.record.offset,
                    )
                self._count.dead_letter(failure, sink.id, row)
            case _:
                self._count.stopped_by(failure)
                message = stop_message(failure, topic, self._task.partition, lost=self._once)
                raise RecordFailedError(message, failure.record.offset)

    def _keep(self, sink: ComponentConfig, letter: Row) -> tuple[Row, RecordError | None]:
        """Write a dead letter; of one that is too large the beginning. Gives what was tried, and why it is refused."""
        writer = self._writers[sink.id]
        for _, error in writer.write([letter]):
            refusal = load_error(error)
            if refusal.excess is None or (cut := cut_letter(letter, refusal.excess)) is None:
                return letter, refusal
            letter = cut
            for _, again in writer.write([letter]):
                return letter, load_error(again)
        return letter, None

    def late(self, failure: Failure, policy: ErrorPolicy, where: Any) -> None:
        """A record that came too late for its stage, whose `late` is `where`: drop, dead_letter, or a sink."""
        self._count.late(failure)
        if where == "dead_letter":
            sink = policy.dead_letter or self._config.on_error.dead_letter
            self.dispose(failure, replace(policy, dead_letter=sink), "dead_letter")
        elif where != "drop":
            try:
                rows = [self._assembly.late_row(failure, where.id)]
                self._count.written(where.id, rows)
                refusals = self._writers[where.id].write(rows)
            except RecordError as error:
                refusals = [(0, error)]
            for _, refusal in refusals:
                failed = failure_of(
                    failure.record, load_error(refusal), self._components[where.id], None, failure.entry
                )
                self.for_good(failed, policy)

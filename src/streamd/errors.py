"""What can go wrong, as a small tree. Policy depends on the class of an error, never on its text."""

from __future__ import annotations

from typing import Literal


class StreamdError(Exception):
    """Root of all errors that streamd raises on purpose.

    The message is one sentence: what was wrong, the value got, what would be right. It never holds record contents or
    secrets.
    """


class ConfigError(StreamdError):
    """The configuration cannot be run. `diagnostics` holds every problem found, each with its place."""

    def __init__(self, message: str, diagnostics: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.diagnostics = diagnostics


class TransientError(StreamdError):
    """May pass by itself: tried again with back-off. `retry_after` seconds, where the other side said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FatalError(StreamdError):
    """Will not pass by itself: the pipeline stops and says why."""


class FencedError(StreamdError):
    """A newer instance of the same task, or a newer generation of its group, has taken over: this one must stop."""


class NotMemberError(FencedError):
    """Who asks is not a member of the group, or in an older generation of it: nothing can be committed before news."""


class UnavailableError(TransientError):
    """A server that a pipeline needs cannot be reached."""


class AccessDeniedError(FatalError):
    """The server knows who we are, or refuses to, and does not let us: a human has to change something."""


class NotFoundError(FatalError):
    """A named thing (topic, file, table) does not exist and may not be created."""


class PositionLostError(FatalError):
    """The position to resume from is no longer in the source (retention has passed it, a file was truncated)."""


class RecordError(StreamdError):
    """One record cannot be processed; the others can. `on_error` says what becomes of it.

    The subclasses name the phase. `detail` may hold record contents and is shown only where a pipeline asks for it.
    `action`: what becomes of this record whatever `on_error` says (fail, skip or dead_letter); None: as that says.
    """

    phase = "transform"
    action: Literal["fail", "skip", "dead_letter"] | None = None

    def __init__(self, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail


class ExtractError(RecordError):
    """The record could not be read: not valid in its format, too large, a time out of bounds."""

    phase = "extract"


class SchemaDriftError(ExtractError):
    """The record does not fit the schema that its source is known to have; `schema_drift` says what becomes of it."""


class TransformError(RecordError):
    """A stage failed on the record: a missing field, a wrong type, an expression that has no value."""

    phase = "transform"


class LateRecordError(TransformError):
    """The record's time lies before the watermark: what it belongs to was given out already. `late` says what then."""


class LoadError(RecordError):
    """A sink refused this one record: too large, a value it cannot hold.

    `excess`: by how many bytes it is too large, None where that is not the reason.
    """

    phase = "load"

    def __init__(self, message: str, detail: str | None = None, *, excess: int | None = None) -> None:
        super().__init__(message, detail)
        self.excess = excess


class InvalidRecordError(TransformError):
    """The record breaks rules of a `validate` stage."""


class InvalidOutputError(LoadError):
    """What was about to be written breaks rules of the sink's `validate`."""


class MissingFieldError(TransformError):
    """An expression names a field that the record does not have."""

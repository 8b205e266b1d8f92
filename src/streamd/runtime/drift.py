"""What the engine does about `schema_drift` of a source: looks at a sample, or checks every record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from streamd.clock import Clock
from streamd.codecs import Codec
from streamd.config.pipeline import ComponentConfig
from streamd.errors import ExtractError, SchemaDriftError
from streamd.quality.schema_drift import Change, Tracker, closed, words
from streamd.quality.schemas import DocumentSchema, schema_of
from streamd.record import RawRecord
from streamd.runtime.control import SchemaChange

log = structlog.get_logger(__name__)

_TOLD = 3  # changes in the message of one record

Stray = tuple[RawRecord, Exception]
Count = Callable[[str, str], None]


class SourceDrift:
    """One source, for all tasks of this process. Records are decoded whole, apart from the chains."""

    def __init__(
        self, pipeline: str, component: ComponentConfig, codec: Codec | None, folder: Path, clock: Clock
    ) -> None:
        """Raises ConfigError, FatalError, NotFoundError for a schema that is none."""
        settings = component.schema_drift
        assert settings is not None
        self._pipeline, self._source, self._settings, self._clock = pipeline, component.id, settings, clock
        self._decode: Callable[[Any], Any] = _as_it_is if codec is None else codec.decode
        given = settings.schema_settings
        schema = self._given = None if given is None else schema_of(given, folder)
        self._tracker = Tracker(settings, schema)
        self._schema = None
        if settings.every_record and given is not None:
            # A path, for what the schema refers to; its text is the closed one.
            self._schema = DocumentSchema(given, folder, closed(schema))
        self._news: list[SchemaChange] = []
        self._said_full = False

    async def passed(
        self, records: Sequence[RawRecord], count: Count, learn: Callable[[], Awaitable[bool]]
    ) -> tuple[Sequence[RawRecord], list[Stray]]:
        """Records that may go on, and those that may not. What cannot be read goes on: the chain tells why.

        `count(source, kind)` counts a change; `learn`: see `Codec.learn`. With `fail`, what lies behind the first stray
        does not go on.
        """
        if self._schema is None:
            self._look(records, count)
            return records, []
        while True:
            passed, strays, unread = self._checked(records, count)
            if not unread or not await learn():
                return passed, strays

    def _checked(self, records: Sequence[RawRecord], count: Count) -> tuple[list[RawRecord], list[Stray], bool]:
        assert self._schema is not None
        passed: list[RawRecord] = []
        strays: list[Stray] = []
        unread = False
        for record in records:
            try:
                document = self._decode(record.value)
            except Exception:  # whatever a decoder trips over is the chain's to tell
                unread = True
            else:
                if not self._schema.fits(document):
                    strays.append((record, self._error(document)))
                    self._tell(self._tracker.look(document), count)
                    if self._settings.policy == "fail":
                        break
                    continue
            passed.append(record)
        return passed, strays, unread

    def news(self) -> list[SchemaChange]:
        """Changes that were found since the last call."""
        news, self._news = self._news, []
        return news

    def _error(self, document: Any) -> SchemaDriftError:
        assert self._schema is not None
        # By a tracker that has told nothing yet: each record says all that is other in it.
        alone = Tracker(self._settings.model_copy(update={"vanished_after": 1}), self._given)
        changes = alone.look(document) if type(document) is dict else []
        said = "".join(f"; {words(change)}" for change in changes[:_TOLD]) + ("; …" if len(changes) > _TOLD else "")
        error = SchemaDriftError(f"it does not fit {self._schema.name}: {self._schema.wrong(document)}{said}")
        error.action = "fail" if self._settings.policy == "fail" else "dead_letter"
        return error

    def _look(self, records: Sequence[RawRecord], count: Count) -> None:
        """At all while there is something to learn; then at some, spread over the batch, and the last."""
        at = 0
        while at < len(records) and self._tracker.learning:
            self._see(records[at], count)
            at += 1
        left = len(records) - at
        sample = min(self._settings.sample, left)
        for n in range(1, sample + 1):
            self._see(records[at + left * n // sample - 1], count)

    def _see(self, record: RawRecord, count: Count) -> None:
        try:
            document = self._decode(record.value)
        except Exception:  # the chain tells what is wrong with it, where it needs it
            return
        if type(document) is dict:
            self._tell(self._tracker.look(document), count)

    def _tell(self, changes: list[Change], count: Count) -> None:
        for change in changes:
            count(self._source, change.kind)
            self._news.append(SchemaChange(self._pipeline, self._source, *change, self._clock.now_ms()))
            if self._settings.policy != "ignore":
                log.warning("Schema of a source changed", pipeline=self._pipeline, source=self._source,
                            kind=change.kind, path=change.path, was=change.was, now=change.now)  # fmt: skip
        if self._tracker.full and not self._said_full:
            self._said_full = True
            log.warning(
                "Schema of a source changed so often that no more is told", pipeline=self._pipeline, source=self._source
            )


def _as_it_is(value: Any) -> Any:
    if type(value) is not dict:
        raise ExtractError("the source gave no document")
    return value

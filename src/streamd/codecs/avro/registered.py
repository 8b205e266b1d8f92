"""Avro behind the id of its schema, and how a sink's schema grows in the registry."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from math import inf
from typing import Any

import structlog

from streamd.codecs.avro.codec import unfit, writing
from streamd.codecs.avro.evolution import evolved, united
from streamd.codecs.avro.reading import MismatchError, reader
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.settings import AvroSettings
from streamd.codecs.avro.values import UnfitError
from streamd.codecs.codec import CodecContext
from streamd.codecs.registered import ASKED_AGAIN_AFTER, OwnSchema, Read, RegisteredCodec
from streamd.codecs.schema_registry import IncompatibleSchemaError, Reference, RegisteredSchema
from streamd.errors import ConfigError, LoadError

log = structlog.get_logger(__name__)

# How often other versions may come behind the one that was registered, until it is left to the next record.
_MOST_MEETINGS = 10


class RegisteredAvroCodec(RegisteredCodec):
    """With `on_schema_change: evolve` a sink registers the next schema before the record that needs it is written."""

    kind, title, setting = "AVRO", "Avro", "`schema` or `schema_file`"
    gives_nan = True

    def __init__(self, settings: AvroSettings, context: CodecContext, schema: Schema | None) -> None:
        """`schema`: the sink's, or the one that a source's documents are to have. Raises ConfigError."""
        super().__init__(settings, context, None if schema is None else OwnSchema(schema.text, schema.name))
        self._settings, self._schema = settings, schema
        self._forms = settings.forms
        self._writing = writing(schema, settings) if schema is not None else None
        self._references: tuple[Reference, ...] = ()
        self._misfits: list[tuple[Any, tuple[str, ...]]] = []
        # What could not be helped: {(path, reason): (why, until when it is not tried again)}
        self._final: dict[tuple[str, ...], tuple[str, float]] = {}
        self._changing = asyncio.Lock()

    @property
    def writable(self) -> bool:
        """Whether there is a schema to write by: a source may have none."""
        return self._writing is not None

    async def reader(self, found: RegisteredSchema) -> Read:
        """By the writer's schema, for documents of the one that is asked for."""
        written = Schema(found.schema, [reference.schema for reference in found.references])
        try:
            return reader(written, self._schema, self._forms, records=self._context.whole)
        except MismatchError as error:
            raise ConfigError(f"what it wrote cannot be read with the schema asked for: {error}") from None

    def own_reader(self) -> Read:
        """By the schema that is written."""
        assert self._schema is not None
        return reader(self._schema, None, self._forms, records=self._context.whole)

    async def learn(self) -> bool:
        """Ask for the ids, and register the schema, that the batch at hand needs."""
        learnt = await super().learn()
        misfits, self._misfits = self._misfits, []
        if misfits:
            async with self._changing:
                await self._evolve(misfits)
        return learnt or bool(misfits)

    def encode(self, document: Any) -> bytes:
        """A value behind the id of the sink's schema. Raises LoadError."""
        assert self._writing is not None
        try:
            return self._writing.encode(document, self._start)
        except UnfitError as error:
            refused = unfit(error)
            if self._settings.on_schema_change == "evolve" and self._context.kind == "sink":
                why, until = self._final.get(_key(error), ("", 0.0))
                if time.monotonic() > until:
                    self._misfits.append((document, _key(error)))
                elif why:
                    refused = LoadError(f"{refused}; {why}")
            raise refused from None

    def left_out(self) -> int:
        """Fields that the schema lacks."""
        return self._writing.taken() if self._writing is not None else 0

    async def take(self, found: RegisteredSchema) -> None:
        """Write by it."""
        self._references = found.references
        schema = self._schema = Schema(found.schema, self._texts)
        self._writing = writing(schema, self._settings)

    @property
    def _texts(self) -> tuple[str, ...]:
        return tuple(reference.schema for reference in self._references)

    async def _evolve(self, misfits: list[tuple[Any, tuple[str, ...]]]) -> None:
        """The schema for documents that do not fit: the subject's latest, or a new version made for them."""
        registry, subject = self.registry, self.subject
        why, until = "", inf
        for _ in range(_MOST_MEETINGS):
            latest = await registry.latest(subject)
            if latest is not None and self._start[1:] != latest.id.to_bytes(4):
                # Another worker, or another node, has met the same before; or came behind us, without our fields.
                await self.taken(latest)
            assert self._schema is not None
            grown = evolved(self._schema, (document for document, _ in misfits), self._forms, self._texts)
            if grown is None:
                break
            try:
                await self._grow(grown, 0 if latest is None else latest.version)
            except IncompatibleSchemaError as error:
                newest = await registry.latest(subject)
                if newest is None or latest is None or newest.id == latest.id:
                    # Whoever looks after the registry may let it pass later.
                    why, until = f"its schema cannot evolve: {error}", time.monotonic() + ASKED_AGAIN_AFTER
                    break
        for document, key in misfits:
            if not self._fits(document):
                self._final[key] = (why, until)

    async def _grow(self, grown: Schema, base: int) -> None:
        """Register what was made of version `base`, together with what others have made of it meanwhile: a version that
        came in between has fields that this one lacks.
        """
        registry, subject = self.registry, self.subject
        for _ in range(_MOST_MEETINGS):
            references = self._references
            await self.taken(await registry.register(subject, grown.text, "AVRO", references))
            log.info("Schema evolved", subject=subject, sink=self._context.component)
            own = await registry.find(subject, grown.text, "AVRO", references)
            both = grown
            for version in range(base + 1, 0 if own is None else own.version):
                other = await registry.version(subject, version)
                with suppress(ConfigError):
                    texts = [] if other is None else [reference.schema for reference in other.references]
                    both = both if other is None else united(both, Schema(other.schema, texts), self._texts)
            if own is None or both is grown:
                return
            try:
                await registry.register(subject, both.text, "AVRO", references)
            except IncompatibleSchemaError:
                return  # what came in between was not made of the same, and ours is registered
            grown, base = both, own.version

    def _fits(self, document: Any) -> bool:
        assert self._writing is not None
        try:
            self._writing.encode(document)
        except UnfitError:
            return False
        return True


def _key(error: UnfitError) -> tuple[str, ...]:
    return (*error.path, error.reason)

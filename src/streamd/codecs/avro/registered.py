"""Avro behind the id of its schema: which schemas there are is for the schema registry to say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NoReturn

import structlog

from streamd.codecs.avro.codec import unfit, writing
from streamd.codecs.avro.evolution import evolved
from streamd.codecs.avro.reading import MismatchError, Read, reader
from streamd.codecs.avro.schema import Schema
from streamd.codecs.avro.settings import AvroSettings
from streamd.codecs.avro.values import UnfitError
from streamd.codecs.codec import Codec, CodecContext, Document
from streamd.codecs.schema_registry import IncompatibleSchemaError, RegisteredSchema, SchemaRegistry
from streamd.codecs.undecodable import refuse
from streamd.errors import ConfigError, ExtractError, LoadError, NotFoundError

log = structlog.get_logger(__name__)

# How long an id that the registry does not have is not asked for again, in seconds.
_UNKNOWN_FOR = 30.0
# How often other versions may come behind the one that was registered, until it is left to the next record.
_MOST_MEETINGS = 10
_NO_ID = b"\x00\x00\x00\x00\x00"


class RegisteredAvroCodec(Codec):
    """Values behind a zero byte and the four bytes of their schema's id.

    A source asks for ids as it meets them, before anything of the batch goes on. A sink knows its id before the first
    record; with `on_schema_change: evolve` it registers the next schema before the record that needs it is written.
    """

    binary = True

    def __init__(self, settings: AvroSettings, context: CodecContext, schema: Schema | None) -> None:
        """`schema`: the sink's, or the one that a source's documents are to have. Raises ConfigError."""
        if context.kind == "sink" and schema is None and settings.register_:
            raise ConfigError(
                "format avro: a sink needs a schema (`schema` or `schema_file`), or `register: false` to take the "
                "subject's latest"
            )
        self._settings, self._context, self._schema = settings, context, schema
        self._forms = settings.forms
        # {four bytes of id: how to read what follows}
        self._readers: dict[bytes, Read] = {}
        self._wanted: set[bytes] = set()
        self._start, self._writing = _NO_ID, writing(schema, settings) if schema is not None else None
        self._references: tuple[str, ...] = ()
        self._misfits: list[tuple[Any, tuple[str, ...]]] = []
        # What could not be helped: it is not tried again. {(path, reason): why}
        self._final: dict[tuple[str, ...], str] = {}
        self._changing = asyncio.Lock()

    @property
    def writable(self) -> bool:
        """Whether there is a schema to write by: a source may have none."""
        return self._writing is not None

    async def prepare(self) -> None:
        """Find or register the sink's schema. Raises what a registry does, ConfigError, NotFoundError."""
        registry = self._registry
        if self._context.kind == "source":
            return
        settings, subject = self._settings, self._subject
        if settings.compatibility is not None and settings.register_:
            await registry.set_compatibility(subject, settings.compatibility)
        found: RegisteredSchema | None
        if self._schema is None:
            found = await registry.latest(subject)
        elif settings.register_:
            found = await registry.register(subject, self._schema.text, "AVRO")
        else:
            found = await registry.find(subject, self._schema.text, "AVRO")
        if found is None:
            what = "has no version" if self._schema is None else "does not have the sink's schema"
            raise NotFoundError(
                f"sink {self._context.component!r}: subject {subject!r} of the schema registry {what}, and "
                "`register: false` keeps the sink from registering it"
            )
        self._take(found)

    async def learn(self) -> bool:
        """Ask for the ids, and register the schema, that the batch at hand needs."""
        wanted, self._wanted = self._wanted, set()
        for key in wanted:
            self._readers[key] = await self._reader(key)
        misfits, self._misfits = self._misfits, []
        if misfits:
            async with self._changing:
                await self._evolve(misfits)
        return bool(wanted or misfits)

    def decode(self, value: Any) -> Document:
        """The document of a value. Raises ExtractError."""
        if value.__class__ is not bytes:
            if value.__class__ is dict and not self.writable:
                return value  # a test's, which has no schema to be written by
            refuse(value, "Avro behind the id of its schema")
        key = value[1:5]
        read = self._readers.get(key)
        if read is None or value[0]:
            if len(value) < 5 or value[0]:
                raise ExtractError(
                    "not Avro behind the id of its schema: expected a zero byte and the four bytes of an id in front"
                )
            self._wanted.add(key)
            raise ExtractError(f"the schema {int.from_bytes(key)} is not known yet")
        return read(value, 5)

    def encode(self, document: Any) -> bytes:
        """A value behind the id of the sink's schema. Raises LoadError."""
        assert self._writing is not None
        try:
            return self._writing.encode(document, self._start)
        except UnfitError as error:
            refused = unfit(error)
            if self._settings.on_schema_change == "evolve" and self._context.kind == "sink":
                why = self._final.get(_key(error))
                if why is None:
                    self._misfits.append((document, _key(error)))
                elif why:
                    refused = LoadError(f"{refused}; {why}")
            raise refused from None

    def passes(self, read: Codec) -> bool:
        """Never: an id is one of the registry that it was read with, and of the schema that it was written with."""
        return False

    def left_out(self) -> int:
        """Fields that the schema lacks."""
        return self._writing.taken() if self._writing is not None else 0

    @property
    def _registry(self) -> SchemaRegistry:
        if self._context.registry is None:
            raise ConfigError(
                f"{self._context.kind} {self._context.component!r}: `registry: true` needs a schema registry: add "
                "`schema_registry: {url: …}` to the pipeline or to streamd.yaml"
            )
        return self._context.registry

    @property
    def _subject(self) -> str:
        settings, context = self._settings, self._context
        if settings.subject is not None:
            return settings.subject
        if settings.subject_strategy == "topic_name":
            return f"{context.topic}-{context.part}"
        if self._schema is None:
            raise ConfigError("subject_strategy: without a schema of the sink's own its name is not known")
        name = self._schema.name
        return name if settings.subject_strategy == "record_name" else f"{context.topic}-{name}"

    # Reading.

    async def _reader(self, key: bytes) -> Read:
        number = int.from_bytes(key)
        found = await self._registry.by_id(number)
        if found is None:
            # It may come to be known: a registry's followers can be behind.
            return self._unknown(key, f"the schema registry has no schema with the id {number}")
        if found.type != "AVRO":
            return _refusing(f"the schema {number} is of {found.type}, expected AVRO")
        try:
            written = Schema(found.schema, [reference.schema for reference in found.references])
            return reader(written, self._schema, self._forms)
        except MismatchError as error:
            return _refusing(f"what was written with schema {number} cannot be read with the schema asked for: {error}")
        except ConfigError as error:
            return _refusing(f"the schema {number} cannot be used: {error}")

    def _unknown(self, key: bytes, message: str) -> Read:
        until = time.monotonic() + _UNKNOWN_FOR

        def refuse_until(data: bytes, start: int) -> NoReturn:
            if time.monotonic() > until:
                self._wanted.add(key)
            raise ExtractError(message)

        return refuse_until

    # Writing.

    def _take(self, found: RegisteredSchema) -> None:
        """From here on records are of this schema."""
        references = self._references = tuple(reference.schema for reference in found.references)
        schema = self._schema = Schema(found.schema, references)
        self._writing = writing(schema, self._settings)
        self._start = b"\x00" + found.id.to_bytes(4)
        self._readers[self._start[1:]] = reader(schema, None, self._forms)

    async def _evolve(self, misfits: list[tuple[Any, tuple[str, ...]]]) -> None:
        """The schema for documents that do not fit: the subject's latest, or a new version made for them."""
        registry, subject = self._registry, self._subject
        why = ""
        for _ in range(_MOST_MEETINGS):
            latest = await registry.latest(subject)
            if latest is not None and self._start[1:] != latest.id.to_bytes(4):
                # Another worker, or another node, has met the same before; or came behind us, without our fields.
                self._take(latest)
            assert self._schema is not None
            grown = evolved(self._schema, (document for document, _ in misfits), self._forms, self._references)
            if grown is None:
                break
            try:
                self._take(await registry.register(subject, grown.text, "AVRO"))
                log.info("Schema evolved", subject=subject, sink=self._context.component)
            except IncompatibleSchemaError as error:
                why = f"its schema cannot evolve: {error}"
                break
        for document, key in misfits:
            if not self._fits(document):
                self._final[key] = why

    def _fits(self, document: Any) -> bool:
        assert self._writing is not None
        try:
            self._writing.encode(document)
        except UnfitError:
            return False
        return True


def _key(error: UnfitError) -> tuple[str, ...]:
    return (*error.path, error.reason)


def _refusing(message: str) -> Callable[[bytes, int], NoReturn]:
    def refuse_it(data: bytes, start: int) -> NoReturn:
        raise ExtractError(message)

    return refuse_it

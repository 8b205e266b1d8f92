"""Values behind the id of their schema, as Confluent's serializers write them: what the formats share of a registry.

A value begins with a zero byte and the four bytes of its schema's id. Which schemas there are is for the registry to
say: a source asks for ids as it meets them, a sink knows its own before the first record.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn

from pydantic import Field

from streamd.codecs.codec import Codec, CodecContext
from streamd.codecs.schema_registry import Reference, RegisteredSchema, SchemaRegistry, SchemaType
from streamd.codecs.undecodable import refuse
from streamd.component.model import Model
from streamd.errors import ConfigError, ExtractError, NotFoundError

# What reads a value from an index on, behind its header: a document; of a key any value. Raises ExtractError.
Read = Callable[[bytes, int], Any]

# How long what the registry does not have, or refuses, is not asked for again, in seconds.
ASKED_AGAIN_AFTER = 30.0
_NO_ID = b"\x00\x00\x00\x00\x00"

Compatibility = Literal[
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"
]
_OF_REGISTRY = ("subject", "subject_strategy", "register", "compatibility")


class RegistrySettings(Model):
    """What a format's settings say of a schema registry."""

    registry: bool = Field(
        False,
        description="Records begin with the id of their schema in the schema registry, which `schema_registry:` of the "
        "pipeline or of streamd.yaml names.",
        examples=[True],
    )
    subject: str | None = Field(
        None,
        min_length=1,
        description="Sinks: the subject that the schema is registered under, in place of what `subject_strategy` says.",
        examples=["orders-value"],
    )
    subject_strategy: Literal["topic_name", "record_name", "topic_record_name"] = Field(
        "topic_name",
        description="Sinks: `topic_name` is TOPIC-value, `record_name` the full name of the record (of a Protobuf "
        "message, or the title of a JSON Schema), `topic_record_name` TOPIC-NAME. A key's is TOPIC-key, that of the "
        "header NAME TOPIC-header-NAME.",
        examples=["record_name"],
    )
    register_: bool = Field(
        True,
        alias="register",
        description="Sinks: register the schema when it is not registered; false: it has to be, and without a schema "
        "of its own the sink takes the subject's latest.",
        examples=[False],
    )
    compatibility: Compatibility | None = Field(
        None,
        description="Sinks: set what new versions of the subject must be compatible with; without it that is left to "
        "the registry.",
        examples=["BACKWARD"],
    )

    def check_registry(self, *, has_schema: bool) -> None:
        """Raises ValueError when these do not fit together. `has_schema`: there is one beside them."""
        given = {info.alias or name for name, info in type(self).model_fields.items() if name in self.model_fields_set}
        if not self.registry:
            if of_registry := [name for name in _OF_REGISTRY if name in given]:
                raise ValueError(f"{', '.join(of_registry)}: only with registry: true")
        elif self.subject is None and self.subject_strategy != "topic_name" and not has_schema:
            raise ValueError(f"subject_strategy: {self.subject_strategy} needs a schema, whose name it takes")
        elif not self.register_ and self.compatibility is not None:
            raise ValueError("compatibility: only with register: true; register: false changes nothing in the registry")


@dataclass(frozen=True, slots=True)
class Import:
    """A schema that another one names: `name` is how, and the subject that it is registered under."""

    name: str
    text: str
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """A schema that settings give. `imports`: all that it needs, each before those that name it; `direct`: the names of
    those that it names itself.
    """

    text: str
    name: str
    imports: tuple[Import, ...] = ()
    direct: tuple[str, ...] = ()


class RegisteredCodec(Codec):
    """A codec of values behind ids. Each format says how what follows the header is read and written.

    `kind` is the registry's word for the format, `title` how messages call it, `setting` where its schema is given.
    """

    binary = True
    kind: ClassVar[SchemaType]
    title: ClassVar[str]
    setting: ClassVar[str]

    def __init__(self, settings: RegistrySettings, context: CodecContext, own: OwnSchema | None) -> None:
        """`own`: the sink's schema, or the one that a source's documents are to have. Raises ConfigError."""
        if context.kind == "sink" and own is None and settings.register_:
            raise ConfigError(
                f"format {self.kind.lower()}: a sink needs a schema ({self.setting}), or `register: false` to take the "
                "subject's latest"
            )
        self._of_registry, self._context, self._own = settings, context, own
        # {four bytes of id: how to read what follows}
        self._readers: dict[bytes, Read] = {}
        self._wanted: set[bytes] = set()
        self._start = _NO_ID
        if context.kind == "source":
            self._encode, self.encode = self.encode, self._encode_for_test

    @abstractmethod
    async def reader(self, found: RegisteredSchema) -> Read:
        """How to read what was written with a schema. Raises ConfigError with why it cannot be used."""

    @abstractmethod
    async def take(self, found: RegisteredSchema) -> None:
        """From here on the sink writes by this schema; its id is in `_start`. Raises ConfigError."""

    @abstractmethod
    def own_reader(self) -> Read:
        """How to read what `encode` writes; there is a schema then."""

    async def prepare(self) -> None:
        """Find or register the sink's schema. Raises what a registry does, ConfigError, NotFoundError."""
        registry = self.registry
        if self._context.kind == "source":
            return
        settings, subject = self._of_registry, self.subject
        if settings.compatibility is not None and settings.register_:
            await registry.set_compatibility(subject, settings.compatibility)
        found = await (registry.latest(subject) if self._own is None else self._found(subject, self._own))
        if found is None:
            what = "has no version" if self._own is None else "does not have the sink's schema"
            raise self._missing(subject, what)
        if found.type != self.kind:
            raise ConfigError(
                f"sink {self._context.component!r}: subject {subject!r} of the schema registry is of {found.type}, "
                f"expected {self.kind}"
            )
        await self.taken(found)

    async def taken(self, found: RegisteredSchema) -> None:
        """`take`, with the header that goes with it."""
        self._start = b"\x00" + found.id.to_bytes(4)
        await self.take(found)
        self._readers[self._start[1:5]] = self.own_reader()

    async def learn(self) -> bool:
        """Ask for the ids that the batch at hand needs."""
        wanted, self._wanted = self._wanted, set()
        for key in wanted:
            self._readers[key] = await self._reader(key)
        return bool(wanted)

    def decode(self, value: Any) -> Any:
        """The document of a value. Raises ExtractError."""
        if value.__class__ is not bytes:
            if value.__class__ is dict and not self.writable:
                return value  # a test's, which has no schema to be written by
            refuse(value, f"{self.title} behind the id of its schema")
        key = value[1:5]
        read = self._readers.get(key)
        if read is None or value[0]:
            if len(value) < 5 or value[0]:
                raise ExtractError(
                    f"not {self.title} behind the id of its schema: expected a zero byte and the four bytes of an id "
                    "in front"
                )
            self._wanted.add(key)
            raise ExtractError(f"the schema {int.from_bytes(key)} is not known yet")
        return read(value, 5)

    def passes(self, read: Codec) -> bool:
        """Never: an id is one of the registry that it was read with, and of the schema that it was written with."""
        return False

    @property
    def registry(self) -> SchemaRegistry:
        """The pipeline's. Raises ConfigError where there is none."""
        if self._context.registry is None:
            raise ConfigError(
                f"{self._context.kind} {self._context.component!r}: `registry: true` needs a schema registry: add "
                "`schema_registry: {url: …}` to the pipeline or to streamd.yaml"
            )
        return self._context.registry

    @property
    def subject(self) -> str:
        """What the sink's schema is registered under. Raises ConfigError."""
        settings, context = self._of_registry, self._context
        if settings.subject is not None:
            return settings.subject
        if settings.subject_strategy == "topic_name":
            header = f"-{context.header}" if context.header else ""
            return f"{context.topic}-{context.part}{header}"
        if self._own is None:
            raise ConfigError("subject_strategy: without a schema of the sink's own its name is not known")
        name = self._own.name
        return name if settings.subject_strategy == "record_name" else f"{context.topic}-{name}"

    def _encode_for_test(self, document: Any) -> bytes:
        """Only a test writes what a source reads: under an id that no registry gives."""
        if _NO_ID[1:] not in self._readers:
            self._readers[_NO_ID[1:]] = self.own_reader()
        return self._encode(document)

    async def _found(self, subject: str, own: OwnSchema) -> RegisteredSchema | None:
        """The sink's own schema in the registry, and what it imports before it."""
        known: dict[str, Reference] = {}
        for one in own.imports:
            there = await self._version(one.name, one.text, [known[name] for name in one.imports])
            if there is None:
                raise self._missing(one.name, "does not have what the sink's schema imports")
            known[one.name] = Reference(one.name, one.name, there.version, one.text)
        references = [known[name] for name in own.direct]
        if self._of_registry.register_:
            return await self.registry.register(subject, own.text, self.kind, references)
        return await self.registry.find(subject, own.text, self.kind, references)

    async def _version(self, subject: str, text: str, references: Sequence[Reference]) -> RegisteredSchema | None:
        if self._of_registry.register_:
            await self.registry.register(subject, text, self.kind, references)
        return await self.registry.find(subject, text, self.kind, references)

    def _missing(self, subject: str, what: str) -> NotFoundError:
        return NotFoundError(
            f"sink {self._context.component!r}: subject {subject!r} of the schema registry {what}, and "
            "`register: false` keeps the sink from registering it"
        )

    async def _reader(self, key: bytes) -> Read:
        number = int.from_bytes(key)
        found = await self.registry.by_id(number)
        if found is None:
            # It may come to be known: a registry's followers can be behind.
            return self._unknown(key, f"the schema registry has no schema with the id {number}")
        if found.type != self.kind:
            return _refusing(f"the schema {number} is of {found.type}, expected {self.kind}")
        try:
            return await self.reader(found)
        except ConfigError as error:
            return _refusing(f"the schema {number} cannot be used: {error}")

    def _unknown(self, key: bytes, message: str) -> Read:
        until = time.monotonic() + ASKED_AGAIN_AFTER

        def refuse_until(data: bytes, start: int) -> NoReturn:
            if time.monotonic() > until:
                self._wanted.add(key)
            raise ExtractError(message)

        return refuse_until


def _refusing(message: str) -> Read:
    def refuse_it(data: bytes, start: int) -> NoReturn:
        raise ExtractError(message)

    return refuse_it

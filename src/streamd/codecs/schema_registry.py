"""What a codec wants of a schema registry. `transport/registry` speaks to real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from streamd.errors import FatalError

SchemaType = Literal["AVRO", "JSON", "PROTOBUF"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A schema that another one names. `name` is how it is named there; `schema` is its text."""

    name: str
    subject: str
    version: int
    schema: str


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema under its id. `references`: all that it needs, those of references before who names them.

    `version` is the subject's, where it was found by its subject; 0 where the registry did not say.
    """

    id: int
    schema: str
    type: SchemaType = "AVRO"
    references: tuple[Reference, ...] = ()
    version: int = 0


class IncompatibleSchemaError(FatalError):
    """The registry refuses a schema as the next version of its subject, or as a schema at all."""


class SchemaRegistry(Protocol):
    """A schema registry with the API of Confluent's. What was found once is kept for the life of the process.

    Each method raises UnavailableError when the registry cannot be reached or is not well, AccessDeniedError when it
    does not let us, FatalError for an answer that makes no sense.
    """

    async def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of an id; None when the registry has none."""

    async def latest(self, subject: str) -> RegisteredSchema | None:
        """The last version of a subject; None when there is none. Asked anew each time."""

    async def version(self, subject: str, version: int) -> RegisteredSchema | None:
        """A version of a subject; None when there is none, or none any more."""

    async def find(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema | None:
        """The same schema as a version of the subject; None when it is not registered there."""

    async def register(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema:
        """Make it a version of the subject, unless it is one. Raises IncompatibleSchemaError.

        `references`: those that it names itself.
        """

    async def set_compatibility(self, subject: str, level: str) -> None:
        """Say what new versions of the subject must be compatible with."""

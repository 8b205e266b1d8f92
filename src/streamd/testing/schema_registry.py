"""The schema registry of a test: it has what the pipeline under test registers, and accepts everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamd.codecs.schema_registry import Reference, RegisteredSchema, SchemaType


class MemorySchemaRegistry:
    """See `codecs.schema_registry.SchemaRegistry`."""

    def __init__(self) -> None:
        self._schemas: list[RegisteredSchema] = []
        self._subjects: dict[str, list[RegisteredSchema]] = {}

    async def by_id(self, schema_id: int) -> RegisteredSchema | None:
        """One that was registered here."""
        return self._schemas[schema_id - 1] if 0 < schema_id <= len(self._schemas) else None

    async def latest(self, subject: str) -> RegisteredSchema | None:
        """The subject's last one."""
        return (self._subjects.get(subject) or [None])[-1]  # type: ignore[list-item]

    async def version(self, subject: str, version: int) -> RegisteredSchema | None:
        """The subject's, counted from 1."""
        found = self._subjects.get(subject, ())
        return found[version - 1] if 0 < version <= len(found) else None

    async def find(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema | None:
        """The same one."""
        return next((one for one in self._subjects.get(subject, ()) if one.schema == schema), None)

    async def register(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema:
        """Take it, whatever came before."""
        found = await self.find(subject, schema, kind)
        if found is None:
            same = next((one for one in self._schemas if one.schema == schema), None)
            found = same or RegisteredSchema(len(self._schemas) + 1, schema, kind, self._complete(references))
            self._schemas += [] if same else [found]
            versions = self._subjects.setdefault(subject, [])
            found = replace(found, version=len(versions) + 1)
            versions.append(found)
        return found

    def _complete(self, references: Sequence[Reference]) -> tuple[Reference, ...]:
        """With what they refer to themselves, each before who names it."""
        found: dict[tuple[str, int], Reference] = {}
        for reference in references:
            named = self._subjects[reference.subject][reference.version - 1]
            found |= {(one.subject, one.version): one for one in named.references}
            found[reference.subject, reference.version] = reference
        return tuple(found.values())

    async def set_compatibility(self, subject: str, level: str) -> None:
        """Nothing is refused."""

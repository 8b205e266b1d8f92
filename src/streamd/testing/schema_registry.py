"""The schema registry of a test: it has what the pipeline under test registers, and accepts everything."""

from __future__ import annotations

from collections.abc import Sequence

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

    async def find(self, subject: str, schema: str, kind: SchemaType) -> RegisteredSchema | None:
        """The same one."""
        return next((one for one in self._subjects.get(subject, ()) if one.schema == schema), None)

    async def register(
        self, subject: str, schema: str, kind: SchemaType, references: Sequence[Reference] = ()
    ) -> RegisteredSchema:
        """Take it, whatever came before."""
        found = await self.find(subject, schema, kind)
        if found is None:
            same = next((one for one in self._schemas if one.schema == schema), None)
            found = same or RegisteredSchema(len(self._schemas) + 1, schema, kind, tuple(references))
            self._schemas += [] if same else [found]
            self._subjects.setdefault(subject, []).append(found)
        return found

    async def set_compatibility(self, subject: str, level: str) -> None:
        """Nothing is refused."""

"""The documents of dead letters whose source reads another format than JSON, by its own codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamd.codecs import Codec
from streamd.codecs.beside import key_of
from streamd.config.pipeline import PipelineConfig
from streamd.dlq.letter import Letter
from streamd.errors import AccessDeniedError, ExtractError, UnavailableError
from streamd.runtime.assembly import codecs_of

if TYPE_CHECKING:
    from streamd.transport.registry.client import SchemaRegistryClient


class Documents:
    """Reads letters as the sources of their pipeline do. Nothing is asked of a server before the first letter."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._codecs: dict[str, Codec] | None = None
        self._registry: SchemaRegistryClient | None = None

    async def read(self, letters: Sequence[Letter | None]) -> list[Letter | None]:
        """The letters, each with its document where it was kept as its source read it and can be read.

        Raises UnavailableError, AccessDeniedError where a schema registry is to be asked and does not answer.
        """
        try:
            return await self._read(letters)
        except (UnavailableError, AccessDeniedError) as error:
            raise type(error)(
                f"{error}: without it nobody can look into these dead letters. A --where that names no field of their "
                "records, but _stage, _error, _time and the like, does without it, and so does `streamd dlq show` "
                "without --where"
            ) from error

    async def _read(self, letters: Sequence[Letter | None]) -> list[Letter | None]:
        codecs = await self._opened()
        found = list(letters)
        waiting = [at for at, letter in enumerate(found) if letter is not None and codecs]
        while waiting:
            unread = []
            for at in waiting:
                letter: Any = found[at]
                if (codec := codecs.get(self._entry(letter) if letter.value else "")) is not None:
                    try:
                        found[at] = letter = replace(letter, read=codec.decode(letter.value), binary=codec.binary)
                    except (ExtractError, ValueError):
                        unread.append(at)
                if (codec := codecs.get(key_of(self._entry(letter)))) is not None and letter.key is not None:
                    try:
                        found[at] = replace(letter, read_key=codec.decode(letter.key))
                    except ExtractError:
                        unread.append(at)
            # What could not be read for a schema that was not known yet is read again; the rest never will be.
            again = any([await codec.learn() for codec in codecs.values()])
            waiting = unread if again else []
        return found

    async def close(self) -> None:
        """Let go of codecs, and of the registry."""
        for held in (*(self._codecs or {}).values(), self._registry):
            if held is not None:
                await held.close()

    def _entry(self, letter: Letter) -> str:
        """The source whose bytes a letter's value is; a stage's or an empty id where it is none's."""
        sources = self._config.sources
        return letter.entry or (sources[0].id if len(sources) == 1 else "")

    async def _opened(self) -> dict[str, Codec]:
        if self._codecs is None:
            config = self._config
            if config.schema_registry is not None:
                # Imported late: who has no registry must not pay for its client.
                from streamd.transport.registry.client import SchemaRegistryClient

                self._registry = SchemaRegistryClient(config.schema_registry)
            base = config.file.parent if config.file is not None else Path.cwd()
            plain = {one.id for one in config.sources if getattr(one.settings, "format", "json") in ("json", "bytes")}
            found = codecs_of(config.sources, base, self._registry)
            self._codecs = {name: codec for name, codec in found.items() if name not in plain}
            for codec in self._codecs.values():
                await codec.prepare()
        return self._codecs

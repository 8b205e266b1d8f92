"""Outputs in binary formats as JSON: they are compared by what their documents mean, and not by ids of schemas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from streamd.codecs import Codec, CodecContext, Format
from streamd.codecs.format import format_of
from streamd.config.pipeline import ComponentConfig
from streamd.errors import ExtractError
from streamd.verify.outputs import OutputRecord


class Decoding:
    """The documents of one output."""

    def __init__(self, sink: ComponentConfig, folder: Path, registry: Any) -> None:
        """`registry`: what the nodes asked. Of a sink in no binary format everything stays as it is."""
        form = format_of(sink.settings)
        settings: Any = form.settings
        if getattr(settings, "registry", False) and form == Format("avro", settings):
            # By the schema that each was written with: a sink's own one would not have what has come to it since.
            settings = settings.model_copy(update={"schema_": None, "schema_file": None})
        topic = str(getattr(sink.settings, "topic", sink.id))
        about = CodecContext(sink.id, "source", topic, base_dir=folder, registry=registry)
        documents = sink.spec.documents or getattr(sink.settings, "documents", False)
        codec = None if documents else Format(str(form), settings).codec(about)
        self._codec: Codec | None = codec if codec is not None and codec.binary else None
        # A null and a field that is not there are the same where schemas grow by fields that may be null.
        self._grows = getattr(settings, "on_schema_change", "") == "evolve"

    @property
    def parsed(self) -> bool:
        """Whether what `of` gives is JSON for this alone."""
        return self._codec is not None

    async def of(self, records: AsyncIterator[OutputRecord]) -> AsyncIterator[OutputRecord]:
        """The records with their documents as values; what cannot be read stays as it is."""
        codec = self._codec
        async for record in records:
            if codec is None or record.value is None:
                yield record
                continue
            document = self._document(codec, record.value)
            if document is None and await codec.learn():
                document = self._document(codec, record.value)
            yield record if document is None else record._replace(value=orjson.dumps(document, default=str))

    def _document(self, codec: Codec, value: bytes) -> Any:
        try:
            document = codec.decode(value)
        except (ExtractError, ValueError):
            return None
        return without_nulls(document) if self._grows else document


def without_nulls(value: Any) -> Any:
    """A document without fields that are null, at any level."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value

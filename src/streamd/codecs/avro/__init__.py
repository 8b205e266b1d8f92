"""Avro: a record is one value of an Avro schema, bare or behind the id of its schema in a registry.

The schema is written here (`schema`), lies in a file (`schema_file`), or comes from the schema registry of the
pipeline's or the service's `schema_registry:` (`registry: true`); then each record begins with a zero byte and the
four bytes of its schema's id, as Confluent's clients write it.

```yaml
source:
  kafka:
    topic: orders
    format: {avro: {registry: true}}
sink:
  kafka:
    topic: big-orders
    format: {avro: {schema_file: big-order.avsc, registry: true, on_schema_change: evolve}}
```

Files (sources and sinks `file`) are object container files, which have their schema in them.

A source reads each record by the schema that it was written with. A schema given beside `registry: true` is the one
that documents are to have: fields of other names, defaults, wider numbers and all else are resolved as the Avro
specification says. Without a registry, records are of `writer_schema_file`, or else of the schema itself.

In documents, records and maps are objects, enums texts, unions plain values. Values that JSON has no word for are:
`timestamp-…` ms since the epoch (`timestamps: iso` for text), `local-timestamp-…`, `date` and `time-…` ISO 8601 text,
`decimal` its exact text (`decimals: float` for a number), `bytes` and `fixed` base64 text, `uuid` text, `duration`
{months, days, milliseconds}. More in docs/formats.md.
"""

from __future__ import annotations

from streamd.codecs.avro.codec import AvroCodec, codec
from streamd.codecs.avro.settings import AvroFileSettings, AvroSettings
from streamd.codecs.codec import FormatSpec

__all__ = ["FORMAT", "AvroCodec"]

_OF_FILES = FormatSpec("avro", codec, settings=AvroFileSettings, required=("fastavro",), extra="avro")
FORMAT = FormatSpec(
    "avro", codec, settings=AvroSettings, required=("fastavro",), extra="avro", bare=False, in_files=_OF_FILES
)

"""JSON: a record is one object, bare or behind the id of its JSON Schema in a registry.

`format: json` is bare JSON. With `registry: true` each record begins with a zero byte and the four bytes of its
schema's id in the registry that `schema_registry:` names, as Confluent's clients write it.

```yaml
source:
  kafka:
    topic: orders
    format: {json: {registry: true, validate: true}}
sink:
  kafka:
    topic: big-orders
    format: {json: {registry: true, schema_file: big-order.json}}
```

A source takes off what is in front; with `validate: true` each record is checked by the schema that it was written
with. A sink registers its schema, and every document that it writes must fit it. More in docs/formats.md.
"""

from __future__ import annotations

from streamd.codecs.codec import FormatSpec
from streamd.codecs.json.codec import codec, decode, encode
from streamd.codecs.json.settings import JsonSettings

__all__ = ["FORMAT", "decode", "encode"]

FORMAT = FormatSpec("json", codec, settings=JsonSettings, lines=True)

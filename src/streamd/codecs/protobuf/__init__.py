"""Protobuf: a record is one message, of a type in a descriptor set, in a .proto file, or in a schema registry.

```yaml
source:
  kafka:
    topic: orders
    format: {protobuf: {descriptor: order.desc, message: shop.Order}}
```

With `registry: true` records are messages behind the id of their schema in the registry that `schema_registry:` names,
and the numbers of their message in it, as Confluent's clients write them. A source needs no more; a sink registers the
text of `proto`.

Files (sources and sinks `file`) are messages each behind its length as a varint, as `writeDelimitedTo` and
`serialize_length_prefixed` of Protobuf's own libraries write them, without a registry.

`protoc --include_imports --descriptor_set_out=order.desc order.proto` writes a descriptor set. With `proto` in place of
`descriptor` the .proto file itself is read at each start, for which a compiler has to be there: `protoc`, or
streamd[protoc].

Documents are Protobuf's own JSON mapping, with two differences: whole numbers of 64 bits are numbers, not texts, and
fields have their names as in the .proto file (`field_names: json` for lowerCamelCase). So enums are names, bytes base64
text, `Timestamp` ISO 8601 text (`timestamps: ms` for ms since the epoch), `Duration` text such as `1.5s`, wrappers
plain values, `Struct` any JSON. Fields without presence are there with their defaults (`defaults: false` leaves them
out); `optional` fields, messages and members of a `oneof` only where they were set. More in docs/formats.md.
"""

from __future__ import annotations

from streamd.codecs.codec import FormatSpec
from streamd.codecs.frames import Framing
from streamd.codecs.protobuf.codec import ProtobufCodec, codec
from streamd.codecs.protobuf.frames import DelimitedFrames, delimited
from streamd.codecs.protobuf.settings import ProtobufFileSettings, ProtobufSettings

__all__ = ["FORMAT", "ProtobufCodec"]

_OF_FILES = FormatSpec(
    "protobuf",
    codec,
    settings=ProtobufFileSettings,
    required=("google.protobuf",),
    extra="protobuf",
    bare=False,
    framing=Framing("Protobuf", DelimitedFrames, delimited),
)
FORMAT = FormatSpec(
    "protobuf",
    codec,
    settings=ProtobufSettings,
    required=("google.protobuf",),
    extra="protobuf",
    bare=False,
    in_files=_OF_FILES,
)

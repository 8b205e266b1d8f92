"""MessagePack: a record is one map with texts as keys.

```yaml
source:
  kafka:
    topic: orders
    format: {msgpack: {timestamps: iso}}
```

Values that JSON has no word for are: `bin` base64 text, the timestamp extension ms since the epoch (`timestamps: iso`
for text), any other extension {type, data} with its bytes in base64. Maps within the record have texts as keys as well;
any other key is an error of the record. Sinks write texts as texts and numbers as numbers; a record that no stage has
changed goes on in its own bytes.

Files (sources and sinks `file`) are such maps one behind the other, as `msgpack.Unpacker` reads and `packb` makes them;
they need streamd[msgpack].
"""

from __future__ import annotations

from streamd.codecs.codec import FormatSpec
from streamd.codecs.frames import Frames, Framing
from streamd.codecs.msgpack.codec import MsgpackCodec, MsgpackSettings, codec

__all__ = ["FORMAT", "MsgpackCodec", "MsgpackSettings"]


def _frames() -> Frames:
    """Imported late: messages of topics do not need the library."""
    from streamd.codecs.msgpack.frames import MsgpackFrames

    return MsgpackFrames()


_OF_FILES = FormatSpec(
    "msgpack",
    codec,
    settings=MsgpackSettings,
    required=("msgpack",),
    extra="msgpack",
    framing=Framing("MessagePack", _frames),
)
FORMAT = FormatSpec("msgpack", codec, settings=MsgpackSettings, in_files=_OF_FILES)

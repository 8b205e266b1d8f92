"""Keys and headers in a chain's code: how they are read of the records that come, and written to the sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamd.codecs import Codec, CodecContext
from streamd.codecs.beside import Beside, HeaderReaders, codecs_beside, key_format, names_beside
from streamd.config.pipeline import ComponentConfig
from streamd.expr import Expression
from streamd.plan import runtime_names as names
from streamd.plan.body import FusedBody, FuseError, Reading
from streamd.plan.graph import PartPlan
from streamd.plan.origins import origin_of


class BesideValues:
    """Of one part. `codecs`: those of its ends, by name; where there is none for one, it is made."""

    def __init__(self, part: PartPlan, codecs: dict[str, Codec]) -> None:
        self._nodes, self._codecs = {one.id: one for one in part.components}, codecs
        self._known: dict[str, Beside] = {}
        self._readings: dict[str, Reading] = {}

    def reading(self, entry: ComponentConfig) -> Reading:
        """How keys and headers are read of the records that come to a chain."""
        if entry.id not in self._readings:
            self._readings[entry.id] = self._reading(entry)
        return self._readings[entry.id]

    def _reading(self, entry: ComponentConfig) -> Reading:
        origin = origin_of(self._nodes, entry)
        key = self._of(origin.key) if origin.key is not None else None
        readers = {name: self._of(source).header_decoders[name] for name, source in origin.headers.items()}
        decode_key, key_codec = (key.decode_key, key.key) if key is not None else (None, None)
        return Reading(
            decode_key, key_codec, HeaderReaders(readers), origin.key_lost, origin.mixed_key, origin.mixed_headers
        )

    def key(self, target: ComponentConfig, body: FusedBody) -> str:
        """Python source of a row's key: what `key` says, or the record's own, as its bytes where they may go on."""
        key: Expression | None = getattr(target.settings, "key", None)
        write, read = self._of(target), body.path.beside
        if key is not None:
            return f"{self._to_key(write, body)}({body.value(key)})"
        if not hasattr(target.settings, "key_format"):
            return body.path.key
        if read.mixed_key and key_format(target.settings) != "bytes":
            raise FuseError(target.id, f"the key: {read.mixed_key}; or `key` says what to write", "mixed-formats")
        if write.key_passes(read.key_codec):
            return body.path.key
        return f"{self._to_key(write, body)}({body.metadata('_key')})"

    def key_bytes(self, target: ComponentConfig, entry: ComponentConfig, key: bytes | None) -> bytes | None:
        """The key of a record that came by an entry, as a sink writes it where it goes there as it is.

        Raises ExtractError, TransformError, LoadError.
        """
        write, read = self._of(target), self.reading(entry)
        if not hasattr(target.settings, "key_format") or write.key_passes(read.key_codec):
            return key
        value = names.key_text(key) if read.decode_key is None else read.decode_key(key)
        return (write.encode_key or names.to_key)(value)

    def tombstone_key(self, target: ComponentConfig, body: FusedBody) -> str:
        """The key of a record without a value, for a sink: there is no document that `key` could be of."""
        settings: Any = target.settings
        if target.kind == "stage":
            return ""
        # What is lost to expressions is still a key, in text.
        body.path.beside = replace(body.path.beside, key_lost=False)
        takes_any = not hasattr(settings, "key_format") or key_format(settings) == "bytes"
        if body.path.beside.mixed_key and (target.name == "exchange" or not takes_any):
            # Only own code could make one here.
            body.line(f"{body.constant('refuse_tombstone', names.refuse_tombstone)}()")
            return "None"
        if target.name == "exchange":
            source = body.tombstone_key(settings.keys)
        else:
            if getattr(settings, "key", None) is not None:
                target = replace(target, settings=settings.model_copy(update={"key": None}))
            source = self.key(target, body)
        return source if source == body.path.key else body.local("key", source)

    def refuses_tombstones(self, target: ComponentConfig, read: Reading, *, at_once: bool) -> bool:
        """Whether records without a value would come to a stage with keys of another format than those beside them.

        Raises FuseError for that `at_once`, where it is sure that such records come.
        """
        text = read.decode_key is None and not read.mixed_key
        if text or target.kind == "sink" or target.name in ("join", "window"):
            return False
        refused = origin_of(self._nodes, target).key is None
        if refused and at_once:
            message = "records without a value come here with the key that was read, and others with one in text"
            hint = "`tombstones: drop` of the source leaves them out"
            raise FuseError(target.id, f"{message}; {hint}", "mixed-formats")
        return refused

    def read_if_late(self, target: ComponentConfig, entry: ComponentConfig, body: FusedBody) -> None:
        """Have the key read before a keyed stage whose late records go to a sink in another format.

        So a key that cannot be read fails, and a schema that is not known yet is learnt, before any state is touched.
        """
        late = getattr(target.settings, "late", None)
        decode = self.reading(entry).decode_key
        if decode is None or not isinstance(late, ComponentConfig) or not hasattr(late.settings, "key_format"):
            return
        if not self._of(late).key_passes(self.reading(entry).key_codec):
            body.line(f"{body.constant('decode_key', decode)}(r.key)")

    def headers(self, target: ComponentConfig, body: FusedBody, headers: Mapping[str, Expression]) -> str:
        """Python source of the headers that a sink adds."""
        pairs = []
        for name, value in headers.items():
            encode = self._of(target).encode_header(name)
            put = body.constant("to_key", names.to_key) if encode is None else body.constant("encode_header", encode)
            pairs.append(f"({name!r}, {put}({body.value(value)})), ")
        return f"({''.join(pairs)})"

    def _to_key(self, write: Beside, body: FusedBody) -> str:
        if write.encode_key is None:
            return body.constant("to_key", names.to_key)
        return body.constant("encode_key", write.encode_key)

    def _of(self, component: ComponentConfig) -> Beside:
        if component.id not in self._known:
            if not self._codecs.keys() >= names_beside(component.id, component.settings):
                about = CodecContext(component.id, "sink" if component.kind == "sink" else "source")
                self._codecs |= dict(codecs_beside(component.id, component.settings, about))
            self._known[component.id] = Beside(component.id, component.settings, self._codecs)
        return self._known[component.id]

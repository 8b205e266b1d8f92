"""The contract of a codec, which turns the bytes of one record into a document, and back. A file per format."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streamd.codecs.frames import Framing
from streamd.codecs.schema_registry import SchemaRegistry
from streamd.component.model import Model

Document = dict[str, Any]
# Of a value a document; of a key or a header any JSON value.
Decode = Callable[[Any], Any]
Encode = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class CodecContext:
    """Where a codec stands: in the component of that id, whose topic it is, in its value, its key or a header.

    `base_dir` is the folder of the pipeline's file, where relative paths begin. `registry` is the pipeline's schema
    registry, None where none is configured; nothing is asked of it before `Codec.prepare`.
    """

    component: str = ""
    kind: Literal["source", "sink"] = "source"
    topic: str = ""
    part: Literal["value", "key", "header"] = "value"
    header: str = ""
    base_dir: Path = field(default_factory=Path)
    registry: SchemaRegistry | None = None

    @property
    def whole(self) -> bool:
        """Whether it is for documents: what is a key or a header may be any value."""
        return self.part == "value"


class Codec:
    """A format with its settings, in one source or sink. Shared by all tasks of the process; called from its loop only.

    `decode`: the bytes of one record → its document; raises ExtractError. `encode`: a document → bytes; raises
    LoadError. Of a key or a header it is any JSON value in place of a document, and there are always bytes. Neither
    awaits anything, neither keeps the document, and neither error's message holds record contents. Both are attributes
    that stay the same for the codec's life: the chains bind them. `binary`: the bytes are no text. `gives_nan`: so
    documents may hold NaN and infinities, which JSON has no word for.

    Whoever writes one: `__init__(settings, context)` reads what lies on this machine (a schema's file) and raises
    ConfigError; it also runs for `streamd validate`. What is to be asked of a server is `prepare`'s.
    """

    binary = False
    gives_nan = False
    decode: Decode
    encode: Encode

    @property
    def writable(self) -> bool:
        """Whether there is all that `encode` needs: a source may take the schema of each record from elsewhere."""
        return True

    async def prepare(self) -> None:
        """Load what is needed before the first record. Called once, before any chain runs.

        Raises UnavailableError (tried again with back-off), ConfigError, FatalError.
        """

    async def learn(self) -> bool:
        """Fetch, or register, what `decode` or `encode` found missing in the batch at hand.

        Called when records of a batch have failed, before anything of the batch has gone on. True: something is known
        now that was not, and the whole batch is run again. False, at once, when nothing was missing. After True for the
        same want it must not be wanted again: the record passes, or its error is final. Raises UnavailableError, with
        which the attempt ends and the batch is read again.
        """
        return False

    def passes(self, read: Codec) -> bool:
        """Whether bytes that `read` decodes may be written as they are, by this codec's sink."""
        return type(read) is type(self)

    def left_out(self) -> int:
        """How many fields `encode` has left out, because the format has no place for them, since the last call."""
        return 0

    async def close(self) -> None:
        """Release everything. Called once; never raises."""


class PlainCodec(Codec):
    """A format without settings: two functions."""

    def __init__(self, decode: Decode, encode: Encode) -> None:
        self.decode, self.encode = decode, encode

    def passes(self, read: Codec) -> bool:
        """Whether both are the same format."""
        return read.decode is self.decode


class NoSettings(Model):
    """A format without settings."""


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """A format as a user names it. A module of `codecs/` has one as its `FORMAT`; the module's docstring is its docs.

    `settings` is the model of what may stand behind the name; `bare`: the name alone will do. `required` are Python
    packages that it needs beyond streamd's own, and `extra` the extra of streamd that brings them. `topics`: a whole
    message of a topic may be one; `lines`: a record fits in a line of text. `in_files`: what it is of whole files,
    whose records are no lines, with their `framing` where they lie one behind the other; None where there are no such
    files.
    """

    name: str
    factory: Callable[[Any, CodecContext], Codec]
    settings: type[Model] = NoSettings
    required: tuple[str, ...] = ()
    extra: str = ""
    bare: bool = True
    topics: bool = True
    lines: bool = False
    in_files: FormatSpec | None = None
    framing: Framing | None = None

    @property
    def module(self) -> str:
        """The module that has it."""
        return self.factory.__module__

    @property
    def doc(self) -> str:
        """Its docs: the docstring of the module or package `codecs.NAME` that it is."""
        return sys.modules[".".join(self.factory.__module__.split(".")[:3])].__doc__ or ""

"""What lies beside a record's value: its key, and its headers, in formats of their own.

The settings `key_format` and `header_formats` of sources and sinks. Codecs of these parts stand among those of values,
under the names that `key_of` and `header_of` give.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from streamd.codecs.codec import Codec, CodecContext
from streamd.codecs.format import TEXT, Format
from streamd.errors import ExtractError, LoadError
from streamd.record import Headers

_DOCUMENT = "the document "

READ_KEY: Any = Field(
    TEXT,
    description="What a record's key is: what `_key` is in expressions. Decoded only where `_key` is used.",
    examples=["json", {"avro": {"registry": True}}],
)
WRITTEN_KEY: Any = Field(
    TEXT,
    description="How a record's key is written: `text` is a text as UTF-8, anything else as JSON. A key that came in "
    "another format is written anew; with `bytes` it goes on as it came.",
    examples=["json", {"avro": {"registry": True, "schema": "string"}}],
)
READ_HEADERS: Any = Field(
    default_factory=dict,
    description="What headers are that are no text: name → format. Decoded only where `_headers` is used.",
    examples=[{"trace": "json"}],
)
WRITTEN_HEADERS: Any = Field(
    default_factory=dict,
    description="How headers of `headers` are written that are no text: name → format.",
    examples=[{"trace": "json"}],
)


def key_of(component: str) -> str:
    """The name of the codec of a component's keys. No component has such an id."""
    return f"{component} key"


def header_of(component: str, header: str) -> str:
    """The name of the codec of one of a component's headers."""
    return f"{component} header {header}"


def owner_of(name: str) -> str:
    """The component that a codec of that name is of."""
    return name.partition(" ")[0]


def key_format(settings: object) -> Format:
    """The format of keys that a component's settings say: text, where they say none."""
    return getattr(settings, "key_format", TEXT)


def header_formats(settings: object) -> Mapping[str, Format]:
    """{header: its format} that a component's settings say, without those that are text."""
    said: Mapping[str, Format] = getattr(settings, "header_formats", {})
    return {name: form for name, form in said.items() if form != TEXT}


def refuse_unwritten(headers: Collection[str], formats: Collection[str]) -> None:
    """Refuse a format for a header that a sink does not write itself. Raises ValidationError, with its place."""
    message = "expected one of `headers`: a header that the record came with goes on as it is"
    unwritten = [
        InitErrorDetails(
            type=PydanticCustomError("unwritten", "{message}", {"message": message}),
            loc=("header_formats", name, "[key]"),
            input=None,
        )
        for name in formats
        if name not in headers
    ]
    if unwritten:
        raise ValidationError.from_exception_data("header_formats", unwritten, hide_input=True)


def names_beside(component: str, settings: object) -> set[str]:
    """The names of the codecs of a component's keys and headers, those of text aside."""
    names = {header_of(component, name) for name in header_formats(settings)}
    return names if key_format(settings) == TEXT else {key_of(component), *names}


def codecs_beside(component: str, settings: object, about: CodecContext) -> Iterator[tuple[str, Codec]]:
    """(name, codec) of a component's keys and headers, those of text aside. Raises ConfigError."""
    form = key_format(settings)
    if form != TEXT:
        yield key_of(component), form.codec(replace(about, part="key"))
    for name, form in header_formats(settings).items():
        yield header_of(component, name), form.codec(replace(about, part="header", header=name))


def decoder(codec: Codec, what: str) -> Callable[[bytes | None], Any]:
    """The value of a key or a header, None for none. Its ExtractErrors say `what` could not be read."""
    decode = codec.decode

    def decode_it(data: bytes | None) -> Any:
        if data is None:
            return None
        try:
            return decode(data)
        except ExtractError as error:
            raise ExtractError(f"{what}: {error}") from None

    return decode_it


def encoder(codec: Codec, what: str) -> Callable[[Any], bytes | None]:
    """The bytes of a key or a header, None for null. Its LoadErrors say `what` could not be written."""
    encode = codec.encode

    def encode_it(value: Any) -> bytes | None:
        if value is None:
            return None
        try:
            return encode(value)
        except LoadError as error:
            told = str(error)
            said = f" {told.removeprefix(_DOCUMENT)}" if told.startswith(_DOCUMENT) else f": {told}"
            raise LoadError(f"{what}{said}") from None

    return encode_it


def header_reader(decoders: Mapping[str, Callable[[bytes | None], Any]]) -> Callable[[Headers], dict[str, Any]]:
    """Headers as a mapping, some decoded, the others as text. The last of several with one name wins, as in Kafka."""

    def header_values(headers: Headers) -> dict[str, Any]:
        return {
            name: decoders[name](value)
            if name in decoders
            else None
            if value is None
            else value.decode("utf-8", "replace")
            for name, value in dict(headers).items()
        }

    return header_values


def _header(name: str) -> str:
    return f"the record's header `{name}`"


class HeaderReaders:
    """What gives the headers of a record as a mapping, some of them decoded. `decoders` by header."""

    def __init__(self, decoders: Mapping[str, Callable[[bytes | None], Any]]) -> None:
        self.decoders = decoders
        self._readers: dict[frozenset[str], Callable[[Headers], dict[str, Any]]] = {}

    def of(self, names: Collection[str] | None) -> Callable[[Headers], dict[str, Any]] | None:
        """What decodes headers of these names only (None: all); None where none of them is to be."""
        wanted = frozenset(name for name in self.decoders if names is None or name in names)
        if not wanted:
            return None
        if wanted not in self._readers:
            self._readers[wanted] = header_reader({name: self.decoders[name] for name in wanted})
        return self._readers[wanted]


class Beside:
    """How keys and headers of one source or sink are read and written. `key` is None for text."""

    def __init__(self, component: str, settings: object, codecs: Mapping[str, Codec]) -> None:
        """`codecs`: those of `codecs_beside`, among others."""
        self.component, self.settings = component, settings
        self.key = codecs.get(key_of(component))
        headers = {name: codecs[header_of(component, name)] for name in header_formats(settings)}
        self.header_decoders = {name: decoder(one, _header(name)) for name, one in headers.items()}
        self._encoders = {name: encoder(one, _header(name)) for name, one in headers.items()}
        self.decode_key = None if self.key is None else decoder(self.key, "the record's key")
        self.encode_key = None if self.key is None else encoder(self.key, "the record's key")

    def encode_header(self, name: str) -> Callable[[Any], bytes | None] | None:
        """What writes a header; None for text."""
        return self._encoders.get(name)

    def key_passes(self, read: Codec | None) -> bool:
        """Whether a key's bytes may be written as they are. `read`: the codec of where it came from, None for text."""
        if key_format(self.settings) == "bytes":
            return True
        if self.key is None or read is None:
            return self.key is read
        return self.key.passes(read)

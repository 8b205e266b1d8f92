"""The setting `format:`: a format's name, or a mapping of the name to its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeAlias, get_args

from pydantic import GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from streamd.codecs.codec import Codec, CodecContext, FormatSpec
from streamd.codecs.frames import Framing
from streamd.codecs.registry import BESIDE, OF_TOPICS, codec, missing_package, spec_of
from streamd.component.model import Model


class Format(str):
    """A format as it was chosen: its name, with its settings, None where the name alone says all.

    Equal to another one when both are the same, and to a plain text that is its name when there are no settings: what
    is done for `json` alone must not be done for JSON that is something else.
    """

    __slots__ = ("settings",)
    settings: Model | None

    def __new__(cls, name: str, settings: Model | None = None) -> Self:
        made = super().__new__(cls, name)
        made.settings = settings
        return made

    def __getnewargs__(self) -> tuple[str, Model | None]:  # type: ignore[override]
        return str(self), self.settings

    def __eq__(self, other: object) -> bool:
        same = str.__eq__(self, other) is True
        return same and self.settings == getattr(other, "settings", None)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def codec(self, context: CodecContext | None = None) -> Codec:
        """A codec for it. Raises ConfigError."""
        return codec(str(self), self.settings, context)


JSON, TEXT = Format("json"), Format("text")


def format_of(settings: object) -> Format:
    """The format that a component's settings say; JSON where they say none."""
    form: str = getattr(settings, "format", JSON)
    return form if isinstance(form, Format) else Format(form)


def in_lines(form: Format) -> bool:
    """Whether a file of the format is one of lines."""
    return spec_of(str(form)).lines


def framing_of(form: Format) -> Framing | None:
    """How records of the format lie in a file; None for lines, and for Avro's blocks."""
    spec = spec_of(str(form)).in_files
    return None if spec is None else spec.framing


@dataclass(frozen=True, slots=True)
class Formats:
    """Marks a field as a format, one of these. `also`: other words for one of them; `settings`: they may have some.

    `files`: of files, where those that are no lines have settings all the same.
    """

    names: tuple[str, ...]
    also: tuple[tuple[str, str], ...] = ()
    settings: bool = True
    files: bool = False

    def named(self, written: str) -> str:
        """The format's own name for a word."""
        return dict(self.also).get(written, written)

    def spec(self, word: str) -> FormatSpec:
        """What is known of the format of a word, here."""
        spec = spec_of(self.named(word))
        return (self.files and spec.in_files) or spec

    def takes_settings(self, spec: FormatSpec) -> bool:
        """Whether there may be settings behind a format's name."""
        return self.settings or (self.files and spec.in_files is None and not spec.lines)

    @property
    def words(self) -> tuple[str, ...]:
        """All that may be written."""
        return (*self.names, *(word for word, _ in self.also))

    def parse(self, value: object) -> Format:
        """The format of a name, or of a mapping of a name to settings. Raises ValueError."""
        if isinstance(value, Format) and str(value) in self.names:
            return value
        if isinstance(value, Mapping) and len(value) == 1:
            name, given = next(iter(value.items()))
        else:
            name, given = value, None
        if not isinstance(name, str):
            raise ValueError(f"expected {self.expected}")
        if name not in self.words:
            shown = ", ".join(map(repr, self.words[:-1])) + f" or {self.words[-1]!r}"
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": shown})
        return self.made(self.named(name), given)

    def made(self, name: str, given: object) -> Format:
        """The format with the settings that are given."""
        spec = self.spec(name)
        if missing := missing_package(spec):
            raise ValueError(missing)
        settings = spec.settings.model_validate({} if given is None else given)
        if settings.model_fields_set and not self.takes_settings(spec):
            raise ValueError(f"{name}: expected the name alone; settings of a format are for messages of topics")
        return Format(name, settings if settings.model_fields_set or not spec.bare else None)

    @property
    def expected(self) -> str:
        """What would be right."""
        return f"a format: one of {', '.join(self.words)}, or one of them with its settings: {{NAME: {{…}}}}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(written)
        )

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Names alone; config/json_schema.py puts the settings beside them, where they have definitions."""
        return {"enum": list(self.words)}


def written(form: Format | str) -> Any:
    """The format as a user writes it."""
    settings = getattr(form, "settings", None)
    return str(form) if settings is None else {str(form): settings.model_dump(mode="json", exclude_unset=True)}


def formats(field: Any) -> Formats | None:
    """The mark of a model's field; None when it is no format."""
    return next((mark for mark in field.metadata if isinstance(mark, Formats)), None)


def formats_by_name(field: Any) -> Formats | None:
    """The mark of the values of a model's field that maps names to formats; None when it does not."""
    inner = get_args(field.annotation)[1:]
    return next((mark for one in inner for mark in get_args(one)[1:] if isinstance(mark, Formats)), None)


# What a message of a topic is.
TopicFormat: TypeAlias = Annotated[Format, Formats(OF_TOPICS)]

# What a key or a header is.
BesideFormat: TypeAlias = Annotated[Format, Formats(BESIDE)]

# What a line is.
LineFormat: TypeAlias = Annotated[Format, Formats(("json", "csv", "text"), (("ndjson", "json"),), settings=False)]

# What files are made of: lines, or records that are none.
FileFormat: TypeAlias = Annotated[
    Format,
    Formats(("json", "csv", "text", "avro", "msgpack", "protobuf"), (("ndjson", "json"),), settings=False, files=True),
]

# What a record looks like on a terminal.
ShownFormat: TypeAlias = Annotated[Format, Formats(("json", "pretty", "text"), settings=False)]

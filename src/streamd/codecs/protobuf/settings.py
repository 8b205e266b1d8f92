"""The settings of the format protobuf."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from streamd.codecs.registered import RegistrySettings
from streamd.component.fields import LocalPath
from streamd.component.model import Model


class MessageSettings(Model):
    """What settings say of the messages and of their documents."""

    descriptor: LocalPath | None = Field(
        None,
        min_length=1,
        description="The file with the descriptor set, with all imports. A relative path begins at the folder of the "
        "pipeline's file.",
        examples=["order.desc"],
    )
    proto: LocalPath | None = Field(
        None, min_length=1, description="The .proto file, in place of a descriptor set.", examples=["order.proto"]
    )
    proto_paths: list[LocalPath] = Field(
        default_factory=list,
        description="Folders where `proto` and what it imports are looked for; without them the folder of `proto`.",
        examples=[["protos"]],
    )
    message: str | None = Field(
        None,
        min_length=1,
        description="The message's full name, with its package.",
        examples=["shop.Order"],
    )
    field_names: Literal["proto", "json"] = Field(
        "proto",
        description="How fields are named in documents: as in the .proto file, or as in Protobuf's JSON "
        "(lowerCamelCase, or their `json_name`). Sinks take both.",
        examples=["json"],
    )
    defaults: bool = Field(
        True,
        description="Sources: fields without presence that hold their default are in the document; false: they are "
        "left out.",
        examples=[False],
    )
    timestamps: Literal["iso", "ms"] = Field(
        "iso",
        description="What a Timestamp is in a document: ISO 8601 text in UTC, or ms since the epoch. Sinks take both.",
        examples=["ms"],
    )
    on_schema_change: Literal["fail", "ignore"] = Field(
        "fail",
        description="Sinks: what becomes of a document with fields that the message lacks: an error of that record, or "
        "such fields are left out and counted.",
        examples=["ignore"],
    )

    @property
    def own(self) -> bool:
        """Whether the settings say where the message's definition is."""
        return self.descriptor is not None or self.proto is not None

    @model_validator(mode="after")
    def _one_type(self) -> Self:
        if self.descriptor is not None and self.proto is not None:
            raise ValueError("descriptor, proto: expected one of the two")
        if self.own and self.message is None:
            raise ValueError("message: expected the full name of the message in `descriptor` or `proto`")
        if self.proto_paths and self.proto is None:
            raise ValueError("proto_paths: only with `proto`; a descriptor set has all that it imports")
        return self


class ProtobufFileSettings(MessageSettings):
    """Settings of the format protobuf of files."""

    @model_validator(mode="after")
    def _has_type(self) -> Self:
        if not self.own:
            raise ValueError("expected one of `descriptor` (a descriptor set) and `proto` (a .proto file)")
        return self


class ProtobufSettings(MessageSettings, RegistrySettings):
    """Settings of the format protobuf."""

    message: str | None = Field(
        None,
        min_length=1,
        description="The message's full name, with its package. With `registry: true` each record says which message "
        "it is; a source takes all where none is named here.",
        examples=["shop.Order"],
    )

    @model_validator(mode="after")
    def _has_type(self) -> Self:
        if not self.registry and not self.own:
            raise ValueError(
                "expected one of `descriptor` (a descriptor set) and `proto` (a .proto file), or `registry: true`"
            )
        self.check_registry(has_schema=self.own)
        return self

"""The Protobuf message Number, of one field `n`, made without a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="number.proto", syntax="proto3")
    field = file.message_type.add(name="Number").field.add(name="n", number=1)
    field.type, field.label = field.TYPE_INT64, field.LABEL_OPTIONAL
    return file


def number_descriptor(folder: Path) -> Path:
    """A descriptor set with it, written into the folder."""
    path = folder / "number.desc"
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=[_file()]).SerializeToString())
    return path


def number_class() -> Any:
    """Its class."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Number"))

"""Message types: out of a descriptor set, or of a .proto file that a compiler makes one of."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamd.codecs.protobuf.settings import MessageSettings
from streamd.errors import ConfigError

_COMPILE_SECONDS = 60


def message_class(settings: MessageSettings, base_dir: Path) -> Any:
    """The class of the message that the settings name. Raises ConfigError."""
    assert settings.message is not None
    if settings.descriptor is not None:
        path = base_dir / Path(settings.descriptor).expanduser()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the descriptor set {path}: {error.strerror}") from None
    else:
        path, folders = proto_file(settings, base_dir)
        data = compiled(path, folders)
    return found(data, settings.message, path)


def proto_file(settings: MessageSettings, base_dir: Path) -> tuple[Path, list[Path]]:
    """The .proto file, and the folders where it and its imports are looked for."""
    path = base_dir / Path(settings.proto or "").expanduser()
    return path, [base_dir / Path(folder).expanduser() for folder in settings.proto_paths] or [path.parent]


def compiler() -> list[str] | None:
    """The command that compiles .proto files on this machine; None where there is none."""
    if (protoc := shutil.which("protoc")) is not None:
        return [protoc]
    if importlib.util.find_spec("grpc_tools") is None:
        return None
    # It knows where its own google/protobuf/*.proto are, as a `protoc` does.
    own = Path(str(importlib.import_module("grpc_tools").__file__)).parent / "_proto"
    return [sys.executable, "-m", "grpc_tools.protoc", f"-I{own}"]


def compiled(path: Path, folders: list[Path]) -> bytes:
    """The descriptor set of a .proto file. Raises ConfigError with what the compiler says."""
    if not path.is_file():
        raise ConfigError(f"cannot read the .proto file {path}: there is none")
    command = compiler()
    if command is None:
        raise ConfigError(
            f"{path.name} has to be compiled, and there is no `protoc`: install it, or streamd[protoc], or name a "
            "descriptor set as `descriptor`"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.desc"
        command += [*(f"-I{where}" for where in folders), "--include_imports", f"--descriptor_set_out={out}", str(path)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"{path} cannot be compiled: {error}") from None
        if ended.returncode:
            raise ConfigError(f"{path} cannot be compiled: {ended.stderr.strip()}")
        return out.read_bytes()


def found(data: bytes, message: str, path: Path) -> Any:
    """The class of a message of a descriptor set. Raises ConfigError."""
    from google.protobuf import message_factory

    files = files_of(data, path)
    pool = pool_of(files, str(path))
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    except KeyError:
        there = sorted(".".join(filter(None, (f.package, m.name))) for f in files.values() for m in f.message_type)
        own = [name for name in there if not name.startswith("google.protobuf.")]
        raise ConfigError(f"{path} has no message {message!r}; there are {', '.join(own) or 'none'}") from None


def files_of(data: bytes, path: Path) -> dict[str, Any]:
    """{name: the .proto file} of a descriptor set. Raises ConfigError."""
    from google.protobuf import descriptor_pb2
    from google.protobuf.message import DecodeError

    try:
        return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(data).file}
    except DecodeError:
        raise ConfigError(f"{path} is no descriptor set, as `protoc --descriptor_set_out` writes it") from None


def pool_of(files: Mapping[str, Any], where: str) -> Any:
    """The types of all files; `where` they are from is for messages. Raises ConfigError."""
    from google.protobuf import descriptor_pool

    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        file = files.get(name) or _well_known(name)
        if file is None:
            raise ConfigError(f"{where} lacks {name}, which it imports: `protoc --include_imports` puts it in")
        for dependency in file.dependency:
            add(dependency)
        pool.AddSerializedFile(file.SerializeToString())

    try:
        for name in files:
            add(name)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be used: {error}") from None
    return pool


def _well_known(name: str) -> Any:
    """A file of Google's own, which compilers leave out."""
    from google.protobuf import descriptor_pb2

    if not name.startswith("google/protobuf/"):
        return None
    try:
        module = importlib.import_module(f"{name.removesuffix('.proto').replace('/', '.')}_pb2")
    except ImportError:
        return None
    return descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)

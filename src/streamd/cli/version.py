"""`streamd version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer


def command() -> None:
    """Print the version of streamd and of what it runs on."""
    typer.echo(f"streamd {installed('streamd')}")
    typer.echo(f"Python {platform.python_version()}, aiokafka {installed('aiokafka')}, {platform.system()}")


def installed(package: str) -> str:
    """The version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

"""What several commands take from the command line: paths, the service's settings, variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from pydantic import ValidationError

from streamd.config.load import SERVICE_FILE, load_service
from streamd.config.service import ServiceConfig
from streamd.errors import ConfigError

Paths: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH…",
        help="Pipeline files, or folders of them; folders within these are not looked into.",
        show_default=False,
    ),
]
ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="STREAMD_CONFIG",
        help=f"Settings of the service. Without it: {SERVICE_FILE} in this folder, if there is one.",
        show_default=False,
    ),
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="Set a variable for ${NAME} in the files, before the environment's. May be repeated.",
        show_default=False,
    ),
]


def variables(assignments: list[str] | None) -> dict[str, str]:
    """The environment, and over it what `--set` says. Raises a usage error for anything but NAME=VALUE."""
    merged = dict(os.environ)
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter("expected NAME=VALUE, like TOPIC=orders", param_hint="--set")
        merged[name] = value
    return merged


def service_settings(config: Path | None, env: dict[str, str]) -> ServiceConfig:
    """The service's settings from `--config`, or from the file of the usual name, or the defaults."""
    return load_service(service_file(config), env)


def with_app(service: ServiceConfig, app: str) -> ServiceConfig:
    """The settings with the app that `--app` names. Raises a usage error for a name that no app can have."""
    try:
        return ServiceConfig.model_validate({**dict(service), "app": app})
    except ValidationError:
        message = "expected a letter or digit, then letters, digits, _ and -, 100 at most, like shop"
        raise typer.BadParameter(message, param_hint="--app") from None


def service_file(config: Path | None) -> Path | None:
    """The file of the service's settings: what `--config` says, or the one of the usual name, or None."""
    if config is None and Path(SERVICE_FILE).is_file():
        config = Path(SERVICE_FILE)
    if config is not None and config.is_dir():
        raise ConfigError(f"--config must name a file, got the folder {config}")
    return config

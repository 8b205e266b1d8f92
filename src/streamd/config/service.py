"""What `streamd.yaml` may say: settings of the service, the same for all its pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from streamd.component.fields import ByteSize, Duration, Secret
from streamd.component.model import Model


class TlsConfig(Model):
    """The certificate that the HTTP server shows."""

    cert: Path = Field(description="PEM file with the certificate chain.", examples=["/etc/streamd/tls.crt"])
    key: Path = Field(description="PEM file with its private key.", examples=["/etc/streamd/tls.key"])
    ca: Path | None = Field(
        None,
        description="PEM file with the authorities that have signed the certificates of the other nodes, which are "
        "asked about views; those of the system without it.",
        examples=["/etc/streamd/ca.crt"],
    )


class HttpConfig(Model):
    """The HTTP server of metrics, health and API."""

    enabled: bool = Field(True, description="Whether there is an HTTP server at all.", examples=[True])
    host: str = Field("127.0.0.1", description="Address to listen on.", examples=["0.0.0.0"])
    advertise: str | None = Field(
        None,
        description="Where the other nodes of the app reach this one: `host`, `host:port` or a URL. They pass "
        "questions about views on to it. Without it `host` and `port`, or the machine's own address where it listens "
        "on all; nodes that listen on a loopback address are found by those of the same machine.",
        examples=["node-1.example.org:8470"],
    )
    port: int = Field(8470, ge=0, le=65535, description="Port to listen on; 0 takes a free one.", examples=[8470])
    token: Secret | None = Field(
        None,
        description="Bearer token that every request but the health checks must show.",
        examples=["${file:/run/secrets/streamd_token}"],
    )
    allow_anonymous: bool = Field(
        False,
        description="Listen on an address that other machines can reach without a token. Refused otherwise.",
        examples=[True],
    )
    protect_health: bool = Field(
        False, description="Whether the health checks must show the token as well.", examples=[True]
    )
    tls: TlsConfig | None = Field(None, description="Speak HTTPS.", examples=[{"cert": "tls.crt", "key": "tls.key"}])

    @field_validator("advertise")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            named = parts.hostname and (parts.port is None or parts.port >= 0)
        except ValueError:
            named = False
        else:
            more = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
            named = (
                named and not more and parts.scheme in ("http", "https") and value.isprintable() and " " not in value
            )
        if not named:
            raise ValueError(f"expected host, host:port or an http(s) URL without a path, got {value!r}")
        return value


class LogConfig(Model):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe lines that are written.", examples=["info"]
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere.", examples=["json"]
    )


class RestartConfig(Model):
    """How workers and pipelines are started again after a failure that may pass."""

    initial: Duration = Field(0.2, gt=0, description="Wait before the first restart.", examples=["200ms"])
    max: Duration = Field(30.0, gt=0, description="The wait is doubled each time, up to this.", examples=["30s"])
    reset_after: Duration = Field(
        60.0, gt=0, description="After running for this long the wait starts small again.", examples=["1m"]
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.initial:
            raise ValueError(f"`max` ({self.max:g} s) must not be below `initial` ({self.initial:g} s)")
        return self


class StateConfig(Model):
    """What stages remember, and where."""

    memory: Annotated[ByteSize, Field(ge=1_000_000)] | None = Field(
        None,
        description="Bytes of state that a worker keeps in memory, shared out evenly to its tasks; what was not used "
        "for long is put on disk, below `state_dir`, and comes back when it is needed. Without it all state is kept in "
        "memory.",
        examples=["512MB"],
    )
    snapshots: bool = Field(
        False,
        description="Keep a copy of state below `state_dir` as well, so that a restart on the same node reads only "
        "what a changelog in Kafka got since. Each task needs some 25 MB of memory for it.",
        examples=[True],
    )
    standbys: int = Field(
        0,
        ge=0,
        le=5,
        description="How many other nodes keep a copy of each task's state that follows its changelogs in Kafka, so "
        "that one of them takes the task over without reading all of it. More than 0 implies `snapshots`.",
        examples=[1],
    )


class ServiceConfig(Model):
    """Settings of one node. `kafka` is the checked `kafka:` section, for pipelines without one of their own."""

    app: str = Field(
        "streamd",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$",
        description="Name of the application. It is part of consumer groups and transactional ids, so all nodes that "
        "share the work have the same, and two services on one Kafka cluster have different ones.",
        examples=["shop"],
    )
    state_dir: Path = Field(
        Path(".streamd"), description="Folder of the embedded log and of local state.", examples=["/var/lib/streamd"]
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=512)] = Field(
        "auto", description="Worker processes; `auto` is one for each usable core.", examples=["auto"]
    )
    http: HttpConfig = Field(
        HttpConfig.model_validate({}), description="The HTTP server.", examples=[{"host": "0.0.0.0", "port": 8470}]
    )
    log: LogConfig = Field(LogConfig.model_validate({}), description="Logging.", examples=[{"level": "debug"}])
    state: StateConfig = Field(
        StateConfig.model_validate({}),
        description="State of stages, for all pipelines that do not say it themselves.",
        examples=[{"memory": "512MB"}],
    )
    kafka: Any = Field(
        None,
        description="How to reach Kafka, for all pipelines that do not say it themselves.",
        examples=[{"bootstrap": "kafka:9092"}],
    )
    schema_registry: Any = Field(
        None,
        description="How to reach the schema registry, for all pipelines that do not say it themselves.",
        examples=[{"url": "http://registry:8081"}],
    )
    drain_timeout: Duration = Field(
        30.0, gt=0, description="Time for everything in flight to be finished when the service stops.", examples=["30s"]
    )
    stall_timeout: Duration = Field(
        30.0,
        gt=0,
        description="A worker without progress for this long, with input waiting, is replaced.",
        examples=["30s"],
    )
    restart: RestartConfig = Field(
        RestartConfig.model_validate({}), description="Waits between restarts.", examples=[{"max": "10s"}]
    )
    create_topics: bool = Field(
        True, description="Create topics that pipelines name and that do not exist.", examples=[False]
    )
    exit_on_failure: bool = Field(
        False, description="End the whole service when one pipeline fails for good.", examples=[True]
    )
